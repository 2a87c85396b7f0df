package sandbox

import (
	"crypto/rand"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// downloads are files behind addresses that need no token and end by themselves.
type downloads struct {
	mu    sync.Mutex // guards below
	files map[string]*download
}

type download struct {
	content     []byte
	contentType string
	expires     time.Time
}

const downloadPrefix = "_download"

// offer makes an address, below the client's origin, for content.
func (d *downloads) offer(origin string, content []byte, contentType string, life time.Duration) (address string, expires time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if d.files == nil {
		d.files = map[string]*download{}
	}
	maps.DeleteFunc(d.files, func(_ string, f *download) bool { return now.Sub(f.expires) > tokenMemory })
	key := strings.ToLower(rand.Text())
	expires = now.Add(life)
	d.files[key] = &download{content: content, contentType: contentType, expires: expires}
	return origin + "/" + downloadPrefix + "/" + key, expires
}

// age makes the addresses older.
func (d *downloads) age(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		f.expires = f.expires.Add(-by)
	}
}

// serveDownload answers GET of such an address, as the store behind HubSpot's does.
func (s *Server) serveDownload(c *call) *reply {
	if r := c.only(http.MethodGet, http.MethodHead); r != nil {
		return r
	}
	s.downloads.mu.Lock()
	defer s.downloads.mu.Unlock()
	f := s.downloads.files[c.rest[0]]
	if f == nil || time.Now().After(f.expires) {
		return &reply{status: http.StatusForbidden, contentType: "application/xml", body: []byte(
			`<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>`)}
	}
	return &reply{status: http.StatusOK, contentType: f.contentType, body: f.content}
}
