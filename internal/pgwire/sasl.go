package pgwire

import (
	"encoding/binary"
	"fmt"
)

// ParseSASLInitial returns the mechanism that a client chose and its first message, of a SASLInitialResponse. They
// are valid as long as message is. A client that sent none has an empty one.
func ParseSASLInitial(message []byte) (mechanism string, data []byte, err error) {
	name, rest, ok := CutString(message[HeaderLen:])
	if !ok || len(rest) < 4 {
		return "", nil, fmt.Errorf("%w: SASL response without a mechanism", ErrFraming)
	}
	length := binary.BigEndian.Uint32(rest)
	data = rest[4:]
	const none = 1<<32 - 1
	if length == none && len(data) == 0 {
		return string(name), nil, nil
	}
	if uint64(length) != uint64(len(data)) {
		return "", nil, fmt.Errorf("%w: SASL response claims %d bytes and has %d", ErrFraming, length, len(data))
	}
	return string(name), data, nil
}

// AppendSASLInitial appends a SASLInitialResponse.
func AppendSASLInitial(dst []byte, mechanism string, data []byte) []byte {
	size := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	return AppendMessage(dst, 'p', append([]byte(mechanism), 0), size, data)
}

// AppendSASLResponse appends a SASLResponse, any but a client's first message.
func AppendSASLResponse(dst, data []byte) []byte { return AppendMessage(dst, 'p', data) }

// AppendSASLChallenge appends an AuthenticationSASLContinue, or with final an AuthenticationSASLFinal.
func AppendSASLChallenge(dst, data []byte, final bool) []byte {
	code := uint32(AuthSASLContinue)
	if final {
		code = AuthSASLFinal
	}
	return AppendMessage(dst, 'R', binary.BigEndian.AppendUint32(nil, code), data)
}

// AuthData is what an Authentication message carries behind its code.
func AuthData(message []byte) []byte {
	if len(message) < HeaderLen+4 {
		return nil
	}
	return message[HeaderLen+4:]
}
