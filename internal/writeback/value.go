package writeback

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"hubpg/internal/catalog"
)

// maxOptionsShown bounds the list of allowed values in an error.
const maxOptionsShown = 50

// emailForm is what HubSpot's own check amounts to for the common mistakes; the rest is left to HubSpot.
var emailForm = regexp.MustCompile(`^[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$`)

// hubspotText renders a value, as to_jsonb shows it, in the form that HubSpot reads. NULL clears.
func hubspotText(k catalog.Kind, raw json.RawMessage) (string, error) {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", fmt.Errorf("read value: %w", err)
	}
	switch v := v.(type) {
	case nil:
		return "", nil
	case bool:
		if v {
			return "true", nil
		}
		return "false", nil
	case float64:
		return string(raw), nil // to_jsonb writes numerics out in full
	case string:
		return scalarText(k, v)
	case []any:
		if k != catalog.TextArray {
			break
		}
		items := make([]string, len(v))
		for i, item := range v {
			text, ok := item.(string)
			switch {
			case item == nil:
				return "", fmt.Errorf("a list must not contain NULL")
			case !ok:
				return "", fmt.Errorf("a list has one dimension")
			case strings.Contains(text, ";"):
				return "", fmt.Errorf("%q contains a semicolon, which separates the values of a list", text)
			}
			items[i] = text
		}
		return strings.Join(items, ";"), nil
	}
	return string(raw), nil
}

func scalarText(k catalog.Kind, v string) (string, error) {
	switch k {
	case catalog.Numeric:
		return "", fmt.Errorf("%s is not a number that HubSpot knows", v)
	case catalog.Date:
		if _, err := time.Parse(time.DateOnly, v); err != nil {
			return "", fmt.Errorf("%s is not a date that HubSpot knows", v)
		}
	case catalog.Timestamp:
		at, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			return "", fmt.Errorf("%s is not a time that HubSpot knows", v)
		}
		return at.UTC().Format("2006-01-02T15:04:05.000Z"), nil
	case catalog.Text, catalog.Bool, catalog.TextArray:
	}
	return v, nil
}

// check refuses a value that HubSpot would refuse.
func (c *column) check(text string) *flaw {
	switch {
	case !c.known || c.Archived:
		return &flaw{code: "42703", column: c.Name, message: "HubSpot has no property " + c.Property + " any more"}
	case !c.writable && c.Calculated:
		return &flaw{code: "428C9", column: c.Name, message: c.Property + " is calculated by HubSpot and cannot be set"}
	case !c.writable:
		return &flaw{code: "428C9", column: c.Name, message: c.Property + " is read-only in HubSpot"}
	case text == "":
		return nil
	case c.email && !emailForm.MatchString(text):
		return &flaw{code: "22P02", column: c.Name, message: fmt.Sprintf("%q is not an email address", text)}
	case c.options == nil:
		return nil
	}
	items := []string{text}
	if c.Kind == catalog.TextArray {
		items = strings.Split(text, ";")
	}
	for _, item := range items {
		if !slices.Contains(c.options, item) {
			return &flaw{
				code: "22P02", column: c.Name,
				message: fmt.Sprintf("%q is not an option of %s; allowed: %s", item, c.Property, c.allowed()),
				hint:    "use one of the values listed in property_options, or add the option in HubSpot",
			}
		}
	}
	return nil
}

func (c *column) allowed() string {
	if len(c.options) > maxOptionsShown {
		return strings.Join(c.options[:maxOptionsShown], ", ") + fmt.Sprintf(" and %d more", len(c.options)-maxOptionsShown)
	}
	return strings.Join(c.options, ", ")
}

// same tells whether HubSpot's value is what was sent.
func (c *column) same(sent string, stored []byte) bool {
	if string(stored) == sent {
		return true
	}
	a, okA := c.Kind.AppendText(nil, []byte(sent))
	b, okB := c.Kind.AppendText(nil, stored)
	return okA && okB && strings.EqualFold(strings.TrimSpace(string(a)), strings.TrimSpace(string(b)))
}
