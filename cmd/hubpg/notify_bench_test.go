package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/internal/sandbox"
)

// BenchmarkChangeToNotify measures the time from a change in HubSpot to its notification at a client of the proxy, by
// polling alone, with HubSpot's limits on and 200 ms latency, for as long as 90 s: for one type on the whole search quota,
// whose changes come some seconds apart, and for 20 types on a third of it, each of which changes once a second.
//
//	go test ./cmd/hubpg -run '^$' -bench ChangeToNotify -benchtime 1x
func BenchmarkChangeToNotify(b *testing.B) {
	b.Run("one", func(b *testing.B) { changeToNotify(b, 1, "1", 2300*time.Millisecond) })
	b.Run("twenty", func(b *testing.B) { changeToNotify(b, 20, "0.3333", time.Second) })
}

func changeToNotify(b *testing.B, types int, share string, every time.Duration) {
	const lasting, records, late = 90 * time.Second, 20, 30 * time.Second
	for b.Loop() {
		hub := sandbox.Config{Contacts: 10, Limits: true, Latency: 200 * time.Millisecond}
		names := make([]string, types)
		for i := range names {
			names[i] = fmt.Sprintf("busy_%02d", i)
		}
		s := serve(b, hub, map[string]string{
			"HUBPG_OBJECTS": strings.Join(names, ","), "HUBPG_HUBSPOT_SHARE": share, "HUBPG_HUBSPOT_LIMITS": "real",
		})
		ids := make([][]int64, types)
		paths := make([]string, types)
		for i, name := range names {
			var err error
			if paths[i], err = s.account.AddObjectType(sandbox.SchemaDef{
				Name: name, SingularLabel: name, PluralLabel: name, PrimaryDisplayProperty: "name",
				Properties: []sandbox.PropertyDef{{Name: "name", Label: "Name", Type: "string", FieldType: "text"}},
			}); err != nil {
				b.Fatal(err)
			}
			for range records {
				id, err := s.account.Create(paths[i], map[string]string{"name": "new"})
				if err != nil {
					b.Fatal(err)
				}
				ids[i] = append(ids[i], id)
			}
		}
		proxy, web := s.addresses(b)
		for end := time.Now().Add(10 * time.Minute); ; time.Sleep(time.Second) {
			tables := ready(b, web)
			if !slices.ContainsFunc(names, func(name string) bool { return tables[name].Phase != "live" }) {
				break
			}
			if time.Now().After(end) {
				b.Fatal("the tables are not there")
			}
		}
		app := connect(b, proxied(s.env["HUBPG_DATABASE_URL"], proxy))
		if _, err := app.Exec(b.Context(), "listen hubspot"); err != nil {
			b.Fatal(err)
		}
		var mu sync.Mutex // guards below
		sent, heard := map[string]time.Time{}, map[string]time.Duration{}
		go func() { // ends with the connection
			for {
				n, err := app.WaitForNotification(b.Context())
				if err != nil {
					return
				}
				at := time.Now()
				var change struct{ After struct{ Name string } }
				if err := json.Unmarshal([]byte(n.Payload), &change); err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				if begun, ok := sent[change.After.Name]; ok {
					heard[change.After.Name] = at.Sub(begun)
				}
				mu.Unlock()
			}
		}()
		n := 0
		for begun := time.Now(); time.Since(begun) < lasting; {
			for i, path := range paths {
				n++
				name := fmt.Sprint("change ", n)
				mu.Lock()
				sent[name] = time.Now()
				mu.Unlock()
				if err := s.account.Update(path, ids[i][n/types%records], map[string]string{"name": name}); err != nil {
					b.Fatal(err)
				}
			}
			time.Sleep(time.Until(begun.Add(time.Duration(n/types) * every)))
		}
		time.Sleep(late)
		mu.Lock()
		var took []time.Duration
		for _, d := range heard {
			took = append(took, d)
		}
		unheard := len(sent) - len(heard)
		mu.Unlock()
		slices.Sort(took)
		if len(took) == 0 {
			b.Fatal("nothing was heard")
		}
		b.ReportMetric(took[len(took)/2].Seconds(), "s-p50")
		b.ReportMetric(took[len(took)*95/100].Seconds(), "s-p95")
		b.ReportMetric(took[len(took)*99/100].Seconds(), "s-p99")
		b.ReportMetric(float64(len(took)), "heard")
		b.ReportMetric(float64(unheard), "overtaken") // a later change of the same record came first
		b.ReportMetric(float64(s.account.Stats().Violations["search"]), "over-limit")
		s.interrupt()
		<-s.done
		s.done <- exitDone
	}
}
