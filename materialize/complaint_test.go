package materialize_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// forged is a delivery that cannot be believed.
func forged() *http.Request {
	req := httptest.NewRequest(http.MethodPost, "https://hubpg.example.com/webhooks/hubspot", strings.NewReader(propertyEvent))
	sign3(req, "https://elsewhere.example.com/", propertyEvent, time.Now())
	return req
}

func (w *world) complaints() int64 {
	w.t.Helper()
	return w.count(`select count(*) from hubpg.feeds where feed = 'webhook' and state = 'failing' and hint like '%hubspot.client_secret%'`)
}

// together is a ResponseWriter that answers when several have something to answer.
type together struct {
	*httptest.ResponseRecorder
	met *sync.WaitGroup
}

func (a together) WriteHeader(status int) {
	a.met.Done()
	a.met.Wait()
	a.ResponseRecorder.WriteHeader(status)
}

// HubSpot delivers ten at a time.
func TestDeliveriesRefusedTogetherAreComplainedOf(t *testing.T) {
	t.Parallel()
	w := storedAccount(t)
	r, _ := w.receiver(nil)
	var met, all sync.WaitGroup
	met.Add(2)
	for range 2 {
		all.Go(func() { r.ServeHTTP(together{httptest.NewRecorder(), &met}, forged()) })
	}
	all.Wait()
	if w.complaints() != 1 {
		t.Error("hubpg.feeds does not say that no delivery is believed")
	}
}

// What could not be stored of a complaint is said with the next refusal.
func TestAComplaintIsMadeOnceThereIsAnAccount(t *testing.T) {
	t.Parallel()
	w := storedAccount(t)
	r, _ := w.receiver(nil)
	w.exec(`update hubpg.accounts set schema_name = 'not_yet'`)
	r.ServeHTTP(httptest.NewRecorder(), forged())
	w.exec(`update hubpg.accounts set schema_name = 'hubspot'`)
	r.ServeHTTP(httptest.NewRecorder(), forged())
	if w.complaints() != 1 {
		t.Error("hubpg.feeds does not say that no delivery is believed")
	}
}

// A request that bears no signature at all is none of HubSpot's, and no sign of a wrong setting.
func TestStrangersAreNotComplainedOf(t *testing.T) {
	t.Parallel()
	w := storedAccount(t)
	r, _ := w.receiver(func(c *materialize.ReceiverConfig) { c.Secret = sandbox.DefaultClientSecret })
	r.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "https://hubpg.example.com/webhooks/hubspot", strings.NewReader("{}")))
	if n := w.complaints(); n != 0 {
		t.Error("hubpg.feeds shows a stranger's request as a failure of HubSpot's webhooks")
	}
	r.ServeHTTP(httptest.NewRecorder(), forged())
	if w.complaints() != 1 {
		t.Error("hubpg.feeds does not say that no delivery is believed")
	}
}
