package hubapi_test

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hubpg/hubapi"
)

const onePage = `{"results":[
 {"id":"501","properties":{"createdate":"2023-12-14T23:31:55.758Z","email":"x@y.com","firstname":"Zo\u00eb \"Z\" \ud83d\ude00","hs_object_id":"501","num":12.50,"phone":null,"cleared":"","odd":{"a":[1]},"flag":true},
  "propertiesWithHistory":{"city":[{"value":"Brisbane","timestamp":"2024-10-28T16:39:00.612Z"}]},
  "createdAt":"2023-12-14T23:31:55.758Z","updatedAt":"2025-01-27T19:53:15Z","archived":false,
  "url":"https://app.hubspot.com/contacts/1/record/0-1/501",
  "associations":{"companies":{"results":[{"id":"77","type":"contact_to_company"}],"paging":{"next":{"after":"x","link":"y"}}}}},
 {"id":9007199254740993,"properties":{"phone":"+49"},"createdAt":"1743685150726","updatedAt":1743685150726,"archived":true,"archivedAt":"2025-02-01T00:00:00.001Z"}
 ],"paging":{"next":{"after":"502","link":"https://api.hubapi.com/x?after=999"}}}`

func TestPageKeepsNullAbsentAndClearedApart(t *testing.T) {
	t.Parallel()
	p := hubapi.NewProjection([]string{"email", "phone", "cleared", "num", "firstname", "odd", "flag", "missing", "email"})
	if got := p.Len(); got != 8 {
		t.Fatalf("projection has %d slots, want 8: a name given twice has one", got)
	}
	page, err := hubapi.DecodePage([]byte(onePage), p, 100)
	if err != nil {
		t.Fatal(err)
	}
	want := &hubapi.Page{
		After: "502",
		Records: []hubapi.Record{
			{
				ID:        501,
				CreatedAt: time.Date(2023, 12, 14, 23, 31, 55, 758e6, time.UTC),
				UpdatedAt: time.Date(2025, 1, 27, 19, 53, 15, 0, time.UTC),
				Values: [][]byte{
					[]byte("x@y.com"), nil, {}, []byte("12.50"), []byte(`Zoë "Z" 😀`), []byte(`{"a":[1]}`), []byte("true"), nil,
				},
			},
			{
				ID:         9007199254740993,
				CreatedAt:  time.UnixMilli(1743685150726).UTC(),
				UpdatedAt:  time.UnixMilli(1743685150726).UTC(),
				Archived:   true,
				ArchivedAt: time.Date(2025, 2, 1, 0, 0, 0, 1e6, time.UTC),
				Values:     [][]byte{nil, []byte("+49"), nil, nil, nil, nil, nil, nil},
			},
		},
	}
	if diff := cmp.Diff(want, page); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	if page.Records[0].Values[2] == nil {
		t.Error("a cleared property is nil, want empty")
	}
}

func TestPageValuesDoNotShareCapacity(t *testing.T) {
	t.Parallel()
	p := hubapi.NewProjection([]string{"a", "b"})
	page, err := hubapi.DecodePage([]byte(`{"results":[{"id":"1","properties":{"a":"one","b":"two"}}]}`), p, 1)
	if err != nil {
		t.Fatal(err)
	}
	v := page.Records[0].Values
	_ = append(v[0], "XXXX"...)
	if string(v[1]) != "two" {
		t.Errorf("appending to one value changed its neighbour to %q", v[1])
	}
}

func TestPageSurvivesReuseOfTheBody(t *testing.T) {
	t.Parallel()
	body := []byte(onePage)
	p := hubapi.NewProjection([]string{"email", "phone"})
	page, err := hubapi.DecodePage(body, p, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = '#'
	}
	if got := string(page.Records[0].Values[0]) + string(page.Records[1].Values[1]); got != "x@y.com+49" {
		t.Errorf("values after the body's memory was reused: %q", got)
	}
}

