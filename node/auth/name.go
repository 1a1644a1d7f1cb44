package auth

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
)

// scheme of the URI names in certificates: lamina://CLUSTER for the CA, lamina://CLUSTER/node/NAME for a node.
const scheme = "lamina"

// CheckName says whether a node may have this name: 1 to 63 lower-case letters, digits, dots, dashes and underscores,
// the first a letter or digit. Errors wrap ErrName.
func CheckName(name string) error {
	ok := name != "" && len(name) <= 63
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || i > 0 && (c == '-' || c == '.' || c == '_')
	}
	if !ok {
		return fmt.Errorf("%w %.80q: use 1 to 63 lower-case letters, digits, '.', '-' and '_', beginning with a letter or digit", ErrName, name)
	}
	return nil
}

// newClusterID returns 16 random letters and digits (80 bits).
func newClusterID() string { return strings.ToLower(rand.Text()[:16]) }

// checkCluster keeps the id of a cluster to what newClusterID makes.
func checkCluster(id string) error {
	ok := len(id) == 16
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		ok = c >= 'a' && c <= 'z' || c >= '2' && c <= '7'
	}
	if !ok {
		return fmt.Errorf("%w: %.80q is not the id of a cluster", ErrPeer, id)
	}
	return nil
}

func clusterURI(cluster string) *url.URL { return &url.URL{Scheme: scheme, Host: cluster} }

func nodeURI(cluster, name string) *url.URL {
	return &url.URL{Scheme: scheme, Host: cluster, Path: "/node/" + name}
}

// clusterOf reads the cluster id of a CA certificate.
func clusterOf(ca *x509.Certificate) (string, error) {
	if len(ca.URIs) != 1 || ca.URIs[0].Scheme != scheme || ca.URIs[0].String() != clusterURI(ca.URIs[0].Host).String() {
		return "", fmt.Errorf("%w: the CA's certificate names no cluster", ErrPeer)
	}
	return ca.URIs[0].Host, checkCluster(ca.URIs[0].Host)
}

// nodeOf reads cluster id and node name of a node's certificate.
func nodeOf(cert *x509.Certificate) (cluster, name string, err error) {
	if len(cert.URIs) != 1 {
		return "", "", fmt.Errorf("%w: its certificate has %d URI names, 1 is expected", ErrPeer, len(cert.URIs))
	}
	u := cert.URIs[0]
	name, ok := strings.CutPrefix(u.Path, "/node/")
	if !ok || u.String() != nodeURI(u.Host, name).String() {
		return "", "", fmt.Errorf("%w: its certificate is for %.120q, not for a node", ErrPeer, u)
	}
	if err := checkCluster(u.Host); err != nil {
		return "", "", err
	}
	if err := CheckName(name); err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrPeer, err)
	}
	return u.Host, name, nil
}
