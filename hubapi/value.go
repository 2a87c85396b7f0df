package hubapi

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// decodeJSON reads an answer other than record pages. It takes numbers for strings and strings for numbers, since
// HubSpot's specification and its wire disagree about ids, and times in any of HubSpot's forms.
func decodeJSON(body []byte, v any) error {
	return json.Unmarshal(body, v, lenient(), json.WithUnmarshalers(json.JoinUnmarshalers(
		json.UnmarshalFromFunc(unmarshalTime),
		json.UnmarshalFromFunc(unmarshalInt64),
		json.UnmarshalFromFunc(unmarshalInt),
		json.UnmarshalFromFunc(unmarshalString),
		json.UnmarshalFromFunc(unmarshalJournalEvent),
		json.UnmarshalFromFunc(unmarshalWebhookEvent),
	)))
}

func unmarshalTime(dec *jsontext.Decoder, t *time.Time) error {
	v, err := dec.ReadValue()
	if err != nil {
		return err
	}
	*t, err = parseTime(v)
	return err
}

func unmarshalInt64(dec *jsontext.Decoder, n *int64) error {
	v, err := dec.ReadValue()
	if err != nil {
		return err
	}
	raw := string(bare(v))
	if raw == "" || v.Kind() == 'n' {
		*n = 0
		return nil
	}
	if *n, err = strconv.ParseInt(raw, 10, 64); err == nil {
		return nil
	}
	f, err := strconv.ParseFloat(raw, 64) // 1e3, 5.0
	if err != nil || f != float64(int64(f)) {
		return unexpected("read integer %s", clip(raw, 40))
	}
	*n = int64(f)
	return nil
}

func unmarshalInt(dec *jsontext.Decoder, n *int) error {
	var wide int64
	if err := unmarshalInt64(dec, &wide); err != nil {
		return err
	}
	*n = int(wide)
	return nil
}

func unmarshalString(dec *jsontext.Decoder, s *string) error {
	v, err := dec.ReadValue()
	if err != nil {
		return err
	}
	if v.Kind() == 'n' {
		*s = ""
		return nil
	}
	*s, err = scalar(v)
	return err
}

// parseTime reads ISO 8601 or epoch milliseconds, quoted or not. null, "" and HubSpot's missing times are zero.
func parseTime(v jsontext.Value) (time.Time, error) {
	raw := bare(v)
	if len(raw) == 0 || v.Kind() == 'n' {
		return time.Time{}, nil
	}
	if ms, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return time.UnixMilli(ms).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, string(raw))
	if err != nil {
		return time.Time{}, unexpected("read time: %w", err)
	}
	return t.UTC(), nil
}