func TestPageWithNamesInAnyOrder(t *testing.T) {
	t.Parallel()
	p := hubapi.NewProjection([]string{"a", "b", "c"})
	body := `{"results":[
	 {"id":"1","properties":{"a":"a1","b":"b1","c":"c1"}},
	 {"id":"2","properties":{"c":"c2","x":"x","a":"a2","b":"b2"}},
	 {"id":"3","properties":{"b":"b3"}},
	 {"id":"4","properties":{"a":"a4","b":"b4","c":"c4"}}]}`
	page, err := hubapi.DecodePage([]byte(body), p, 2) // more records than expected
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range page.Records {
		got = append(got, string(bytes.Join(r.Values, []byte(","))))
	}
	want := []string{"a1,b1,c1", "a2,b2,c2", ",b3,", "a4,b4,c4"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

func TestPageThatIsNotWholeIsAnError(t *testing.T) {
	t.Parallel()
	p := hubapi.NewProjection([]string{"email"})
	for end := range len(onePage) {
		if page, err := hubapi.DecodePage([]byte(onePage[:end]), p, 100); err == nil {
			t.Fatalf("a body cut after %d of %d bytes gave a page of %d records", end, len(onePage), len(page.Records))
		}
	}
	for _, body := range []string{
		`[]`, `{"results":{}}`, `{"results":[{"properties":{}}]}`, `{"results":[{"id":"x1"}]}`, `{"results":[{"id":""}]}`,
		`{"results":[{"id":"1","updatedAt":"yesterday"}]}`, `{"results":[]}{}`, `{"total":"many"}`, `{"results":["1"]}`,
	} {
		if _, err := hubapi.DecodePage([]byte(body), p, 100); err == nil {
			t.Errorf("no error for %s", body)
		}
	}
}

func TestPageReplacesInvalidUTF8(t *testing.T) {
	t.Parallel()
	p := hubapi.NewProjection([]string{"a", "b", "c"})
	body := "{\"results\":[{\"id\":\"1\",\"properties\":{\"a\":\"x\xffy\",\"b\":\"\\ud800z\",\"c\":\"after\"}}]}"
	page, err := hubapi.DecodePage([]byte(body), p, 1)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s|%s|%s", page.Records[0].Values[0], page.Records[0].Values[1], page.Records[0].Values[2])
	if want := "x\ufffdy|\ufffdz|after"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// widePage returns a page of 100 records with 150 properties of which 55 % are null, about 600 kB.
func widePage() (body []byte, names []string) {
	for i := range 150 {
		names = append(names, fmt.Sprintf("hs_some_property_name_%03d", i))
	}
	var b bytes.Buffer
	b.WriteString(`{"results":[`)
	for r := range 100 {
		if r > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"%d","properties":{`, 100000000000+r)
		for i, name := range names {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "%q:", name)
			switch {
			case (i*7+r)%20 < 11:
				b.WriteString("null")
			case i%10 == 0:
				fmt.Fprintf(&b, `"line one\nsays \"%d\""`, r)
			case i%3 == 0:
				b.WriteString(`"2024-10-28T16:39:01.173Z"`)
			default:
				fmt.Fprintf(&b, `"value %d of %d"`, i, r)
			}
		}
		fmt.Fprintf(&b, `},"createdAt":"2023-12-14T23:31:55.758Z","updatedAt":"2025-01-27T19:53:15.781Z","archived":false,`+
			`"url":"https://app.hubspot.com/contacts/44237313/record/0-1/%d"}`, r)
	}
	b.WriteString(`],"paging":{"next":{"after":"100000000100","link":"https://api.hubapi.com/x"}}}`)
	return b.Bytes(), names
}

func TestWidePageEqualsEncodingJSON(t *testing.T) {
	t.Parallel()
	body, names := widePage()
	page, err := hubapi.DecodePage(body, hubapi.NewProjection(names), 100)
	if err != nil {
		t.Fatal(err)
	}
	want, err := stdPage(body)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Records) != len(want.Results) || page.After != want.Paging.Next.After {
		t.Fatalf("got %d records, after %q", len(page.Records), page.After)
	}
	for i, r := range page.Records {
		if strconv.FormatInt(r.ID, 10) != want.Results[i].ID || !r.UpdatedAt.Equal(want.Results[i].UpdatedAt) {
			t.Fatalf("record %d: id %d at %v", i, r.ID, r.UpdatedAt)
		}
		for slot, name := range names {
			w := want.Results[i].Properties[name]
			if got := r.Values[slot]; (w == nil) != (got == nil) || (w != nil && *w != string(got)) {
				t.Fatalf("record %d, %s: got %q", i, name, got)
			}
		}
	}
}

type stdAnswer struct {
	Results []struct {
		ID         string             `json:"id"`
		Properties map[string]*string `json:"properties"`
		CreatedAt  time.Time          `json:"createdAt"`
		UpdatedAt  time.Time          `json:"updatedAt"`
		Archived   bool               `json:"archived"`
	} `json:"results"`
	Paging struct {
		Next struct {
			After string `json:"after"`
		} `json:"next"`
	} `json:"paging"`
}

func stdPage(body []byte) (*stdAnswer, error) {
	var a stdAnswer
	return &a, stdjson.Unmarshal(body, &a)
}

// The bars of a page of 100 records × 150 properties.
const (
	decodeTime  = 2500 * time.Microsecond
	decodeBytes = 1_000_000
)

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestWidePageStaysInItsMemory is not parallel: what other tests allocate would count.
func TestWidePageStaysInItsMemory(t *testing.T) {
	body, names := widePage()
	p := hubapi.NewProjection(names)
	decode := func(decode func() error) uint64 {
		least := ^uint64(0)
		for range 5 {
			least = min(least, allocated(func() {
				if err := decode(); err != nil {
					t.Error(err)
				}
			}))
		}
		return least
	}
	ours := decode(func() error { _, err := hubapi.DecodePage(body, p, 100); return err })
	std := decode(func() error { _, err := stdPage(body); return err })
	if ours > decodeBytes || ours > std/2 {
		t.Errorf("%d bytes for a page of %d; encoding/json needs %d", ours, len(body), std)
	}
}

// BenchmarkDecodePage fails when a page takes longer than its bar, or a third of what encoding/json needs.
func BenchmarkDecodePage(b *testing.B) {
	body, names := widePage()
	p := hubapi.NewProjection(names)
	took := map[string]time.Duration{}
	for _, d := range []struct {
		name   string
		decode func() error
	}{
		{"hubapi", func() error { _, err := hubapi.DecodePage(body, p, 100); return err }},
		{"encoding-json", func() error { _, err := stdPage(body); return err }},
	} {
		b.Run(d.name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := d.decode(); err != nil {
					b.Fatal(err)
				}
			}
			took[d.name] = b.Elapsed() / time.Duration(b.N)
		})
	}
	ours, std := took["hubapi"], took["encoding-json"]
	if std == 0 {
		return // one of them alone was asked for
	}
	// The bar is that of a machine on which encoding/json takes 10 ms, which a busy one is not.
	if free := std < 12*time.Millisecond; ours > std/3 || (free && ours > decodeTime) {
		b.Errorf("a page takes %v, its bar is %v; encoding/json takes %v", ours, decodeTime, std)
	}
}

func FuzzDecodePage(f *testing.F) {
	f.Add([]byte(onePage))
	f.Add([]byte(`{"total":2,"results":[{"id":"1","properties":{"email":"\u0041"}}],"paging":{"next":{"after":2}}}`))
	f.Add([]byte(`{"status":"COMPLETE","results":[],"numErrors":1,"errors":[{"category":"OBJECT_NOT_FOUND","context":{"ids":["9"]}}]}`))
	f.Add([]byte("{\"results\":[{\"id\":\"1\",\"properties\":{\"email\":\"\xff\\u0000\"}}]}"))
	p := hubapi.NewProjection([]string{"email", "phone"})
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		page, err := hubapi.DecodePage(body, p, 2)
		if !bytes.Equal(before, body) {
			t.Fatal("the decoder changed its input")
		}
		if err != nil {
			return
		}
		if !stdjson.Valid(bytes.ToValidUTF8(body, []byte("?"))) {
			t.Fatalf("accepted what is not JSON: %q", body)
		}
		for _, r := range page.Records {
			if r.ID == 0 || len(r.Values) != 2 {
				t.Fatalf("record %d with %d values", r.ID, len(r.Values))
			}
			for _, v := range r.Values {
				if strings.ToValidUTF8(string(v), "?") != string(v) {
					t.Fatalf("value %q is not UTF-8", v)
				}
			}
		}
	})
}
