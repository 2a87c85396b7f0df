package materialize_test

import (
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// What the lanes read in halves, because an answer with all of it would be too large, can be compared and repaired, too.
func TestLargeRecordsAreVerifiedAndReadAgain(t *testing.T) {
	t.Parallel()
	w, stop := liveContacts(t, sandbox.Config{Contacts: 150}, nil)
	w.awaitEqual(20*time.Second, "contacts")
	stop()
	cfg := w.verifyConfig()
	cfg.Client, cfg.Tables = w.by(&bent{}, hubapi.WithMaxBody(150<<10)), []string{"contacts"}
	for _, sample := range []int{0, 140} {
		cfg.Sample = sample
		report, err := materialize.Verify(t.Context(), cfg)
		w.must(err)
		if r := report.Tables[0]; !report.Equal() || r.HubSpotRows != 150 {
			t.Errorf("of a sample of %d: %+v", sample, r)
		}
	}
	cfg.Sample, cfg.Repair = 0, true
	for name, mend := range map[string]func() error{
		"verify": func() error {
			report, err := materialize.Verify(t.Context(), cfg)
			if err == nil {
				err = report.Tables[0].Err
			}
			return err
		},
		"resync": func() error {
			_, err := materialize.Resync(t.Context(), cfg, "contacts")
			return err
		},
	} {
		w.exec(`delete from hubspot.contacts where id in (select id from hubspot.contacts order by id limit 120)`)
		if err := mend(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := w.difference("contacts"); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}
