package sandbox

import (
	"encoding/binary"
)

// record is one version of one record. It never changes: a write makes a new version, so the search
// index may keep an old one.
type record struct {
	id       int64
	created  int64  // epoch ms
	updated  int64  // epoch ms; the modified property
	archived int64  // epoch ms; 0 while live
	seq      uint64 // order of versions in the account
	data     []byte // packed values
}

// entry is the place of a record in its table.
type entry struct {
	id      int64
	cur     *record
	indexed *record // the version search sees; nil when it sees none
	trail   *trail  // earlier values; nil until the first change
}

// Packed values: for each value that is set, in slot order, the slot and the length as uvarints and
// the text. An absent slot is null, an empty text a cleared value.

func appendValue[T string | []byte](dst []byte, slot int, text T) []byte {
	dst = binary.AppendUvarint(dst, uint64(slot))
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}

// nextValue splits the first value off data.
func nextValue(data []byte) (slot int, text, rest []byte) {
	// The one-byte forms are nearly all there is.
	if len(data) >= 2 && data[0] < 0x80 && data[1] < 0x80 {
		end := 2 + int(data[1])
		return int(data[0]), data[2:end:end], data[end:]
	}
	s, n := binary.Uvarint(data)
	l, m := binary.Uvarint(data[n:])
	from := n + m
	end := from + int(l)
	return int(s), data[from:end:end], data[end:]
}

// unpack spreads data over into, which is indexed by slot. Slots that are not set become nil.
func unpack(data []byte, into [][]byte) {
	clear(into)
	for len(data) > 0 {
		var slot int
		var text []byte
		slot, text, data = nextValue(data)
		into[slot] = text
	}
}

// packedValue finds one value. A cleared one is empty, not nil.
func packedValue(data []byte, slot int) []byte {
	for len(data) > 0 {
		var s int
		var text []byte
		s, text, data = nextValue(data)
		if s == slot {
			return text
		}
		if s > slot {
			break
		}
	}
	return nil
}

func pack(values [][]byte) []byte {
	n := 0
	for _, v := range values {
		if v != nil {
			n += len(v) + 4
		}
	}
	data := make([]byte, 0, n)
	for slot, v := range values {
		if v != nil {
			data = appendValue(data, slot, v)
		}
	}
	return data
}
