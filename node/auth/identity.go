package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// gossipKeyLen makes memberlist use AES-256.
const gossipKeyLen = 32

// Identity is who this node is: its name, its cluster, its key and certificate. It is safe for concurrent use; only Renew changes
// it, and only the certificate.
type Identity struct {
	dir     string
	name    string
	cluster string
	ca      *authority // its key is nil on a node that may not admit others
	key     *ecdsa.PrivateKey
	cert    atomic.Pointer[tls.Certificate]
	gossip  []byte
	seeds   []string
}

// Init makes a new cluster with this node as its first, and writes its files into dir, which is made if need be. It fails if dir
// holds an identity already.
func Init(dir, name string) (*Identity, error) {
	if err := prepare(dir, name); err != nil {
		return nil, err
	}
	now := time.Now()
	cluster := newClusterID()
	ca, err := newAuthority(cluster, now)
	if err != nil {
		return nil, err
	}
	_, key, err := newRequest(name)
	if err != nil {
		return nil, err
	}
	cert, err := ca.issue(cluster, name, key.Public(), now)
	if err != nil {
		return nil, err
	}
	gossip := make([]byte, gossipKeyLen)
	_, _ = rand.Read(gossip) // never fails: crypto/rand
	id := &Identity{dir: dir, name: name, cluster: cluster, ca: ca, key: key, gossip: gossip}
	id.setCert(cert)
	return id, id.save()
}

