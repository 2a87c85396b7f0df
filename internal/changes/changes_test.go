package changes_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"hubpg/internal/changes"
)

func TestPayloadHasTheContractsShape(t *testing.T) {
	t.Parallel()
	c := changes.Change{
		Seq: 7, Schema: "hubspot", Table: "deals", RecordID: 123, Op: changes.Update,
		Changed: []string{"dealstage"},
		Before:  json.RawMessage(`{"dealstage": "won"}`),
		After:   json.RawMessage(`{"dealstage": null}`),
	}
	got, err := c.Payload()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"seq":7,"table":"deals","id":123,"op":"update","changed":["dealstage"],` +
		`"before":{"dealstage":"won"},"after":{"dealstage":null}}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
}

func TestPayloadAlwaysFitsANotification(t *testing.T) {
	t.Parallel()
	manyColumns := make([]string, 500)
	for i := range manyColumns {
		manyColumns[i] = fmt.Sprintf("a_rather_long_property_name_%04d", i)
	}
	cases := map[string]struct {
		change      changes.Change
		keepsColumn bool
	}{
		"large values": {
			change: changes.Change{
				Seq: 1, Table: "notes", RecordID: 1, Op: changes.Update, Changed: []string{"hs_note_body"},
				After: json.RawMessage(`{"hs_note_body":"` + strings.Repeat("é", 5000) + `"}`),
			},
			keepsColumn: true,
		},
		"many columns": {
			change: changes.Change{Seq: 1, Table: "contacts", RecordID: 1, Op: changes.Update, Changed: manyColumns},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := c.change.Payload()
			if err != nil {
				t.Fatal(err)
			}
			if len(text) > changes.MaxPayload {
				t.Errorf("payload has %d bytes, the limit is %d", len(text), changes.MaxPayload)
			}
			var got struct {
				Seq       int64
				Truncated bool
				Changed   []string
				After     any
			}
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Fatalf("payload is not JSON: %v", err)
			}
			if !got.Truncated || got.Seq != 1 || got.After != nil || (len(got.Changed) > 0) != c.keepsColumn {
				t.Errorf("truncated payload says %+v", got)
			}
		})
	}
}

func TestPayloadRefusesBrokenJSON(t *testing.T) {
	t.Parallel()
	c := changes.Change{Seq: 9, After: json.RawMessage(`{"open":`)}
	if text, err := c.Payload(); err == nil {
		t.Errorf("payload of broken JSON = %q, want an error", text)
	}
}

func TestChannelsNameSchemaTableAndEachColumn(t *testing.T) {
	t.Parallel()
	c := changes.Change{Schema: "hubspot", Table: "deals", Changed: []string{"dealstage", "amount"}}
	want := []string{"hubspot", "hubspot_deals", "hubspot_deals.dealstage", "hubspot_deals.amount"}
	if diff := cmp.Diff(want, c.Channels()); diff != "" {
		t.Errorf("channels (-want +got):\n%s", diff)
	}
}

func TestChannelIsCutAsPostgresCutsIdentifiers(t *testing.T) {
	t.Parallel()
	name := changes.Channel("hubspot", "contacts", strings.Repeat("x", 44)+"ü")
	if len(name) > 63 || !utf8.ValidString(name) {
		t.Errorf("channel %q has %d bytes", name, len(name))
	}
	sub, ok, err := changes.ParseChannel(name+"yyyy", []string{"hubspot"})
	if err != nil || !ok || sub.Channel != name {
		t.Errorf("a listener on the longer name gets %q, want %q", sub.Channel, name)
	}
}

func TestParseChannelTellsOursFromPostgress(t *testing.T) {
	t.Parallel()
	schemas := []string{"hubspot", "eu"}
	cases := map[string]struct {
		want      changes.Subscription
		ours      bool
		malformed bool
	}{
		"hubspot":         {want: changes.Subscription{Channel: "hubspot", Name: "hubspot"}, ours: true},
		"eu_deals":        {want: changes.Subscription{Channel: "eu_deals", Name: "eu_deals"}, ours: true},
		"hubspot_deals@0": {want: changes.Subscription{Channel: "hubspot_deals", Name: "hubspot_deals@0", Replay: true}, ours: true},
		"hubspot_deals.amount@42": {
			want: changes.Subscription{Channel: "hubspot_deals.amount", Name: "hubspot_deals.amount@42", Replay: true, After: 42},
			ours: true,
		},
		"hubspotter":                   {},
		"jobs":                         {},
		"jobs@x":                       {},
		"hubspot@":                     {ours: true, malformed: true},
		"hubspot@-1":                   {ours: true, malformed: true},
		"hubspot@+1":                   {ours: true, malformed: true},
		"hubspot_deals@abc":            {ours: true, malformed: true},
		"hubspot@1@2":                  {ours: true, malformed: true},
		"hubspot@99999999999999999999": {ours: true, malformed: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ours, err := changes.ParseChannel(name, schemas)
			if ours != c.ours || errors.Is(err, changes.ErrReplay) != c.malformed {
				t.Fatalf("ours = %v, want %v; error %v", ours, c.ours, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("subscription (-want +got):\n%s", diff)
			}
		})
	}
}
