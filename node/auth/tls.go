package auth

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
)

// ServerTLS is for the side that is dialled by other nodes: TLS 1.3, both sides show a certificate of this cluster,
// one of protos (ALPN) must be agreed on.
func (id *Identity) ServerTLS(protos ...string) *tls.Config {
	c := id.base(protos)
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.cert.Load(), nil }
	c.ClientAuth = tls.RequireAnyClientCert // the chain is checked by verify, with our own rules for time and names
	c.VerifyConnection = func(cs tls.ConnectionState) error { return id.verify(cs, "") }
	return c
}

// JoinTLS is for the side that admits new nodes: it shows its certificate and the CA's, and asks for none.
func (id *Identity) JoinTLS(proto string) *tls.Config {
	c := id.base([]string{proto})
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.cert.Load(), nil }
	return c
}

// ClientTLS is for the side that dials another node. The other side must be a node of this cluster, and the node of that name
// if node is not empty.
func (id *Identity) ClientTLS(proto, node string) *tls.Config {
	c := id.base([]string{proto})
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.cert.Load(), nil }
	c.InsecureSkipVerify = true // nodes have URI names, not host names: verify checks chain, names and time
	c.VerifyConnection = func(cs tls.ConnectionState) error { return id.verify(cs, node) }
	return c
}

// PinnedTLS is for a node that is about to join: the other side must show a node's certificate that is signed by the CA whose
// public key has this hash. Nothing is sent before that is checked.
func PinnedTLS(proto, pin string) *tls.Config {
	c := (*Identity)(nil).base([]string{proto})
	c.InsecureSkipVerify = true // there is no CA to check against yet, only its pin: verifyPin does
	c.VerifyConnection = func(cs tls.ConnectionState) error { return verifyPin(cs, pin) }
	return c
}

func (*Identity) base(protos []string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protos,
		// A resumed session would carry the checks of an old one into the present.
		SessionTicketsDisabled: true,
		// Full records from the first byte: activations come in large frames.
		DynamicRecordSizingDisabled: true,
	}
}

// verify is the one check of a peer: certificate signed by our CA, for a node of our cluster, in time, and for the
// expected node if one is expected.
func (id *Identity) verify(cs tls.ConnectionState, want string) error {
	if cs.NegotiatedProtocol == "" {
		return fmt.Errorf("%w: it names no protocol (ALPN)", ErrPeer)
	}
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("%w: it shows no certificate", ErrPeer)
	}
	leaf := cs.PeerCertificates[0]
	name, err := verifyNode(leaf, id.ca.cert, id.cluster, time.Now())
	if err != nil {
		return err
	}
	if want != "" && name != want {
		return fmt.Errorf("%w: node %s answers where %s is expected", ErrPeer, name, want)
	}
	return nil
}

// verifyNode checks a node's certificate against a CA and returns the node's name.
func verifyNode(leaf, ca *x509.Certificate, cluster string, now time.Time) (string, error) {
	theirs, name, err := nodeOf(leaf)
	if err != nil {
		return "", err
	}
	if theirs != cluster {
		return "", fmt.Errorf("%w: node %s is of cluster %s, this is cluster %s", ErrPeer, name, theirs, cluster)
	}
	at := now
	for _, c := range []*x509.Certificate{leaf, ca} {
		if at, err = clamp(at, c); err != nil {
			return "", fmt.Errorf("%w: certificate of node %s: %w", ErrPeer, name, err)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots:       roots,
		CurrentTime: at,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return "", fmt.Errorf("%w: certificate of node %s: %w", ErrPeer, name, err)
	}
	return name, nil
}

// clamp moves now into the certificate's time if it is outside by no more than the clocks may differ.
func clamp(now time.Time, c *x509.Certificate) (time.Time, error) {
	switch {
	case now.Add(skew).Before(c.NotBefore):
		return now, fmt.Errorf("it begins at %s, here it is %s: set the clocks of both machines", c.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case now.Add(-skew).After(c.NotAfter):
		return now, fmt.Errorf("it was over at %s, here it is %s: set the clocks of both machines, or let the node join again", c.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return c.NotBefore, nil
	case now.After(c.NotAfter):
		return c.NotAfter, nil
	}
	return now, nil
}

// verifyPin looks for the CA with the pin in the chain and checks the first certificate against it.
func verifyPin(cs tls.ConnectionState, pin string) error {
	if cs.NegotiatedProtocol == "" {
		return fmt.Errorf("%w: it does not admit nodes (no ALPN)", ErrPeer)
	}
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("%w: it shows no certificate", ErrPeer)
	}
	for _, c := range cs.PeerCertificates[1:] {
		if pinOf(c) != pin {
			continue
		}
		ca, cluster, err := checkAuthority(c.Raw)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrPeer, err)
		}
		_, err = verifyNode(cs.PeerCertificates[0], ca, cluster, time.Now())
		return err
	}
	return fmt.Errorf("%w: it does not belong to the cluster of the join string (its CA has another pin)", ErrPeer)
}

// PeerName is the name of the node at the other end of a connection made with ServerTLS or ClientTLS.
func PeerName(cs tls.ConnectionState) (string, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", fmt.Errorf("%w: it shows no certificate", ErrPeer)
	}
	_, name, err := nodeOf(cs.PeerCertificates[0])
	return name, err
}
