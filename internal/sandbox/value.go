package sandbox

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxText is the longest text value, in characters.
const maxText = 65_536

var emailAddress = regexp.MustCompile(`^[^@\s]+@[^@\s.]+(\.[^@\s.]+)*\.[A-Za-z]{2,}$`)

// badValue is a value HubSpot refuses.
type badValue struct {
	name, message, code string
}

// lifecycle is the order in which a lifecycle stage may move.
var lifecycle = [...]string{
	"subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity", "customer", "evangelist", "other",
}

// check validates a value for p as the write endpoints do and returns its normal form. was is the
// present value.
func (a *account) check(p *property, text, was string) (string, *badValue) {
	bad := func(code, format string, args ...any) (string, *badValue) {
		return "", &badValue{name: p.Name, code: code, message: fmt.Sprintf(format, args...)}
	}
	switch {
	case p.Calculated:
		return bad("READ_ONLY_VALUE", "%q is a calculated property; its value cannot be set.", p.Name)
	case p.ReadOnly || p.from != stored:
		return bad("READ_ONLY_VALUE", "%q is a read only property; its value cannot be set.", p.Name)
	case text == "":
		return "", nil
	case utf8.RuneCountInString(text) > maxText:
		return bad("INVALID_STRING", "%s was too long: at most %d characters are allowed.", p.Name, maxText)
	}
	switch p.Type {
	case "number":
		text = strings.TrimSpace(text)
		if _, err := strconv.ParseFloat(text, 64); err != nil || strings.ContainsAny(text, "xXpP_nN") {
			return bad("INVALID_INTEGER", "%s was not a valid number", p.Name)
		}
	case "datetime":
		ms, ok := parseInstant(text)
		if !ok {
			return bad("INVALID_LONG", "%s was not a valid long.", text)
		}
		text = string(appendInstant(nil, ms))
	case "date":
		ms, ok := parseInstant(text)
		if !ok {
			return bad("INVALID_LONG", "%s was not a valid long.", text)
		}
		if _, ok := parseDay(text); !ok {
			return bad("INVALID_DATE", "%s is not a valid date: %s is not at midnight UTC.", text, appendInstant(nil, ms))
		}
		text = string(appendDay(nil, ms))
	case "bool":
		text = strings.ToLower(text)
		if text != "true" && text != "false" {
			return bad("INVALID_OPTION", "%s was not one of the allowed options: [true, false]", text)
		}
	case "enumeration":
		return a.checkOptions(p, text, was)
	}
	if p.Name == "email" && p.HasUniqueValue {
		if !emailAddress.MatchString(text) {
			return bad("INVALID_EMAIL", "Email address %s is invalid", text)
		}
		text = strings.ToLower(text)
	}
	return text, nil
}

func (a *account) checkOptions(p *property, text, was string) (string, *badValue) {
	if p.ReferencedObjectType == "OWNER" {
		for _, o := range a.owners {
			if strconv.FormatInt(o.id, 10) == text {
				return text, nil
			}
		}
		return "", &badValue{name: p.Name, code: "INVALID_OWNER_ID", message: fmt.Sprintf("%s was not a valid owner id.", text)}
	}
	if p.ExternalOptions {
		return text, nil
	}
	values := []string{text}
	if p.FieldType == "checkbox" {
		adds := strings.HasPrefix(text, ";")
		values = slices.DeleteFunc(strings.Split(text, ";"), func(v string) bool { return v == "" })
		if adds && was != "" {
			values = append(strings.Split(was, ";"), values...)
		}
		slices.Sort(values)
		values = slices.Compact(values)
	}
	for _, v := range values {
		if _, ok := p.allowed[v]; !ok {
			names := make([]string, len(p.Options))
			for i, o := range p.Options {
				names[i] = o.Value
			}
			return "", &badValue{
				name: p.Name, code: "INVALID_OPTION",
				message: fmt.Sprintf("%s was not one of the allowed options: [%s]", v, strings.Join(names, ", ")),
			}
		}
	}
	if p.Name == "lifecyclestage" && was != "" &&
		slices.Index(lifecycle[:], text) < slices.Index(lifecycle[:], was) {
		return was, nil // stages only move forward; the write is ignored
	}
	return strings.Join(values, ";"), nil
}

// checkAll validates the properties of one input for e, or for a new record when e is nil.
func (a *account) checkAll(t *table, e *entry, props map[string]loose) (cs []change, bad []badValue) {
	names := make([]string, 0, len(props))
	for name := range props {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		v := props[name]
		p := t.property(name)
		if p == nil {
			bad = append(bad, badValue{
				name: name, code: "PROPERTY_DOESNT_EXIST", message: fmt.Sprintf("Property %q does not exist", name),
			})
			continue
		}
		if !v.set {
			continue // null means nothing
		}
		was := ""
		if e != nil {
			was = string(packedValue(e.cur.data, p.slot))
		}
		text, wrong := a.check(p, v.text, was)
		if wrong != nil {
			bad = append(bad, *wrong)
			continue
		}
		if text == "" && e == nil {
			continue
		}
		cs = append(cs, change{p, []byte(text)})
	}
	return cs, bad
}

// badValues is the 400 that lists every refused value, in the message as JSON and as errors.
func (a *account) badValues(bad []badValue) *failure {
	b := []byte{'['}
	f := &failure{status: 400, category: "VALIDATION_ERROR"}
	for _, v := range bad {
		b = append(appendComma(b), `{"isValid":false`...)
		b = appendString(appendMember(b, "message"), v.message)
		b = appendString(appendMember(b, "error"), v.code)
		b = appendString(appendMember(b, "name"), v.name)
		b = appendString(appendMember(b, "localizedErrorMessage"), v.message)
		b = append(appendInt(appendMember(b, "portalId"), a.cfg.PortalID), '}')
		f.errors = append(f.errors, detail{
			message: v.message, code: v.code, context: [][2]string{{"propertyName", v.name}},
		})
	}
	f.message = "Property values were not valid: " + string(append(b, ']'))
	return f
}
