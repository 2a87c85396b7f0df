package scram

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Why an exchange ends. Everything but ErrRejected is the doing of the client's software, not of who sits before it.
var (
	// ErrRejected says that the proof is wrong, or that there is nobody to prove to be.
	ErrRejected = errors.New("the proof is wrong")
	// ErrMalformed says that a message is not one of SCRAM's.
	ErrMalformed = errors.New("malformed SCRAM message")
	// ErrBinding says that both sides could bind the channel and disagree about it: somebody may sit in between.
	ErrBinding = errors.New("channel binding does not hold")
	// ErrUnsupported says that the client asks for something that is not implemented.
	ErrUnsupported = errors.New("not supported")
)

// bindingType is the one kind of channel binding that Postgres knows (RFC 5929).
const bindingType = "tls-server-end-point"

// nonceLen is the number of random bytes in a nonce.
const nonceLen = 18

// Server is the server's side of one exchange:
//
//	client: Mechanism, First ──▶ server: challenge ──▶ client: Final ──▶ server: signature
type Server struct {
	verifier Verifier
	binding  []byte // what a bound channel is bound to; nil where it cannot be

	header    string // of the client's first message: whether and how it binds
	bound     bool
	bare      string // the client's first message without that
	nonce     string // the client's and the server's
	challenge string
}

// NewServer begins an exchange. binding is the hash of the certificate that the client was shown, nil without TLS or
// where the certificate has none (see [EndPoint]).
func NewServer(binding []byte) *Server { return &Server{binding: binding} }

// Mechanisms are the ones to offer, the best first.
func (s *Server) Mechanisms() []string {
	if s.binding != nil {
		return []string{MechanismPlus, Mechanism}
	}
	return []string{Mechanism}
}

// First takes the mechanism that the client chose and its first message, and returns the challenge to somebody who
// should know the password of v.
func (s *Server) First(v Verifier, mechanism string, message []byte) ([]byte, error) {
	s.verifier = v
	if mechanism != Mechanism && (mechanism != MechanismPlus || s.binding == nil) {
		return nil, fmt.Errorf("%w: a mechanism that was not offered", ErrMalformed)
	}
	s.bound = mechanism == MechanismPlus
	flag, rest, ok := strings.Cut(string(message), ",")
	identity, bare, okIdentity := strings.Cut(rest, ",")
	if !ok || !okIdentity {
		return nil, fmt.Errorf("%w: no header", ErrMalformed)
	}
	if identity != "" {
		return nil, fmt.Errorf("%w: an authorization identity", ErrUnsupported)
	}
	if err := s.flag(flag); err != nil {
		return nil, err
	}
	s.header, s.bare = flag+",,", bare
	if strings.HasPrefix(bare, "m=") {
		return nil, fmt.Errorf("%w: a mandatory extension", ErrUnsupported)
	}
	// The user name is not looked at: Postgres goes by the start-up packet, and libpq sends none here.
	_, rest, ok = strings.Cut(bare, ",")
	nonce, _, _ := strings.Cut(rest, ",")
	nonce, okNonce := strings.CutPrefix(nonce, "r=")
	if !strings.HasPrefix(bare, "n=") || !ok || !okNonce || !printable(nonce) {
		return nil, fmt.Errorf("%w: no user name or no nonce", ErrMalformed)
	}
	s.nonce = nonce + newNonce()
	s.challenge = fmt.Sprintf("r=%s,s=%s,i=%d", s.nonce, encode(s.verifier.salt), s.verifier.iterations)
	return []byte(s.challenge), nil
}

// flag checks what the client says about binding against what it was offered and has chosen.
func (s *Server) flag(flag string) error {
	kind, isBound := strings.CutPrefix(flag, "p=")
	switch {
	case isBound != s.bound:
		return fmt.Errorf("%w: mechanism and binding do not agree", ErrMalformed)
	case isBound && kind != bindingType:
		return fmt.Errorf("%w: a channel binding other than %s", ErrUnsupported, bindingType)
	case flag == "y" && s.binding != nil:
		return fmt.Errorf("%w: the client could bind but was told that the server cannot", ErrBinding)
	case !isBound && flag != "y" && flag != "n":
		return fmt.Errorf("%w: unknown header", ErrMalformed)
	}
	return nil
}

// Final takes the client's last message. If its proof is right it returns the server's signature, which proves to the
// client that it has reached who knows its verifier, and the keys to log in elsewhere.
func (s *Server) Final(message []byte) (signature []byte, keys *Keys, err error) {
	text := string(message)
	at := strings.LastIndex(text, ",p=")
	if at < 0 {
		return nil, nil, fmt.Errorf("%w: no proof", ErrMalformed)
	}
	unproven := text[:at]
	proof, err := base64.StdEncoding.DecodeString(text[at+len(",p="):])
	if err != nil || len(proof) != sha256.Size {
		return nil, nil, fmt.Errorf("%w: no proof", ErrMalformed)
	}
	channel, rest, _ := strings.Cut(unproven, ",")
	nonce, _, _ := strings.Cut(rest, ",") // optional extensions may follow
	channel, ok := strings.CutPrefix(channel, "c=")
	if !ok {
		return nil, nil, fmt.Errorf("%w: no channel", ErrMalformed)
	}
	want := []byte(s.header)
	if s.bound {
		want = append(want, s.binding...)
	}
	if got, err := base64.StdEncoding.DecodeString(channel); err != nil || subtle.ConstantTimeCompare(got, want) != 1 {
		return nil, nil, ErrBinding
	}
	if s.nonce == "" || nonce != "r="+s.nonce {
		return nil, nil, fmt.Errorf("%w: another nonce", ErrMalformed)
	}
	exchange := []byte(s.bare + "," + s.challenge + "," + unproven)
	clientKey := xor(proof, sum(s.verifier.storedKey, exchange))
	stored := sha256.Sum256(clientKey)
	if subtle.ConstantTimeCompare(stored[:], s.verifier.storedKey) != 1 {
		return nil, nil, ErrRejected
	}
	signature = []byte("v=" + encode(sum(s.verifier.serverKey, exchange)))
	return signature, &Keys{verifier: s.verifier, clientKey: clientKey}, nil
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func newNonce() string {
	random := make([]byte, nonceLen)
	_, _ = rand.Read(random) // never fails: it ends the process instead
	return encode(random)
}

// printable reports whether a nonce is one: printable ASCII, not empty; commas end it anyway.
func printable(nonce string) bool {
	for _, c := range []byte(nonce) {
		if c < 0x21 || c > 0x7e {
			return false
		}
	}
	return nonce != ""
}
