package auth

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// JoinVersion is the version of the join exchange.
const JoinVersion = 1

// maxSeeds bounds the addresses in a JoinResponse.
const maxSeeds = 16

// JoinRequest asks to be admitted. It goes to a node whose CA has been checked against the pin.
type JoinRequest struct {
	Version int    `msgpack:"version"`
	Token   string `msgpack:"token"`
	Name    string `msgpack:"name"` // that the new node wants
	CSR     []byte `msgpack:"csr"`  // PKCS #10, DER
}

// JoinResponse admits a node. In this release it carries the CA's key too (see the package comment).
type JoinResponse struct {
	Cluster   string   `msgpack:"cluster"`
	CA        []byte   `msgpack:"ca"`   // certificate, DER
	Cert      []byte   `msgpack:"cert"` // certificate of the new node, DER
	CAKey     []byte   `msgpack:"ca_key"`
	GossipKey []byte   `msgpack:"gossip_key"`
	Seeds     []string `msgpack:"seeds"` // peer addresses of nodes to begin with
}

// Joiner is a node on its way into a cluster: it keeps the key that the request is for.
type Joiner struct {
	dir  string
	name string
	join JoinString
	csr  []byte
	key  *ecdsa.PrivateKey
}

// NewJoiner begins to join with the name and a data directory, which must not hold an identity yet.
func NewJoiner(dir, name string, join JoinString) (*Joiner, error) {
	if err := prepare(dir, name); err != nil {
		return nil, err
	}
	csr, key, err := newRequest(name)
	if err != nil {
		return nil, err
	}
	return &Joiner{dir: dir, name: name, join: join, csr: csr, key: key}, nil
}

// Request is what to send.
func (j *Joiner) Request() JoinRequest {
	return JoinRequest{Version: JoinVersion, Token: j.join.Token, Name: j.name, CSR: j.csr}
}

// Finish checks the answer against the pin and the request and writes the identity into the data directory.
func (j *Joiner) Finish(r JoinResponse) (*Identity, error) {
	id, err := j.identity(r)
	if err != nil {
		return nil, fmt.Errorf("%w: the answer to the join request: %w", ErrPeer, err)
	}
	return id, id.save()
}

func (j *Joiner) identity(r JoinResponse) (*Identity, error) {
	ca, cluster, err := checkAuthority(r.CA)
	if err != nil {
		return nil, err
	}
	if pinOf(ca) != j.join.Pin || cluster != r.Cluster {
		return nil, errors.New("it is from another cluster than the join string's")
	}
	if len(r.GossipKey) != gossipKeyLen {
		return nil, fmt.Errorf("its gossip key has %d bytes", len(r.GossipKey))
	}
	seeds, err := checkSeeds(r.Seeds)
	if err != nil {
		return nil, err
	}
	id := &Identity{dir: j.dir, cluster: cluster, ca: &authority{cert: ca}, key: j.key, gossip: r.GossipKey, seeds: seeds}
	if len(r.CAKey) > 0 {
		if id.ca.key, err = parseKey(r.CAKey); err != nil {
			return nil, fmt.Errorf("its CA key: %w", err)
		}
	}
	cert, err := x509.ParseCertificate(r.Cert)
	if err != nil {
		return nil, err
	}
	if err := id.adopt(cert); err != nil {
		return nil, err
	}
	if id.name != j.name {
		return nil, fmt.Errorf("it is for the name %s, not %s", id.name, j.name)
	}
	_, err = verifyNode(cert, ca, cluster, time.Now())
	return id, err
}

func checkSeeds(seeds []string) ([]string, error) {
	if len(seeds) > maxSeeds {
		return nil, fmt.Errorf("it names %d seeds, at most %d are taken", len(seeds), maxSeeds)
	}
	for _, s := range seeds {
		if _, _, err := net.SplitHostPort(s); err != nil || len(s) > 256 {
			return nil, fmt.Errorf("seed %.80q is not HOST:PORT", s)
		}
	}
	return slices.Clone(seeds), nil
}

// Check says whether a join request could be granted, before its token is spent: version, name, CSR, and that
// this node can sign. Errors wrap ErrRequest.
func (id *Identity) Check(r JoinRequest) error {
	if r.Version != JoinVersion {
		return fmt.Errorf("%w: version %d of the exchange, this node speaks %d: use the same release of lamina", ErrRequest, r.Version, JoinVersion)
	}
	if err := CheckName(r.Name); err != nil {
		return fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if !isBase32(r.Token, tokenLen) {
		return fmt.Errorf("%w: not a join token", ErrRequest)
	}
	if id.ca.key == nil {
		return fmt.Errorf("%w: this node may not admit others", ErrRequest)
	}
	_, err := checkRequest(r.CSR, r.Name)
	return err
}

// Admit signs the certificate of a new node. The caller has spent the token and made sure that the name is free.
// Errors wrap ErrRequest.
func (id *Identity) Admit(r JoinRequest, seeds []string) (JoinResponse, error) {
	if err := id.Check(r); err != nil {
		return JoinResponse{}, err
	}
	pub, err := checkRequest(r.CSR, r.Name)
	if err != nil {
		return JoinResponse{}, err
	}
	cert, err := id.ca.issue(id.cluster, r.Name, pub, time.Now())
	if err != nil {
		return JoinResponse{}, err
	}
	caKey, err := x509.MarshalPKCS8PrivateKey(id.ca.key)
	if err != nil {
		return JoinResponse{}, err
	}
	return JoinResponse{
		Cluster: id.cluster, CA: id.ca.cert.Raw, Cert: cert.Raw, CAKey: caKey, GossipKey: id.GossipKey(),
		Seeds: seeds[:min(len(seeds), maxSeeds)],
	}, nil
}

// Rejoin loads the identity in dir for a node that is started with a join string again: it must be of the join string's
// cluster and have this name. ErrNoIdentity: the node has to join first.
func Rejoin(dir, name string, join JoinString) (*Identity, error) {
	id, err := Load(dir)
	if err != nil {
		return nil, err
	}
	if id.Pin() != join.Pin {
		return nil, fmt.Errorf("%w: %s, the join string is of another cluster: give another data directory", ErrIdentity, id.belongs())
	}
	return id, id.named(name)
}

// Open loads the identity in dir, which must have this name.
func Open(dir, name string) (*Identity, error) {
	id, err := Load(dir)
	if err != nil {
		return nil, err
	}
	return id, id.named(name)
}

func (id *Identity) named(name string) error {
	if id.name != name {
		return fmt.Errorf("%w: %s: start it as %s, or give %s another data directory", ErrIdentity, id.belongs(), id.name, name)
	}
	return nil
}
