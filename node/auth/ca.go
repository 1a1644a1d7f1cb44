package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// Lifetimes of certificates, and how far clocks may be apart.
const (
	caLife   = 10 * 365 * 24 * time.Hour
	certLife = 30 * 24 * time.Hour
	skew     = 5 * time.Minute
)

// authority signs the nodes' certificates of one cluster.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes a CA for a new cluster. It may sign end certificates only.
func newAuthority(cluster string, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t, err := template("lamina cluster "+cluster, now, caLife)
	if err != nil {
		return nil, err
	}
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign
	t.URIs = []*url.URL{clusterURI(cluster)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert: cert, key: key}, err
}

// issue signs a certificate for a node's public key. The caller has checked the name and that the key is the node's.
func (a *authority) issue(cluster, name string, pub any, now time.Time) (*x509.Certificate, error) {
	t, err := template(name, now, certLife)
	if err != nil {
		return nil, err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	t.BasicConstraintsValid = true
	t.URIs = []*url.URL{nodeURI(cluster, name)}
	if t.NotAfter.After(a.cert.NotAfter) {
		t.NotAfter = a.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, pub, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func template(commonName string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    now,
		NotAfter:     now.Add(life),
	}, nil
}

// newRequest makes a node's key and the CSR for it.
func newRequest(name string) (csr []byte, key *ecdsa.PrivateKey, err error) {
	key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	return csr, key, err
}

// maxCSR bounds a certificate request; one for a P-256 key and a short name has about 250 bytes.
const maxCSR = 2048

// checkRequest reads a CSR from outside: a P-256 key, signed by itself, for exactly this name, and nothing else asked
// for. Errors wrap ErrRequest.
func checkRequest(csr []byte, name string) (*ecdsa.PublicKey, error) {
	if len(csr) > maxCSR {
		return nil, fmt.Errorf("%w: the certificate request has %d bytes, at most %d are taken", ErrRequest, len(csr), maxCSR)
	}
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate request: %w", ErrRequest, err)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: certificate request is not signed by its own key: %w", ErrRequest, err)
	}
	if r.Subject.CommonName != name {
		return nil, fmt.Errorf("%w: certificate request is for %.80q, the join request for %q", ErrRequest, r.Subject.CommonName, name)
	}
	if len(r.URIs)+len(r.DNSNames)+len(r.IPAddresses)+len(r.EmailAddresses)+len(r.Extensions) != 0 {
		return nil, fmt.Errorf("%w: certificate request asks for names or extensions of its own", ErrRequest)
	}
	pub, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: certificate request is not for an ECDSA P-256 key", ErrRequest)
	}
	return pub, nil
}

// pinOf is the hash of a certificate's public key (SPKI), sha256:hex.
func pinOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hashPrefix + hex.EncodeToString(sum[:])
}

// checkAuthority reads a CA certificate and says which cluster it is of.
func checkAuthority(der []byte) (*x509.Certificate, string, error) {
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, "", err
	}
	if !ca.IsCA || !ca.BasicConstraintsValid {
		return nil, "", errors.New("the certificate is not a CA's")
	}
	if err := ca.CheckSignatureFrom(ca); err != nil {
		return nil, "", fmt.Errorf("the CA's certificate is not signed by itself: %w", err)
	}
	cluster, err := clusterOf(ca)
	return ca, cluster, err
}

func encodeCert(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func decodePEM(data []byte, kind string) ([]byte, error) {
	b, rest := pem.Decode(data)
	if b == nil || b.Type != kind || len(rest) != 0 {
		return nil, fmt.Errorf("not one PEM block of type %s", kind)
	}
	return b.Bytes, nil
}

func decodeKey(data []byte) (*ecdsa.PrivateKey, error) {
	der, err := decodePEM(data, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	return parseKey(der)
}

// parseKey reads an ECDSA P-256 key in PKCS #8.
func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("not an ECDSA P-256 key")
	}
	return key, nil
}
