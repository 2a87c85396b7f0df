package sandbox

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// oneOrMany is a text or a list of texts.
type oneOrMany []string

// UnmarshalJSON implements [json.Unmarshaler].
func (o *oneOrMany) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*o = nil
		if one != "" {
			*o = oneOrMany{one}
		}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(o))
}

// writeExport makes the CSV of an export. Without internal values it has labels and times of day, as people read them;
// with them the values of the API, but for times, which are epoch ms.
func (a *account) writeExport(e *export) (content []byte, rows int) {
	t, body := e.table, &e.request
	rs, err := a.exported(t, body)
	if err != nil {
		rs = nil // a property was archived since
	}
	names := slices.Contains(body.ExportInternalValuesOptions, exportNames)
	values := slices.Contains(body.ExportInternalValuesOptions, exportVal)
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	header := []string{"Record ID"}
	if names {
		header[0] = "hs_object_id"
	}
	var ps []*property
	for _, name := range body.ObjectProperties {
		p := t.property(name)
		if p == nil || name == "hs_object_id" {
			continue
		}
		ps = append(ps, p)
		if names {
			header = append(header, p.Name)
		} else {
			header = append(header, p.Label)
		}
	}
	var others []*table
	for _, name := range body.AssociatedObjectType {
		if other := a.table(name); other != nil {
			others = append(others, other)
			header = append(header, "Associated "+other.kind.label+" IDs")
		}
	}
	_ = w.Write(header) // a buffer takes everything
	row := make([]string, 0, len(header))
	for _, r := range rs {
		row = append(row[:0], strconv.FormatInt(r.id, 10))
		for _, p := range ps {
			row = append(row, exportedValue(p, string(t.text(r, p, nil)), values))
		}
		for _, other := range others {
			ls := a.visible(direction{t.kind.typeID, other.kind.typeID}, other, r.id)
			if !body.AllAssociations {
				ls = ls[:min(len(ls), maxExportAssociations)]
			}
			var ids []string
			for _, l := range ls {
				ids = append(ids, strconv.FormatInt(l.to, 10))
			}
			row = append(row, strings.Join(ids, ";"))
		}
		_ = w.Write(row)
	}
	w.Flush()
	return out.Bytes(), len(rs)
}

// exportedValue is a value as exports write it.
func exportedValue(p *property, text string, internal bool) string {
	switch p.Type {
	case "datetime", "date":
		ms, ok := parseInstant(text)
		switch {
		case !ok:
			return text
		case internal:
			return strconv.FormatInt(ms, 10)
		case p.Type == "date":
			return time.UnixMilli(ms).UTC().Format(time.DateOnly)
		default:
			return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04")
		}
	case "enumeration", "bool":
		if internal {
			return text
		}
		parts := strings.Split(text, ";")
		for i, part := range parts {
			for _, o := range p.Options {
				if o.Value == part {
					parts[i] = o.Label
				}
			}
		}
		return strings.Join(parts, ";")
	default:
		return text
	}
}

// packed zips what is too large to be sent as it is.
func packed(name string, content []byte) (out []byte, contentType string) {
	if len(content) <= maxPlainExport {
		return content, exportContentType
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.Create(name + ".csv")
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return content, exportContentType // a buffer takes everything
	}
	return b.Bytes(), zippedExportType
}
