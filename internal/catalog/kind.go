package catalog

// Kind is the Postgres type that a property is stored as.
type Kind uint8

// The kinds of columns. The zero value is Text, which holds every value that HubSpot can send.
const (
	Text Kind = iota
	Numeric
	Bool
	Date
	Timestamp
	TextArray
)

// KindOf chooses the kind of a property from its definition. The type decides; the field type only tells a
// multiple-choice enumeration (checkbox) from a single choice. An unknown type is Text.
func KindOf(propertyType, fieldType string) Kind {
	switch propertyType {
	case "number":
		return Numeric
	case "bool":
		return Bool
	case "date":
		return Date
	case "datetime":
		return Timestamp
	case "enumeration":
		if fieldType == "checkbox" {
			return TextArray
		}
	}
	return Text
}

// SQL returns the name of the Postgres type.
func (k Kind) SQL() string {
	switch k {
	case Numeric:
		return "numeric"
	case Bool:
		return "boolean"
	case Date:
		return "date"
	case Timestamp:
		return "timestamptz"
	case TextArray:
		return "text[]"
	case Text:
	}
	return "text"
}

// String returns the name of the Postgres type.
func (k Kind) String() string { return k.SQL() }

// ParseKind is the inverse of [Kind.SQL].
func ParseKind(sql string) (Kind, bool) {
	for _, k := range []Kind{Text, Numeric, Bool, Date, Timestamp, TextArray} {
		if k.SQL() == sql {
			return k, true
		}
	}
	return Text, false
}

// Width is the most that a value of this kind takes inside a heap row, in bytes, with the padding before it: longer
// values are moved out of line and leave a pointer, but Postgres moves none that takes 24 bytes or less.
func (k Kind) Width() int {
	switch k {
	case Bool:
		return 1
	case Date:
		return 7
	case Timestamp:
		return 15
	case Numeric, Text, TextArray:
	}
	return 24
}
