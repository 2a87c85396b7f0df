package sqlstmt

import "errors"

// Bounds of what is handed to the parser. At these the worst texts known cost some 20 ms.
const (
	MaxText  = 64 << 10
	MaxDepth = 200
)

// ErrTooComplex says that a text was not parsed because of its length or depth.
var ErrTooComplex = errors.New("statement too long or too deeply nested to be analysed")

// guard reports whether text may be parsed. Brackets are counted wherever they stand, in strings too: at worst a
// strange but harmless text is not parsed.
func guard(text string) error {
	if len(text) > MaxText {
		return ErrTooComplex
	}
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '(', '[':
			if depth++; depth > MaxDepth {
				return ErrTooComplex
			}
		case ')', ']':
			depth--
		}
	}
	return nil
}
