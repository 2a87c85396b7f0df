package scram

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Why a login with keys fails.
var (
	// ErrAnotherVerifier says that the server has another verifier than the one that the keys belong to.
	ErrAnotherVerifier = errors.New("the server's verifier is another")
	// ErrNotOffered says that the server knows no mechanism of this package.
	ErrNotOffered = errors.New("the server does not offer " + Mechanism)
	// ErrImpostor says that the server did not know the verifier.
	ErrImpostor = errors.New("the server did not prove that it knows the password")
)

// Client is the client's side of one exchange. It can begin before the keys are known.
type Client struct {
	binding []byte

	header, bare, nonce string
	signature           []byte // that the server must show
}

// NewClient begins an exchange with a server whose certificate has the hash binding, nil without TLS.
func NewClient(binding []byte) *Client { return &Client{binding: binding} }

// First chooses among the mechanisms offered and returns the first message.
func (c *Client) First(offered []string) (mechanism string, message []byte, err error) {
	switch {
	case c.binding != nil && slices.Contains(offered, MechanismPlus):
		mechanism, c.header = MechanismPlus, "p="+bindingType+",,"
	case !slices.Contains(offered, Mechanism):
		return "", nil, ErrNotOffered
	case c.binding != nil: // the server learns that somebody has taken its offer to bind away
		mechanism, c.header = Mechanism, "y,,"
	default:
		mechanism, c.header = Mechanism, "n,,"
	}
	if mechanism == Mechanism {
		c.binding = nil
	}
	c.nonce = newNonce()
	c.bare = "n=,r=" + c.nonce
	return mechanism, []byte(c.header + c.bare), nil
}

// Final answers the server's challenge with keys.
func (c *Client) Final(challenge []byte, keys *Keys) ([]byte, error) {
	nonce, rest, _ := strings.Cut(string(challenge), ",")
	salt, count, _ := strings.Cut(rest, ",")
	count, _, _ = strings.Cut(count, ",")
	nonce, okNonce := strings.CutPrefix(nonce, "r=")
	salt, okSalt := strings.CutPrefix(salt, "s=")
	count, okCount := strings.CutPrefix(count, "i=")
	if !okNonce || !okSalt || !okCount || c.nonce == "" || len(nonce) <= len(c.nonce) || !strings.HasPrefix(nonce, c.nonce) {
		return nil, fmt.Errorf("%w: challenge", ErrMalformed)
	}
	raw, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		return nil, fmt.Errorf("%w: challenge", ErrMalformed)
	}
	iterations, err := strconv.Atoi(count)
	if err != nil {
		return nil, fmt.Errorf("%w: challenge", ErrMalformed)
	}
	if !keys.sameSalt(raw, iterations) {
		return nil, ErrAnotherVerifier
	}
	unproven := "c=" + encode(append([]byte(c.header), c.binding...)) + ",r=" + nonce
	exchange := []byte(c.bare + "," + string(challenge) + "," + unproven)
	proof := xor(keys.clientKey, sum(keys.verifier.storedKey, exchange))
	c.signature = sum(keys.verifier.serverKey, exchange)
	return []byte(unproven + ",p=" + encode(proof)), nil
}

// Check takes the server's last message. A server that cannot sign knew no verifier.
func (c *Client) Check(message []byte) error {
	text, _, _ := strings.Cut(string(message), ",")
	text, ok := strings.CutPrefix(text, "v=")
	got, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || c.signature == nil || subtle.ConstantTimeCompare(got, c.signature) != 1 {
		return ErrImpostor
	}
	return nil
}
