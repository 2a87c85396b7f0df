package hubapi_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"hubpg/hubapi"
)

// A record that stays locked says nothing against what was sent: a batch of others is not to be halved for it, and an object
// type is not to count as one that HubSpot does not show.
func TestALockThatStaysIsNoFaultOfTheRequest(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(*testing.T, *hubapi.Client) error{
		"read": func(t *testing.T, c *hubapi.Client) error { return listContacts(t.Context(), c) },
		"write": func(t *testing.T, c *hubapi.Client) error {
			_, err := c.BatchUpdate(t.Context(), "contacts", []hubapi.UpdateInput{{ID: 1}, {ID: 2}}, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: []answer{{status: 423, body: `{"status":"error","message":"The record is locked."}`}}}
				err := call(t, newClient(t, s))
				down, ok := errors.AsType[*hubapi.UnavailableError](err)
				if !ok || down.Ambiguous || len(s.sent) != 12 {
					t.Fatalf("after %d attempts: %T %v", len(s.sent), err, err)
				}
				for _, is := range []bool{
					isType[*hubapi.ValidationError](err), isType[*hubapi.SplitError](err), isType[*hubapi.AmbiguousError](err),
				} {
					if is {
						t.Errorf("%T %v", err, err)
					}
				}
				if hubapi.Hint(err) == "" {
					t.Error("no hint")
				}
			})
		})
	}
}

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
