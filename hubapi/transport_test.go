package hubapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hubpg/hubapi"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"))
}

// hasty makes pauses short enough for real servers.
var hasty = hubapi.WithRetry(hubapi.RetryPolicy{
	Initial: time.Millisecond, Max: 5 * time.Millisecond, Secondly: time.Millisecond, TenSecondly: 10 * time.Millisecond,
})

// serve starts a server under a path of its own, so that a URL built past the base is noticed.
func serve(t *testing.T, h http.HandlerFunc, opts ...hubapi.Option) *hubapi.Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/base/", http.StripPrefix("/base", h))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	c, err := hubapi.New(srv.URL+"/base/", hubapi.StaticToken(testToken), append([]hubapi.Option{hasty}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const wholePage = `{"results":[{"id":"1","properties":{}},{"id":"2","properties":{}}],"paging":{"next":{"after":"3"}}}`

func TestBrokenAnswersAreReadAgain(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]http.HandlerFunc{
		"shorter than declared": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(wholePage)))
			_, _ = io.WriteString(w, wholePage[:30])
			panic(http.ErrAbortHandler)
		},
		"chunks cut": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, wholePage[:30])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"whole but half": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, wholePage[:30])
		},
		"gzip cut": func(w http.ResponseWriter, _ *http.Request) {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, _ = io.WriteString(z, wholePage)
			_ = z.Close()
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(b.Bytes()[:b.Len()-4])
		},
		"no answer":                 func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"stalled before the header": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"stalled in the body": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, wholePage[:30])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"a gateway's page": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html><h1>502 Bad Gateway</h1></html>")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) <= 2 {
					broken(w, r)
					return
				}
				_, _ = io.WriteString(w, wholePage)
			}, hubapi.WithInactivity(300*time.Millisecond))
			page, err := c.ListObjects(t.Context(), "contacts", hubapi.ListOptions{})
			if err != nil || len(page.Records) != 2 || page.After != "3" {
				t.Fatalf("got %+v, %v", page, err)
			}
			if n.Load() != 3 {
				t.Errorf("%d attempts, want 3", n.Load())
			}
		})
	}
}

func TestSlowAnswerThatProgressesIsNotCut(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		for part := range strings.SplitSeq(wholePage, ",") { // longer in all than the watchdog waits
			time.Sleep(150 * time.Millisecond)
			if !strings.HasPrefix(part, `{"results"`) {
				part = "," + part
			}
			_, _ = io.WriteString(w, part)
			w.(http.Flusher).Flush()
		}
	}, hubapi.WithInactivity(400*time.Millisecond))
	page, err := c.ListObjects(t.Context(), "contacts", hubapi.ListOptions{})
	if err != nil || len(page.Records) != 2 || n.Load() != 1 {
		t.Errorf("%d attempts: %+v, %v", n.Load(), page, err)
	}
}

func TestHugeAnswerIsRefused(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		for range 100 {
			_, _ = w.Write(make([]byte, 1000))
		}
	}, hubapi.WithMaxBody(10_000))
	err := listContacts(t.Context(), c)
	if _, ok := errors.AsType[*hubapi.TooLargeError](err); !ok || n.Load() != 1 {
		t.Errorf("%d attempts: %v", n.Load(), err)
	}
}

func TestWriteIsNotRepeatedWhenItMayHaveRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer   func(w http.ResponseWriter, r *http.Request)
		attempts int32
	}{
		"connection lost":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 1},
		"internal error":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 1},
		"gateway timeout":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(504) }, 1},
		"refused by limits": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, 12},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				n.Add(1)
				c.answer(w, r)
			})
			err := client.Post(t.Context(), "/crm/objects/2026-03/contacts")
			if err == nil || n.Load() != c.attempts {
				t.Fatalf("%d attempts, want %d: %v", n.Load(), c.attempts, err)
			}
			down, unavailable := errors.AsType[*hubapi.UnavailableError](err)
			if c.attempts == 1 && (!unavailable || !down.Ambiguous) {
				t.Errorf("nothing says that the write may have run: %#v", err)
			}
		})
	}
}

func TestUnreachableHubSpotNamesTheRemedy(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	c, err := hubapi.New("http://"+address, hubapi.StaticToken(testToken), hasty)
	if err != nil {
		t.Fatal(err)
	}
	err = listContacts(t.Context(), c)
	down, ok := errors.AsType[*hubapi.UnavailableError](err)
	if !ok || down.Attempts != 6 || hubapi.Hint(err) == "" {
		t.Errorf("got %#v", err)
	}
}

func TestAddressesThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"api.hubapi.com", "ftp://api.hubapi.com", "https://", "https://user:secret@api.hubapi.com", "https://a/?b=c", "::"} {
		_, err := hubapi.New(u, hubapi.StaticToken(testToken))
		if err == nil {
			t.Errorf("no error for %q", u)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
	if _, err := hubapi.New("", nil); err == nil {
		t.Error("no error without a token source")
	}
	for _, token := range []string{"", "two words", "line\nbreak"} {
		c, err := hubapi.New("http://127.0.0.1:1", hubapi.StaticToken(token), hasty)
		if err != nil {
			t.Fatal(err)
		}
		err = listContacts(t.Context(), c)
		if _, ok := errors.AsType[*hubapi.AuthError](err); !ok || (token != "" && strings.Contains(err.Error(), token)) {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := listContacts(ctx, c); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}
