package hubapi_test

import (
	"testing"

	"hubpg/hubapi"
)

// An event of a shape that is not known here, which an app may be subscribed to for purposes of its own, keeps no other in
// the same file, or the same delivery, from being read.
func TestAnEventOfAnotherShapeStandsInNobodysWay(t *testing.T) {
	t.Parallel()
	for name, odd := range map[string]string{
		"an id that is no number": `{"type":"x","portalId":5,"objectId":"a-b","subscriptionType":"x"}`,
		"a list for an object":    `{"type":"x","portalId":5,"objectId":7,"propertyChanges":[],"subscriptionType":"x","isSensitive":"no"}`,
		"a time in words":         `{"type":"x","portalId":5,"occurredAt":"yesterday","subscriptionType":"x"}`,
		"no object at all":        `["x"]`,
		"nothing":                 `null`,
	} {
		file, err := hubapi.ParseJournalFile([]byte(
			`{"offset":"o","journalEvents":[` + odd + `,{"type":"crmObject","portalId":5,"action":"UPDATE","objectTypeId":"0-1","objectId":12}]}`))
		if err != nil || len(file.Events) != 2 || file.Events[1].ObjectID != 12 || file.Events[0].Action != "" {
			t.Errorf("%s: journal %+v, %v", name, file, err)
		}
		list, err := hubapi.ParseWebhook([]byte(`[` + odd + `,{"subscriptionType":"contact.creation","portalId":5,"objectId":12}]`))
		if err != nil || len(list) != 2 || list[1].ObjectID != 12 {
			t.Errorf("%s: webhook %+v, %v", name, list, err)
		}
	}
	for _, cut := range []string{`{"offset":"o","journalEvents":[{"type":"x"`, `{"offset":"o","journalEvents":[{"type":x}]}`, `{"offset":"o","journalEvents":{}}`} {
		if file, err := hubapi.ParseJournalFile([]byte(cut)); err == nil {
			t.Errorf("%s was read: %+v", cut, file)
		}
	}
}
