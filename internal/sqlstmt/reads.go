package sqlstmt

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/sqlc-dev/oliphant"
	"google.golang.org/protobuf/reflect/protoreflect" // what the parser's trees are made of
)

// Reading is what a text reads, as far as that shows in it.
type Reading struct {
	Tables   []Name   // tables and views that its queries and changes name, sorted, and names of its CTEs among them
	Executes []string // names of the prepared statements that it runs
	Prepares []string // names of the statements that it prepares; Tables are those of these too
	Beyond   bool     // there are more names than Tables holds
}

// maxNames bounds how many names are collected of a text, which may be all of it.
const maxNames = 10_000

// Reads says which tables the statements of text name that read or change rows; those of others, such as VACUUM or ALTER
// TABLE, do not count. Of a text that cannot be parsed it returns every name that stands in it.
func Reads(text string) Reading {
	if guard(text) != nil {
		return allNames(text)
	}
	tree, err := oliphant.Parse(text)
	if err != nil {
		return allNames(text)
	}
	c := collector{seen: map[Name]struct{}{}}
	for _, raw := range tree.GetStmts() {
		c.statement(raw.GetStmt())
	}
	return c.result()
}

// collector walks over a tree.
type collector struct {
	reading Reading
	seen    map[Name]struct{}
}

func (c *collector) statement(node *oliphant.Node) {
	switch s := node.GetNode().(type) {
	case *oliphant.Node_ExecuteStmt:
		c.reading.Executes = append(c.reading.Executes, s.ExecuteStmt.GetName())
	case *oliphant.Node_PrepareStmt:
		c.reading.Prepares = append(c.reading.Prepares, s.PrepareStmt.GetName())
		c.statement(s.PrepareStmt.GetQuery())
	case *oliphant.Node_ExplainStmt:
		c.statement(s.ExplainStmt.GetQuery())
	case *oliphant.Node_CreateTableAsStmt:
		c.statement(s.CreateTableAsStmt.GetQuery())
	case *oliphant.Node_SelectStmt, *oliphant.Node_InsertStmt, *oliphant.Node_UpdateStmt, *oliphant.Node_DeleteStmt,
		*oliphant.Node_MergeStmt, *oliphant.Node_CopyStmt, *oliphant.Node_DeclareCursorStmt:
		c.walk(node.ProtoReflect())
	}
}

func (c *collector) walk(m protoreflect.Message) {
	if table, ok := m.Interface().(*oliphant.RangeVar); ok {
		c.add(Name{table.GetSchemaname(), table.GetRelname()})
		return
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.Message() == nil:
		case field.IsList():
			for list, i := v.List(), 0; i < list.Len(); i++ {
				c.walk(list.Get(i).Message())
			}
		default:
			c.walk(v.Message())
		}
		return true
	})
}

func (c *collector) add(n Name) {
	if _, known := c.seen[n]; known {
		return
	}
	if len(c.seen) >= maxNames {
		c.reading.Beyond = true
		return
	}
	c.seen[Name{strings.Clone(n.Schema), strings.Clone(n.Name)}] = struct{}{} // so as not to keep the text
}

func (c *collector) result() Reading {
	c.reading.Tables = slices.SortedFunc(maps.Keys(c.seen), func(a, b Name) int {
		return cmp.Or(strings.Compare(a.Schema, b.Schema), strings.Compare(a.Name, b.Name))
	})
	return c.reading
}

// allNames takes every name, and every two with a dot between them, for a table's.
func allNames(text string) Reading {
	c := collector{seen: map[Name]struct{}{}}
	s := scanner{text: text}
	before, dotted := "", false
	for t := s.next(); t.kind != tokenEnd; t = s.next() {
		switch {
		case t.kind == tokenWord || t.kind == tokenQuoted:
			name := s.name(t)
			if dotted && before != "" {
				c.add(Name{before, name})
			} else {
				c.add(Name{"", name})
			}
			before, dotted = name, false
		case s.punct(t, '.'):
			dotted = true
		default:
			before, dotted = "", false
		}
	}
	return c.result()
}

// Identifiers returns the names in a list of identifiers, such as a search path.
func Identifiers(list string) (names []string) {
	s := scanner{text: list}
	for t := s.next(); t.kind != tokenEnd; t = s.next() {
		if t.kind == tokenWord || t.kind == tokenQuoted {
			names = append(names, s.name(t))
		}
	}
	return names
}

// Holds reports whether text holds word, which is in lower case and has a letter in front of its first underscore, in any
// case of its letters. It is a sieve: it looks into comments and strings, too.
func Holds(text []byte, word string) bool {
	at := strings.IndexByte(word, '_')
	for from := 0; ; {
		i := bytes.IndexByte(text[from:], '_')
		if i < 0 {
			return false
		}
		start := from + i - at
		if start >= 0 && start+len(word) <= len(text) && foldedAt(text[start:], word) {
			return true
		}
		from += i + 1
	}
}

func foldedAt(text []byte, word string) bool {
	for i := range len(word) {
		if fold(text[i]) != word[i] {
			return false
		}
	}
	return true
}
