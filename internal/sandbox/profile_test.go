package sandbox_test

import (
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

func profile(t *testing.T, name string) sandbox.Profile {
	t.Helper()
	p, ok := sandbox.ProfileNamed(name)
	if !ok {
		t.Fatalf("no profile %s", name)
	}
	return p
}

// try sends a request and tells how it ended: the status, 0 for a broken connection; and whether the body is whole.
func (h *hub) try(method, path, body string) (status int, raw string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer sandbox")
	w := httptest.NewRecorder()
	defer func() {
		switch err, _ := recover().(error); {
		case err == nil:
		case errors.Is(err, http.ErrAbortHandler):
			status, raw = 0, ""
		default:
			panic(err)
		}
	}()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestACalmAccountNeverFails(t *testing.T) {
	t.Parallel()
	h := &hub{sandbox.New(profile(t, "calm").Apply(sandbox.Config{Empty: true, Quiet: true})), t}
	for range 2000 {
		if status, raw := h.try("GET", "/crm/v3/owners", ""); status != 200 {
			t.Fatalf("status %d: %s", status, raw)
		}
	}
}

func TestProfilesFailAsOftenAsTheySay(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"real": 12_000, "hostile": 4_000} {
		p := profile(t, name)
		cfg := p.Apply(sandbox.Config{Empty: true, Quiet: true})
		cfg.Latency = 0
		for i := range cfg.Faults {
			if cfg.Faults[i].Delay > 0 {
				cfg.Faults[i].Delay = time.Nanosecond
			}
		}
		h := &hub{sandbox.New(cfg), t}
		for path, body := range map[string]string{"/crm/v3/owners": "", contactSearch: `{"limit":1}`} {
			search := body != ""
			method := map[bool]string{true: "POST", false: "GET"}[search]
			// What the profile promises for this path, by status; 0 for broken connections.
			want := map[int]float64{}
			passed := 1.0
			for _, f := range p.Faults {
				status, strikes := 200, true
				switch f.Kind {
				case sandbox.FaultRateSearch:
					status, strikes = 429, search
				case sandbox.FaultRateBurst:
					status, strikes = 429, !search
				case sandbox.FaultInternal:
					status, strikes = 500, !strings.Contains(f.Path, "oauth")
				case sandbox.FaultBadGateway:
					status = 502
				case sandbox.FaultGatewayTimeout:
					status = 504
				case sandbox.FaultStatus:
					status = f.Status
				case sandbox.FaultMigrating:
					status = 477
				case sandbox.FaultDrop, sandbox.FaultDropAfter, sandbox.FaultCut:
					status = 0
				case sandbox.FaultLocked, sandbox.FaultExpiredToken:
					strikes = false
				case sandbox.FaultEmptyPage:
					strikes = search
				}
				if strikes {
					want[status] += passed * f.Probability
					passed *= 1 - f.Probability
				}
			}
			want[200] += passed
			got := map[int]int{}
			for range n {
				status, _ := h.try(method, path, body)
				got[status]++
			}
			for status, share := range want {
				// Five standard deviations; the seed makes it the same each time.
				tolerance := 5*math.Sqrt(share*(1-share)*float64(n)) + 1
				if math.Abs(float64(got[status])-share*float64(n)) > tolerance {
					t.Errorf("%s, %s: %d calls ended with %d, want %.0f ± %.0f", name, path, got[status], status, share*float64(n), tolerance)
				}
			}
			failed := 1 - float64(got[200])/float64(n)
			if name == "hostile" && failed < 0.05 || name == "real" && (failed > 0.01 || failed == 0) {
				t.Errorf("%s, %s: %.3f of the calls failed", name, path, failed)
			}
		}
	}
}

func TestAConfigKeepsWhatItSaysUnderAProfile(t *testing.T) {
	t.Parallel()
	cfg := profile(t, "real").Apply(sandbox.Config{Latency: time.Second, IndexLag: time.Minute})
	if cfg.Latency != time.Second || cfg.IndexLag != time.Minute || !cfg.Disorder || len(cfg.Faults) == 0 {
		t.Errorf("got %+v", cfg)
	}
	if _, ok := sandbox.ProfileNamed("other"); ok {
		t.Error("found a profile that is none")
	}
}

func TestStrayRowsLieOutsideTheWindow(t *testing.T) {
	t.Parallel()
	h := start(t, sandbox.Config{Contacts: 50, IndexLag: time.Hour, Stray: 1})
	before, ok := h.Lookup("contacts", h.Snapshot("contacts")[0].ID)
	if !ok {
		t.Fatal("no contact")
	}
	if err := h.Update("contacts", before.ID, map[string]string{"phone": "+1"}); err != nil {
		t.Fatal(err)
	}
	at := before.UpdatedAt.UnixMilli()
	got := h.post(contactSearch, obj{
		"filterGroups": []obj{{"filters": []obj{
			{"propertyName": "lastmodifieddate", "operator": "BETWEEN", "value": at, "highValue": at},
		}}},
		"properties": []string{"phone"},
	}).must(t, 200)
	row := got.at("results", 0, "properties").(obj)
	if row["phone"] != "+1" || row["lastmodifieddate"] == before.UpdatedAt.Format("2006-01-02T15:04:05.999Z07:00") {
		t.Errorf("row %v; modified before: %v", row, before.UpdatedAt)
	}
}
