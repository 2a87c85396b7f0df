package hubapi

import (
	"context"
	"fmt"
	"net/url"
)

// listBody is the envelope of every listing but that of records.
type listBody[T any] struct {
	Results []T `json:"results"`
	Paging  struct {
		Next struct {
			After string `json:"after"`
		} `json:"next"`
	} `json:"paging"`
}

// maxListPages ends a listing whose cursor never does.
const maxListPages = 10_000

// list walks all pages of a listing that is small enough to hold.
func list[T any](ctx context.Context, c *Client, r *request) ([]T, error) {
	var all []T
	query, after := r.query, ""
	for range maxListPages {
		var page listBody[T]
		r.decode = func(body []byte) error {
			page = listBody[T]{}
			return decodeJSON(body, &page)
		}
		r.attempt = 0
		if err := c.call(ctx, r); err != nil {
			return nil, err
		}
		all = append(all, page.Results...)
		if err := goesOn(after, page.Paging.Next.After); err != nil {
			return nil, fmt.Errorf("list %s: %w", r.template, err)
		}
		if after = page.Paging.Next.After; after == "" {
			return all, nil
		}
		r.query = "after=" + url.QueryEscape(after)
		if query != "" {
			r.query = query + "&" + r.query
		}
	}
	return nil, fmt.Errorf("list %s: no end after %d pages", r.template, maxListPages)
}

// goesOn returns an error when the cursor that a page ends with is the one that led to it.
func goesOn(from, after string) error {
	if after != "" && after == from {
		return unexpected("the cursor %s repeats", clip(after, 100))
	}
	return nil
}

// get reads one document.
func get[T any](ctx context.Context, c *Client, r *request) (T, error) {
	var v T
	r.decode = func(body []byte) error {
		var zero T
		v = zero
		return decodeJSON(body, &v)
	}
	err := c.call(ctx, r)
	return v, err
}
