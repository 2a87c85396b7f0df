package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// HeaderLen is the size of the type byte and the length word that start every message after the start-up packet.
const HeaderLen = 5

// MaxMessage is the largest message, header included, that Postgres itself sends or accepts: a value of just under
// 1 GiB with some room around it. A longer claim is an attack or a lost place in the stream.
const MaxMessage = 1<<30 - 1 + HeaderLen

// ErrFraming says that the bytes of a stream are not messages: its reader has lost its place and must stop.
var ErrFraming = errors.New("malformed message")

// ErrTooLarge says that a well-formed message is larger than its reader allows.
var ErrTooLarge = errors.New("message too large")

// Header is the start of a message.
type Header struct {
	Type byte
	Size int // of the whole message, header included
}

// parseHeader reads the header at the start of b, which holds at least HeaderLen bytes.
func parseHeader(b []byte, limit int) (Header, error) {
	length := binary.BigEndian.Uint32(b[1:HeaderLen])
	if length < 4 {
		return Header{}, fmt.Errorf("%w: type %q claims length %d", ErrFraming, b[0], length)
	}
	if uint64(length)+1 > uint64(limit) {
		return Header{}, fmt.Errorf("%w: type %q claims %d bytes, at most %d allowed", ErrTooLarge, b[0], length, limit)
	}
	return Header{Type: b[0], Size: int(length) + 1}, nil
}

// SizeOf returns the size of the whole message at the start of b, a stream of messages that has been checked before.
func SizeOf(b []byte) int { return int(binary.BigEndian.Uint32(b[1:HeaderLen])) + 1 }
