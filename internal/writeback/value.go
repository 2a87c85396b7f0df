package writeback

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
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

// same tells whether HubSpot's value is what was sent, whatever form HubSpot gives to values of its kind.
func (c *column) same(sent string, stored []byte) bool {
	if string(stored) == sent {
		return true
	}
	a, okA := c.Kind.AppendJSON(nil, []byte(sent))
	b, okB := c.Kind.AppendJSON(nil, stored)
	switch {
	case !okA || !okB:
		return false
	case c.Kind == catalog.Numeric:
		x, okX := new(big.Rat).SetString(string(a))
		y, okY := new(big.Rat).SetString(string(b))
		return okX && okY && x.Cmp(y) == 0
	case c.Kind == catalog.TextArray:
		return slices.Equal(items(sent), items(string(stored)))
	case c.email:
		return strings.EqualFold(sent, string(stored))
	}
	return bytes.Equal(a, b)
}

// akin is same, and for text the same but for letter case and the space around it: HubSpot may have changed those in a record that
// nobody else can have made.
func (c *column) akin(sent string, stored []byte) bool {
	return c.same(sent, stored) || c.Kind == catalog.Text && strings.EqualFold(strings.TrimSpace(sent), strings.TrimSpace(string(stored)))
}

// items are the values of a list, in an order of their own.
func items(list string) []string {
	all := strings.Split(list, ";")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(item string) bool { return item == "" })
}
