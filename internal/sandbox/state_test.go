package sandbox_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hubpg/internal/sandbox"
)

// kept saves an account and makes another of it.
func kept(t *testing.T, s *sandbox.Server, cfg sandbox.Config) *sandbox.Server {
	t.Helper()
	var state bytes.Buffer
	if err := s.Save(&state); err != nil {
		t.Fatal(err)
	}
	restored, err := sandbox.Restore(cfg, &state)
	if err != nil {
		t.Fatal(err)
	}
	return restored
}

// equal compares everything that the API can show of two accounts.
func equal(t *testing.T, got, want *sandbox.Server) {
	t.Helper()
	types := want.ObjectTypes()
	if diff := cmp.Diff(types, got.ObjectTypes()); diff != "" {
		t.Errorf("object types: %s", diff)
	}
	for _, from := range types {
		if diff := cmp.Diff(want.Snapshot(from), got.Snapshot(from)); diff != "" {
			t.Errorf("%s: %s", from, diff)
		}
		for _, to := range types {
			if diff := cmp.Diff(want.Edges(from, to), got.Edges(from, to)); diff != "" {
				t.Errorf("%s to %s: %s", from, to, diff)
			}
		}
	}
}

func TestSavedAccountIsRestoredAsItWas(t *testing.T) {
	t.Parallel()
	cfg := sandbox.Config{Seed: 7, Contacts: 40, Rollups: true}
	s := sandbox.New(cfg)
	for range 300 { // every kind of spontaneous change
		s.Step()
	}
	if err := s.AddProperty("contacts", sandbox.PropertyDef{Name: "late", Type: "string", FieldType: "text", GroupName: "contactinformation"}); err != nil {
		t.Fatal(err)
	}
	contacts := s.Snapshot("contacts")
	if err := s.Update("contacts", contacts[0].ID, map[string]string{"late": "value"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Archive("contacts", contacts[1].ID); err != nil {
		t.Fatal(err)
	}
	merged, err := s.Merge("contacts", contacts[2].ID, contacts[3].ID)
	if err != nil {
		t.Fatal(err)
	}

	restored := kept(t, s, cfg)
	equal(t, restored, s)
	equal(t, kept(t, restored, cfg), s) // twice over
	if got, want := restored.Stats().Changes, s.Stats().Changes; got != want {
		t.Errorf("%d spontaneous changes, want %d", got, want)
	}

	// It goes on where it was: archived records come back, ids do not repeat, merged ids stay merged.
	if err := restored.Restore("contacts", contacts[1].ID); err != nil {
		t.Error(err)
	}
	id, err := restored.Create("contacts", map[string]string{"email": "new@example.com", "late": "too"})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Snapshot("contacts") {
		if r.ID == id {
			t.Errorf("id %d was given again", id)
		}
	}
	if err := restored.Update("contacts", merged, map[string]string{"late": "merged"}); err != nil {
		t.Error(err)
	}
	for range 100 {
		restored.Step()
	}
}

func TestBrokenStateIsRefused(t *testing.T) {
	t.Parallel()
	var state bytes.Buffer
	if err := sandbox.New(sandbox.Config{Seed: 1, Contacts: 5}).Save(&state); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"empty": nil, "foreign": []byte("hello"), "cut": state.Bytes()[:state.Len()-20],
	} {
		if _, err := sandbox.Restore(sandbox.Config{}, bytes.NewReader(text)); err == nil {
			t.Errorf("%s state was accepted", name)
		}
	}
}