// prepare checks the name and makes the directory, which must not hold an identity.
func prepare(dir, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	there, err := exists(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if !there {
		return nil
	}
	old, err := Load(dir)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s; give another data directory", ErrIdentity, old.belongs())
}

// belongs says whose the data directory is.
func (id *Identity) belongs() string {
	return fmt.Sprintf("the data directory %s belongs to node %s of cluster %s", id.dir, id.name, id.cluster)
}

// Load reads the identity in dir: ErrNoIdentity if there is none, an error that wraps ErrIdentity and says what to do if it is
// damaged. A certificate that is due (or, after a long rest, over) is renewed where this node holds the CA's key.
func Load(dir string) (*Identity, error) {
	there, err := exists(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if !there {
		return nil, fmt.Errorf("%w in the data directory %s", ErrNoIdentity, dir)
	}
	id, err := load(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: the data directory %s is damaged: %w; restore it, or remove it and join again", ErrIdentity, dir, err)
	}
	if _, err := id.Renew(time.Now()); err != nil {
		return nil, err
	}
	return id, nil
}

func load(dir string) (*Identity, error) {
	id := &Identity{dir: dir, ca: &authority{}}
	der, err := readPEM(dir, fileCACert, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	if id.ca.cert, id.cluster, err = checkAuthority(der); err != nil {
		return nil, fmt.Errorf("%s: %w", fileCACert, err)
	}
	if der, err = readPEM(dir, fileNodeCert, "CERTIFICATE"); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", fileNodeCert, err)
	}
	if id.key, err = readKey(dir, fileNodeKey); err != nil {
		return nil, err
	}
	if id.ca.key, err = readKey(dir, fileCAKey); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := id.loadGossip(); err != nil {
		return nil, err
	}
	return id, id.adopt(cert)
}

// adopt takes a certificate as this node's after checking that it fits the CA and the keys. Its time is not checked here.
func (id *Identity) adopt(cert *x509.Certificate) error {
	cluster, name, err := nodeOf(cert)
	if err != nil {
		return err
	}
	if cluster != id.cluster {
		return fmt.Errorf("the node's certificate is of cluster %s, the CA's of %s", cluster, id.cluster)
	}
	if err := cert.CheckSignatureFrom(id.ca.cert); err != nil {
		return fmt.Errorf("the node's certificate is not signed by the CA: %w", err)
	}
	if !id.key.PublicKey.Equal(cert.PublicKey) {
		return errors.New("the node's key and certificate do not belong together")
	}
	if id.ca.key != nil && !id.ca.key.PublicKey.Equal(id.ca.cert.PublicKey) {
		return errors.New("the CA's key and certificate do not belong together")
	}
	id.name = name
	id.setCert(cert)
	return nil
}

func (id *Identity) loadGossip() error {
	data, err := readFile(id.dir, fileGossipKey)
	if err != nil {
		return err
	}
	id.gossip, err = base64.StdEncoding.DecodeString(trimLine(data))
	if err != nil || len(id.gossip) != gossipKeyLen {
		return fmt.Errorf("%s does not hold a key of %d bytes", fileGossipKey, gossipKeyLen)
	}
	data, err = readFile(id.dir, fileSeeds)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	id.seeds = strings.Fields(string(data))
	return nil
}

// save writes all files, the node's certificate last.
func (id *Identity) save() error {
	nodeKey, err := encodeKey(id.key)
	if err != nil {
		return err
	}
	files := []struct {
		name string
		data []byte
	}{
		{fileGossipKey, []byte(base64.StdEncoding.EncodeToString(id.gossip) + "\n")},
		{fileSeeds, []byte(strings.Join(id.seeds, "\n") + "\n")},
		{fileCACert, encodeCert(id.ca.cert)},
		{fileNodeKey, nodeKey},
		{fileNodeCert, encodeCert(id.cert.Load().Leaf)},
	}
	if id.ca.key != nil {
		caKey, err := encodeKey(id.ca.key)
		if err != nil {
			return err
		}
		if err := writeFile(id.dir, fileCAKey, caKey); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	for _, f := range files {
		if err := writeFile(id.dir, f.name, f.data); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	return nil
}

func (id *Identity) setCert(cert *x509.Certificate) {
	id.cert.Store(&tls.Certificate{
		Certificate: [][]byte{cert.Raw, id.ca.cert.Raw}, // with the CA's, so that a joiner can check the pin
		PrivateKey:  id.key,
		Leaf:        cert,
	})
}

// Name is the node's name.
func (id *Identity) Name() string { return id.name }

// Cluster is the id of the cluster.
func (id *Identity) Cluster() string { return id.cluster }

// Pin is the hash of the CA's public key, sha256:hex, as it stands in join strings.
func (id *Identity) Pin() string { return pinOf(id.ca.cert) }

// GossipKey returns the 32 bytes that encrypt gossip.
func (id *Identity) GossipKey() []byte { return slices.Clone(id.gossip) }

// Seeds are the peer addresses that the cluster named when this node joined; none on the first node.
func (id *Identity) Seeds() []string { return slices.Clone(id.seeds) }

// Expires is the end of the present certificate.
func (id *Identity) Expires() time.Time { return id.cert.Load().Leaf.NotAfter }

// RenewAt is when the present certificate is due: at two thirds of its life.
func (id *Identity) RenewAt() time.Time {
	c := id.cert.Load().Leaf
	return c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 3)
}

// Renew makes a new certificate for the same key if the present one is due at now, and reports whether it did. Connections that
// are made from then on use it. Without the CA's key it does nothing until the certificate is over, then it fails.
func (id *Identity) Renew(now time.Time) (bool, error) {
	if now.Before(id.RenewAt()) {
		return false, nil
	}
	if id.ca.key == nil {
		if now.After(id.Expires()) {
			return false, fmt.Errorf("%w: the certificate of node %s is over since %s and this node cannot renew it: join again", ErrIdentity, id.name, id.Expires().Format(time.RFC3339))
		}
		return false, nil
	}
	cert, err := id.ca.issue(id.cluster, id.name, id.key.Public(), now)
	if err != nil {
		return false, err
	}
	if err := writeFile(id.dir, fileNodeCert, encodeCert(cert)); err != nil {
		return false, fmt.Errorf("renew the certificate: %w", err)
	}
	id.setCert(cert)
	return true, nil
}

// KeepFresh renews the certificate whenever it is due, until ctx is done. What fails is logged and tried again every hour.
func (id *Identity) KeepFresh(ctx context.Context, log *slog.Logger) {
	for {
		wait := max(time.Until(id.RenewAt()), time.Hour)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		switch renewed, err := id.Renew(time.Now()); {
		case err != nil:
			log.Error("certificate not renewed", "err", err)
		case renewed:
			log.Info("certificate renewed", "expires", id.Expires())
		}
	}
}

func readPEM(dir, name, kind string) ([]byte, error) {
	data, err := readFile(dir, name)
	if err != nil {
		return nil, err
	}
	der, err := decodePEM(data, kind)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return der, nil
}

func readKey(dir, name string) (*ecdsa.PrivateKey, error) {
	data, err := readFile(dir, name)
	if err != nil {
		return nil, err
	}
	key, err := decodeKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return key, nil
}

func trimLine(b []byte) string { return strings.TrimSpace(string(b)) }
