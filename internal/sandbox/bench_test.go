package sandbox_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// sixtyProperties are the contact properties of the benchmarks.
var sixtyProperties = []string{
	"email", "firstname", "lastname", "jobtitle", "company", "website", "phone", "mobilephone", "address", "city",
	"state", "hs_state_code", "zip", "country", "hs_country_region_code", "hs_timezone", "hs_language", "industry",
	"numemployees", "hs_email_domain", "associatedcompanyid", "hs_full_name_or_email", "lifecyclestage",
	"hs_lead_status", "hs_lifecyclestage_lead_date", "hs_is_contact", "hs_is_unworked", "hs_marketable_status",
	"hs_legal_basis", "interests", "newsletter", "credit_limit", "loyalty_points", "erp_number",
	"hs_analytics_source", "hs_analytics_source_data_1", "hs_latest_source", "hs_analytics_first_url",
	"hs_analytics_last_url", "hs_analytics_num_page_views", "hs_analytics_num_visits",
	"hs_analytics_first_timestamp", "hs_analytics_last_timestamp", "hs_analytics_average_page_views",
	"hs_predictivecontactscore_v2", "hubspotscore", "hs_email_delivered", "hs_email_open", "hs_email_click",
	"hs_email_last_send_date", "hs_email_last_open_date", "hs_email_last_email_name", "num_conversion_events",
	"recent_conversion_event_name", "recent_conversion_date", "notes_last_contacted", "notes_last_updated",
	"num_notes", "num_contacted_notes", "hubspot_owner_id",
}

// BenchmarkListPage serves pages of 100 contacts × 60 properties without a network.
// go test -run - -bench ListPage -cpu 1 ./internal/sandbox.
func BenchmarkListPage(b *testing.B) {
	s := sandbox.New(sandbox.Config{Seed: 1, Contacts: 20_000, Quiet: true})
	first := s.Snapshot("contacts")
	target := "/crm/v3/objects/contacts?limit=100&properties=" + strings.Join(sixtyProperties, ",") + "&after="
	size, n := int64(0), 0
	for b.Loop() {
		r := httptest.NewRequest(http.MethodGet, target+strconv.FormatInt(first[n%150*100].ID, 10), nil)
		r.Header.Set("Authorization", "Bearer sandbox")
		w := &discard{}
		s.ServeHTTP(w, r)
		if w.status != http.StatusOK {
			b.Fatalf("status %d", w.status)
		}
		size, n = size+w.size, n+1
	}
	b.SetBytes(size / int64(n))
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "pages/s")
}

// BenchmarkListPageHTTP serves the same pages through a socket to a client in this process.
func BenchmarkListPageHTTP(b *testing.B) {
	s := sandbox.New(sandbox.Config{Seed: 1, Contacts: 20_000, Quiet: true})
	server := httptest.NewServer(s)
	defer server.Close()
	first := s.Snapshot("contacts")
	target := server.URL + "/crm/v3/objects/contacts?limit=100&properties=" + strings.Join(sixtyProperties, ",") + "&after="
	n := 0
	for b.Loop() {
		r, err := http.NewRequest(http.MethodGet, target+strconv.FormatInt(first[n%150*100].ID, 10), nil)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer sandbox")
		res, err := server.Client().Do(r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
			b.Fatalf("status %d: %v", res.StatusCode, err)
		}
		res.Body.Close()
		n++
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "pages/s")
}

// BenchmarkSearchWindow asks for the last page of windows of modified time among 100,000 contacts.
func BenchmarkSearchWindow(b *testing.B) {
	s := sandbox.New(sandbox.Config{Seed: 1, Contacts: 100_000, Quiet: true})
	all := s.Snapshot("contacts")
	from := all[50_000].UpdatedAt.UnixMilli()
	body := `{"filterGroups":[{"filters":[{"propertyName":"lastmodifieddate","operator":"GTE","value":"` + strconv.FormatInt(from, 10) +
		`"}]}],"sorts":[{"propertyName":"lastmodifieddate","direction":"ASCENDING"}],"limit":200,"after":"9800","properties":["email"]}`
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/crm/v3/objects/contacts/search", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer sandbox")
		w := &discard{}
		s.ServeHTTP(w, r)
		if w.status != http.StatusOK {
			b.Fatalf("status %d", w.status)
		}
	}
}

// discard is a ResponseWriter that counts.
type discard struct {
	header http.Header
	status int
	size   int64
}

func (d *discard) Header() http.Header {
	if d.header == nil {
		d.header = http.Header{}
	}
	return d.header
}
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { d.size += int64(len(p)); return len(p), nil }

// BenchmarkSeedMillion seeds a million contacts, reads a fifth of them and reports what they take. It runs only when
// HUBPG_SANDBOX_MILLION is set: it needs some gigabytes.
func BenchmarkSeedMillion(b *testing.B) {
	if os.Getenv("HUBPG_SANDBOX_MILLION") == "" {
		b.Skip("set HUBPG_SANDBOX_MILLION=1 to run")
	}
	for b.Loop() {
		began := time.Now()
		s := sandbox.New(sandbox.Config{Seed: 1, Contacts: 1_000_000, Quiet: true})
		took := time.Since(began)
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(took.Seconds(), "seed-s")
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
		b.ReportMetric(float64(m.Sys)/(1<<20), "sys-MiB")
		if n := s.Count("contacts"); n != 1_000_000 {
			b.Fatalf("%d contacts", n)
		}
		began = time.Now()
		pages, after := 0, ""
		for ; pages < 2000; pages++ {
			target := "/crm/v3/objects/contacts?limit=100&properties=" + strings.Join(sixtyProperties, ",") + after
			r := httptest.NewRequest(http.MethodGet, target, nil)
			r.Header.Set("Authorization", "Bearer sandbox")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			body := w.Body.String()
			i := strings.LastIndex(body, `"after":"`)
			if w.Code != http.StatusOK || i < 0 {
				b.Fatalf("status %d, cursor at %d", w.Code, i)
			}
			cursor, _, _ := strings.Cut(body[i+len(`"after":"`):], `"`)
			after = "&after=" + cursor
		}
		b.ReportMetric(float64(pages)/time.Since(began).Seconds(), "pages/s")
		b.ReportMetric(peakRSS(b), "peak-rss-MiB")
	}
}

// peakRSS is the largest resident size of this process in MiB, 0 where it cannot be known.
func peakRSS(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}
