package changes

import (
	"encoding/json"
	"fmt"
)

// MaxPayload is the largest payload in bytes that Postgres accepts in a NOTIFY (NOTIFY_PAYLOAD_MAX_LENGTH is
// 8,000 and the text must be shorter).
const MaxPayload = 7999

// payload is the wire form. Field order is part of the contract that users read by eye.
type payload struct {
	Seq       int64           `json:"seq"`
	Table     string          `json:"table"`
	ID        int64           `json:"id,omitempty"`
	Op        Op              `json:"op"`
	Changed   []string        `json:"changed,omitempty"`
	Before    json.RawMessage `json:"before,omitempty"`
	After     json.RawMessage `json:"after,omitempty"`
	Truncated bool            `json:"truncated,omitempty"`
}

// Payload renders c as the JSON that a listener receives, always valid and at most [MaxPayload] bytes. A change
// that does not fit loses before and after, then changed, and says "truncated":true: the reader then fetches the
// row of hubpg.changes by seq.
func (c *Change) Payload() (string, error) {
	p := payload{
		Seq: c.Seq, Table: c.Table, ID: c.RecordID, Op: c.Op,
		Changed: c.Changed, Before: c.Before, After: c.After,
	}
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encode change %d: %w", c.Seq, err)
	}
	if len(text) <= MaxPayload {
		return string(text), nil
	}
	p.Before, p.After, p.Truncated = nil, nil, true
	if text, err = json.Marshal(p); err == nil && len(text) > MaxPayload {
		p.Changed = nil
		text, err = json.Marshal(p)
	}
	if err != nil {
		return "", fmt.Errorf("encode change %d: %w", c.Seq, err)
	}
	return string(text), nil
}
