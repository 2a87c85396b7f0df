package scram

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
)

// EndPoint is what binds a channel to a certificate: its hash by the function of its signature, SHA-256 where that is
// weaker (RFC 5929, section 4.1). It is nil for a signature without a hash function, such as Ed25519's, with which
// Postgres's clients cannot bind either.
func EndPoint(certificate *x509.Certificate) []byte {
	switch certificate.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.ECDSAWithSHA256, x509.SHA256WithRSAPSS:
		h := sha256.Sum256(certificate.Raw)
		return h[:]
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		h := sha512.Sum384(certificate.Raw)
		return h[:]
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		h := sha512.Sum512(certificate.Raw)
		return h[:]
	default:
		return nil
	}
}
