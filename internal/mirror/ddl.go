package mirror

import (
	"fmt"
	"strings"

	"hubpg/internal/catalog"
)

// quote renders text as an SQL literal, whatever standard_conforming_strings says. DDL takes no parameters.
func quote(text string) string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\x00", ""), "'", "''")
	if strings.Contains(text, `\`) {
		return " E'" + strings.ReplaceAll(text, `\`, `\\`) + "'"
	}
	return "'" + text + "'"
}

// createTableSQL makes an object table with the columns that are not in _overflow.
func createTableSQL(t *catalog.Table, comment string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "create table %s (\n  id bigint not null primary key,\n  created_at timestamptz,\n  updated_at timestamptz", tableIdent(t))
	for _, c := range t.Columns {
		if !c.Overflow {
			fmt.Fprintf(&b, ",\n  %s %s", ident(c.Name), c.Kind.SQL())
		}
	}
	if t.Soft {
		fmt.Fprintf(&b, ",\n  %s timestamptz", catalog.ArchivedAt)
	}
	b.WriteString(",\n  _unparsed jsonb,\n  _overflow jsonb,\n  _read_at timestamptz not null\n);\n")
	fmt.Fprintf(&b, "comment on table %s is %s;\n", tableIdent(t), quote(comment))
	for column, text := range map[string]string{
		catalog.ID:        "HubSpot's record id",
		catalog.CreatedAt: "when the record was created in HubSpot",
		catalog.UpdatedAt: "when the record was last modified in HubSpot",
		catalog.Unparsed:  "values that are not of their column's type, as HubSpot sent them",
		catalog.Overflow:  "properties that have no column of their own, by column name",
		catalog.ReadAt:    "when hubpg asked HubSpot for this state",
	} {
		fmt.Fprintf(&b, "comment on column %s.%s is %s;\n", tableIdent(t), ident(column), quote(text))
	}
	if t.Soft {
		fmt.Fprintf(&b, "comment on column %s.%s is %s;\n", tableIdent(t), catalog.ArchivedAt, quote(archivedComment))
	}
	for i := range t.Columns {
		b.WriteString(commentSQL(t, &t.Columns[i]))
	}
	return b.String()
}

// addColumnsSQL adds columns without a default, which never rewrites the table.
func addColumnsSQL(t *catalog.Table, columns []catalog.Column) string {
	var b strings.Builder
	for _, c := range columns {
		if c.Overflow {
			continue
		}
		if b.Len() == 0 {
			fmt.Fprintf(&b, "alter table %s", tableIdent(t))
		} else {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "\n  add column %s %s", ident(c.Name), c.Kind.SQL())
	}
	if b.Len() > 0 {
		b.WriteString(";\n")
	}
	for i := range columns {
		b.WriteString(commentSQL(t, &columns[i]))
	}
	return b.String()
}

// commentSQL sets a column's comment: the label, then the description where it says more.
func commentSQL(t *catalog.Table, c *catalog.Column) string {
	if c.Overflow {
		return ""
	}
	text := c.Label
	if c.Description != "" && c.Description != c.Label {
		if text != "" {
			text += ": "
		}
		text += c.Description
	}
	if text == "" {
		return fmt.Sprintf("comment on column %s.%s is null;\n", tableIdent(t), ident(c.Name))
	}
	return fmt.Sprintf("comment on column %s.%s is %s;\n", tableIdent(t), ident(c.Name), quote(text))
}

// createPairSQL makes an association table. The second index serves the way from B to A.
func createPairSQL(p *catalog.Pair) string {
	table := ident(p.Schema, p.Name)
	a, b := ident(p.ColumnA()), ident(p.ColumnB())
	return fmt.Sprintf(`create table %[1]s (
  %[2]s bigint not null,
  %[3]s bigint not null,
  label text,
  type_id integer not null,
  category text not null,
  _read_at timestamptz not null,
  primary key (%[2]s, %[3]s, type_id, category)
);
create index on %[1]s (%[3]s);
comment on table %[1]s is %[4]s;
comment on column %[1]s.label is 'null for the unlabelled association';
comment on column %[1]s.type_id is 'HubSpot''s association type from the first to the second column';
comment on column %[1]s._read_at is 'when hubpg asked HubSpot for this state';
`, table, a, b, quote("associations of "+p.A.Name+" with "+p.B.Name))
}

// createLookupSQL makes a lookup table.
func createLookupSQL(schema string, l *Lookup) string {
	var b strings.Builder
	table := ident(schema, l.Name)
	fmt.Fprintf(&b, "create table %s (\n", table)
	for _, c := range l.columns {
		fmt.Fprintf(&b, "  %s %s,\n", ident(c.name), c.sql)
	}
	fmt.Fprintf(&b, "  primary key (%s)\n);\n", list(l.Key, ", ", func(k string) string { return ident(k) }))
	fmt.Fprintf(&b, "comment on table %s is %s;\n", table, quote(l.Comment))
	for _, c := range l.columns {
		if c.comment != "" {
			fmt.Fprintf(&b, "comment on column %s.%s is %s;\n", table, ident(c.name), quote(c.comment))
		}
	}
	return b.String()
}
