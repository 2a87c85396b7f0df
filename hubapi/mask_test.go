package hubapi_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"hubpg/hubapi"
)

// Whoever copies a token from a page that hides it has asterisks. HubSpot repeats a token that it refuses, and the token is
// hidden where it does.
func TestATokenOfAsterisksIsRefusedLikeAnyOther(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"message":"This oauth-token (********) does not have proper permissions!"}`)
	}))
	t.Cleanup(srv.Close)
	c, err := hubapi.New(srv.URL, hubapi.StaticToken("********"), hasty)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := c.GetAccount(t.Context())
		answered <- err
	}()
	select {
	case err := <-answered:
		if _, ok := errors.AsType[*hubapi.ScopeError](err); !ok {
			t.Errorf("%T %v", err, err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the refusal is not reported")
	}
}
