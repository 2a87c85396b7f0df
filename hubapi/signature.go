package hubapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// SignatureWindow is how far a signed delivery's time may be from now.
const SignatureWindow = 5 * time.Minute

// ErrSignature says that a delivery is not to be believed. The reason is not told to whoever sent it.
var ErrSignature = errors.New("webhook signature does not match")

// WebhookVerifier tells HubSpot's deliveries from forgeries.
//
// HubSpot signs with version 3 (an HMAC over method, address, body and time) and, beside it, an older version, which
// legacy private apps have alone. A delivery with a version 3 signature is judged by that one only. The older ones cover no
// time, so that whoever has seen a delivery can send it again; they are refused unless Legacy is set.
type WebhookVerifier struct {
	Secret string // of the app's client
	Legacy bool   // accept versions 1 and 2 where there is no version 3
}

// Delivery is a request as it came in.
type Delivery struct {
	Method string
	URL    string // as HubSpot called it: https://host/path?query, also behind a proxy
	Header http.Header
	Body   []byte
}

// Verify returns nil, or ErrSignature. It takes the same time whatever part of a signature differs.
func (v WebhookVerifier) Verify(d Delivery, now time.Time) error {
	if v.Secret == "" {
		return ErrSignature
	}
	if signature := d.Header.Get("X-HubSpot-Signature-v3"); signature != "" {
		return v.verify3(d, signature, now)
	}
	signature := d.Header.Get("X-HubSpot-Signature")
	if !v.Legacy || signature == "" {
		return ErrSignature
	}
	sum := sha256.New()
	sum.Write([]byte(v.Secret))
	switch d.Header.Get("X-HubSpot-Signature-Version") {
	case "v1":
	case "v2":
		sum.Write([]byte(d.Method))
		sum.Write([]byte(d.URL))
	default:
		return ErrSignature
	}
	sum.Write(d.Body)
	return equal(hex.DecodeString, signature, sum.Sum(nil))
}

func (v WebhookVerifier) verify3(d Delivery, signature string, now time.Time) error {
	stamp := d.Header.Get("X-HubSpot-Request-Timestamp")
	ms, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return ErrSignature
	}
	if age := now.Sub(time.UnixMilli(ms)); age > SignatureWindow || age < -SignatureWindow {
		return ErrSignature
	}
	sum := hmac.New(sha256.New, []byte(v.Secret))
	sum.Write([]byte(d.Method))
	sum.Write([]byte(decodeAddress(d.URL)))
	sum.Write(d.Body)
	sum.Write([]byte(stamp))
	return equal(base64.StdEncoding.DecodeString, signature, sum.Sum(nil))
}

func equal(decode func(string) ([]byte, error), signature string, want []byte) error {
	got, err := decode(signature)
	if err != nil || !hmac.Equal(got, want) {
		return ErrSignature
	}
	return nil
}

// decodeAddress undoes the percent-encoding of the few characters that HubSpot signs plain, once and of no others.
func decodeAddress(address string) string {
	if !strings.Contains(address, "%") {
		return address
	}
	out := make([]byte, 0, len(address))
	for i := 0; i < len(address); i++ {
		if address[i] == '%' && i+2 < len(address) {
			if c := plainInSignature(address[i+1 : i+3]); c != 0 {
				out = append(out, c)
				i += 2
				continue
			}
		}
		out = append(out, address[i])
	}
	return string(out)
}

// plainInSignature returns the character of an encoding that is to be undone, 0 for all others.
func plainInSignature(code string) byte {
	switch strings.ToUpper(code) {
	case "3A":
		return ':'
	case "2F":
		return '/'
	case "3F":
		return '?'
	case "40":
		return '@'
	case "21":
		return '!'
	case "24":
		return '$'
	case "27":
		return '\''
	case "28":
		return '('
	case "29":
		return ')'
	case "2A":
		return '*'
	case "2C":
		return ','
	case "3B":
		return ';'
	}
	return 0
}
