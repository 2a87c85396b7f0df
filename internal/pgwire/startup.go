package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// MaxStartup is the largest start-up packet that is read; the same cap as Postgres's, which leaves out the length word.
const MaxStartup = 4 + 10000

// MaxCancelKey is the longest cancel key of protocol 3.2.
const MaxCancelKey = 256

// Protocol versions as they stand in the start-up packet.
const (
	Protocol30 uint32 = 3 << 16
	Protocol32 uint32 = 3<<16 | 2
)

const (
	cancelCode = 80877102
	sslCode    = 80877103
	gssCode    = 80877104
)

// ErrCancelRequest marks a cancel request of a wrong length. Like any other cancel request it is owed no answer: libpq
// takes one for a failure of its own.
var ErrCancelRequest = errors.New("malformed cancel request")

// StartupKind says what the first packet of a connection asks for.
type StartupKind uint8

// The packets that may open a connection.
const (
	StartSession StartupKind = iota
	StartTLS
	StartGSS
	StartCancel
)

// Parameter is one name and value of a start-up packet.
type Parameter struct{ Name, Value string }

// Startup is the first packet of a connection.
type Startup struct {
	Kind       StartupKind
	Version    uint32      // StartSession: the protocol version asked for
	Parameters []Parameter // StartSession: in the order sent, protocol extensions (_pq_.…) left out
	Extensions []string    // StartSession: names of the protocol extensions asked for
	PID        uint32      // StartCancel
	Key        []byte      // StartCancel: 4 to MaxCancelKey bytes
}

// Parameter returns the value of a start-up parameter, the last one if it was given twice as Postgres does.
func (s *Startup) Parameter(name string) string {
	for _, p := range slices.Backward(s.Parameters) {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// ReadStartup reads one packet of the start-up phase from src and not a byte more, so that a TLS handshake may
// follow on the same stream.
func ReadStartup(src io.Reader) (*Startup, error) {
	var head [4]byte
	if _, err := io.ReadFull(src, head[:]); err != nil {
		return nil, err
	}
	// Judged before another byte is awaited: who claims less than a code may never send it.
	length := binary.BigEndian.Uint32(head[:])
	if length < 8 || length > MaxStartup {
		return nil, fmt.Errorf("%w: start-up packet claims %d bytes", ErrFraming, length)
	}
	packet := make([]byte, length-4)
	if _, err := io.ReadFull(src, packet); err != nil {
		return nil, fmt.Errorf("read start-up packet: %w", err)
	}
	return parseStartup(binary.BigEndian.Uint32(packet), packet[4:])
}

func parseStartup(code uint32, body []byte) (*Startup, error) {
	switch code {
	case sslCode, gssCode:
		if len(body) != 0 {
			return nil, fmt.Errorf("%w: encryption request with %d bytes too many", ErrFraming, len(body))
		}
		if code == sslCode {
			return &Startup{Kind: StartTLS}, nil
		}
		return &Startup{Kind: StartGSS}, nil
	case cancelCode:
		if len(body) < 8 || len(body) > 4+MaxCancelKey {
			return nil, fmt.Errorf("%w: %d bytes", ErrCancelRequest, len(body))
		}
		return &Startup{Kind: StartCancel, PID: binary.BigEndian.Uint32(body), Key: body[4:]}, nil
	}
	if code>>16 != 3 {
		return nil, &VersionError{Version: code}
	}
	return parseParameters(&Startup{Kind: StartSession, Version: code}, body)
}

func parseParameters(s *Startup, body []byte) (*Startup, error) {
	for {
		name, rest, ok := cutString(body)
		if !ok {
			return nil, fmt.Errorf("%w: start-up packet lacks its terminator", ErrFraming)
		}
		if name == "" {
			if len(rest) != 0 {
				return nil, fmt.Errorf("%w: start-up packet has %d bytes after its terminator", ErrFraming, len(rest))
			}
			return s, nil
		}
		value, rest, ok := cutString(rest)
		if !ok {
			return nil, fmt.Errorf("%w: start-up parameter without a value", ErrFraming)
		}
		if strings.HasPrefix(name, "_pq_.") {
			s.Extensions = append(s.Extensions, name)
		} else {
			s.Parameters = append(s.Parameters, Parameter{Name: name, Value: value})
		}
		body = rest
	}
}

// cutString takes a zero-terminated string from the front of b.
func cutString(b []byte) (s string, rest []byte, ok bool) {
	text, rest, ok := CutString(b)
	return string(text), rest, ok
}

// VersionError is returned for a start-up packet of a protocol other than 3.x.
type VersionError struct{ Version uint32 }

// Error names the version asked for.
func (e *VersionError) Error() string {
	return fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.2", e.Version>>16, e.Version&0xffff)
}

// AppendStartup appends a start-up packet.
func AppendStartup(dst []byte, version uint32, parameters []Parameter) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, version)
	for _, p := range parameters {
		dst = append(append(dst, p.Name...), 0)
		dst = append(append(dst, p.Value...), 0)
	}
	dst = append(dst, 0)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}

// AppendTLSRequest appends the packet that asks a server for TLS.
func AppendTLSRequest(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dst, 8), sslCode)
}

// AppendCancelRequest appends the packet that asks a server to cancel what the backend pid runs.
func AppendCancelRequest(dst []byte, pid uint32, key []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(12+len(key)))
	dst = binary.BigEndian.AppendUint32(dst, cancelCode)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return append(dst, key...)
}
