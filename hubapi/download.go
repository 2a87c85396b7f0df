package hubapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// download reads a file behind a link that HubSpot gave. The link is its own permission: no token is sent, and no
// quota is used. Links are followed over https only, or to where the client's own base URL points.
func (c *Client) download(ctx context.Context, link, template string, take func(body []byte) error) error {
	u, err := url.Parse(link)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "https" && (u.Scheme != c.base.Scheme || u.Host != c.base.Host)) {
		return fmt.Errorf("download %s: the link is not an https address", template)
	}
	r := read(FamilyExempt, http.MethodGet, template)
	r.class, r.raw, r.decode = c.class, true, take
	req, err := http.NewRequestWithContext(context.WithValue(ctx, requestKey{}, r), r.method, link, nil)
	if err != nil {
		return fmt.Errorf("download %s: the link cannot be used", template)
	}
	resp, err := c.plain.RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Download returns the file behind a link from HubSpot, such as ExportTask.URL. A link that has expired is a
// *NotFoundError or a *ScopeError: ask for a new one.
func (c *Client) Download(ctx context.Context, link string) ([]byte, error) {
	var file []byte
	err := c.download(ctx, link, "{download}", func(body []byte) error {
		file = bytes.Clone(body)
		return nil
	})
	return file, err
}
