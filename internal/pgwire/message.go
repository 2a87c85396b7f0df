package pgwire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Error is an ErrorResponse or NoticeResponse.
type Error struct {
	Severity string // ERROR, FATAL, WARNING, NOTICE
	Code     string // SQLSTATE
	Message  string
	Detail   string
	Hint     string

	Schema, Table, Column string // what it is about, if it is one thing
}

// Error returns severity, message and code on one line.
func (e *Error) Error() string { return e.Severity + ": " + e.Message + " (SQLSTATE " + e.Code + ")" }

// Append appends e as an ErrorResponse.
func (e *Error) Append(dst []byte) []byte {
	return encode(dst, &pgproto3.ErrorResponse{
		Severity: e.Severity, SeverityUnlocalized: e.Severity,
		Code: e.Code, Message: e.Message, Detail: e.Detail, Hint: e.Hint,
		SchemaName: e.Schema, TableName: e.Table, ColumnName: e.Column,
	})
}

// AppendNotice appends e as a NoticeResponse.
func (e *Error) AppendNotice(dst []byte) []byte {
	return encode(dst, &pgproto3.NoticeResponse{
		Severity: e.Severity, SeverityUnlocalized: e.Severity,
		Code: e.Code, Message: e.Message, Detail: e.Detail, Hint: e.Hint,
		SchemaName: e.Schema, TableName: e.Table, ColumnName: e.Column,
	})
}

// WithoutContext returns a copy of an ErrorResponse or NoticeResponse without the context in which it was raised.
func WithoutContext(message []byte) []byte {
	return AppendMessage(nil, message[0], without('W', message), []byte{0})
}

// WithHint returns a copy of an ErrorResponse or NoticeResponse with that hint.
func WithHint(message []byte, hint string) []byte {
	return AppendMessage(nil, message[0], without('H', message), []byte{'H'}, []byte(hint), []byte{0, 0})
}

// without returns the fields of an ErrorResponse or NoticeResponse but for those of one type.
func without(field byte, message []byte) (fields []byte) {
	for body := message[HeaderLen:]; len(body) > 0 && body[0] != 0; {
		text, rest, ok := CutString(body[1:])
		if !ok {
			break
		}
		if body[0] != field {
			fields = append(fields, body[:1+len(text)+1]...)
		}
		body = rest
	}
	return fields
}

// ShortenError returns an ErrorResponse or NoticeResponse that says what the head of a longer one says.
func ShortenError(head []byte) []byte {
	fields := head[HeaderLen:]
	for range utf8.UTFMax - 1 {
		if r, size := utf8.DecodeLastRune(fields); r == utf8.RuneError && size == 1 {
			fields = fields[:len(fields)-1] // half a character
		}
	}
	if n := len(fields); n == 0 || fields[n-1] != 0 {
		return AppendMessage(nil, head[0], fields, []byte{0, 0})
	}
	return AppendMessage(nil, head[0], fields, []byte{0})
}

// encode appends a message that is known to fit: pgproto3 refuses only bodies of more than 1 GiB.
func encode(dst []byte, m pgproto3.Message) []byte {
	out, err := m.Encode(dst)
	if err != nil {
		panic(fmt.Sprintf("pgwire: encode %T: %v", m, err))
	}
	return out
}

// AppendNegotiate appends the NegotiateProtocolVersion that offers version and names the extensions not known.
func AppendNegotiate(dst []byte, version uint32, unknown []string) []byte {
	return encode(dst, &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: version, UnrecognizedOptions: unknown})
}

// AppendAuthenticationOK appends AuthenticationOk.
func AppendAuthenticationOK(dst []byte) []byte { return encode(dst, &pgproto3.AuthenticationOk{}) }

// AppendPasswordRequest appends AuthenticationCleartextPassword.
func AppendPasswordRequest(dst []byte) []byte {
	return encode(dst, &pgproto3.AuthenticationCleartextPassword{})
}

// AppendSASL appends AuthenticationSASL with the given mechanisms.
func AppendSASL(dst []byte, mechanisms []string) []byte {
	return encode(dst, &pgproto3.AuthenticationSASL{AuthMechanisms: mechanisms})
}

// AppendParameterStatus appends ParameterStatus.
func AppendParameterStatus(dst []byte, name, value string) []byte {
	return encode(dst, &pgproto3.ParameterStatus{Name: name, Value: value})
}

// AppendBackendKeyData appends BackendKeyData.
func AppendBackendKeyData(dst []byte, pid uint32, key []byte) []byte {
	return encode(dst, &pgproto3.BackendKeyData{ProcessID: pid, SecretKey: key})
}

// AppendReady appends ReadyForQuery with a transaction status of 'I', 'T' or 'E'.
func AppendReady(dst []byte, status byte) []byte { return append(dst, 'Z', 0, 0, 0, 5, status) }

// AppendNotification appends NotificationResponse. It is on the path of every event and allocates only what dst lacks.
func AppendNotification(dst []byte, pid uint32, channel, payload string) []byte {
	dst = append(dst, 'A')
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+4+len(channel)+1+len(payload)+1))
	dst = binary.BigEndian.AppendUint32(dst, pid)
	dst = append(append(dst, channel...), 0)
	return append(append(dst, payload...), 0)
}

// AppendMessage appends a message of any type from the parts of its body.
func AppendMessage(dst []byte, typ byte, parts ...[]byte) []byte {
	size := 4
	for _, p := range parts {
		size += len(p)
	}
	dst = append(dst, typ)
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return dst
}

// Authentication codes of the messages that a proxy tells apart.
const (
	AuthOK           = 0
	AuthCleartext    = 3
	AuthMD5          = 5
	AuthSASL         = 10
	AuthSASLContinue = 11
	AuthSASLFinal    = 12
)

// ParseAuthentication returns the code of an Authentication message and, for AuthSASL, the mechanisms offered.
func ParseAuthentication(message []byte) (code uint32, mechanisms []string, err error) {
	body := message[HeaderLen:]
	if len(body) < 4 {
		return 0, nil, fmt.Errorf("%w: authentication request of %d bytes", ErrFraming, len(body))
	}
	if code = binary.BigEndian.Uint32(body); code != AuthSASL {
		return code, nil, nil
	}
	var sasl pgproto3.AuthenticationSASL
	if err := sasl.Decode(body); err != nil {
		return code, nil, fmt.Errorf("%w: %w", ErrFraming, err)
	}
	return code, sasl.AuthMechanisms, nil
}

// ParseBackendKeyData returns a copy of what a BackendKeyData message carries.
func ParseBackendKeyData(message []byte) (pid uint32, key []byte, err error) {
	body := message[HeaderLen:]
	if len(body) < 8 || len(body) > 4+MaxCancelKey {
		return 0, nil, fmt.Errorf("%w: cancel key of %d bytes", ErrFraming, len(body)-4)
	}
	return binary.BigEndian.Uint32(body), append([]byte(nil), body[4:]...), nil
}

// ParsePassword returns the text of a PasswordMessage.
func ParsePassword(message []byte) (string, error) {
	password, rest, ok := cutString(message[HeaderLen:])
	if !ok || len(rest) != 0 {
		return "", fmt.Errorf("%w: password message", ErrFraming)
	}
	return password, nil
}

// CutString takes a zero-terminated string from the front of a message body without copying it.
func CutString(b []byte) (s, rest []byte, ok bool) {
	s, rest, ok = bytes.Cut(b, []byte{0})
	if !ok {
		return nil, nil, false
	}
	return s, rest, true
}
