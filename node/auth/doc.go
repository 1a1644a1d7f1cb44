// Package auth says who is who in a cluster: the certificate authority, the nodes' certificates, join tokens, API keys
// and the files that hold a node's identity.
//
// A cluster is its CA. `lamina up` makes one (ECDSA P-256) together with a cluster id; every node holds a certificate
// with the URI name lamina://CLUSTER/node/NAME, valid for 30 days and renewed at two thirds of that. Peers speak
// TLS 1.3 only and check each other's chain, cluster and time (with five minutes of tolerance) in one place, verify.
//
// A new node needs a join string, HOST:PORT/TOKEN@sha256:PIN. The pin is the hash of the CA's public key: the
// joiner checks it before it sends the token, so a stranger at the address learns nothing. The token works once; the cluster keeps only its hash.
//
// A limit of this release: the answer to a join carries the CA's private key and the gossip key, so that every node can admit others
// and none is a head. A node that is taken over can therefore make certificates for any name. The cluster is the boundary of trust.
package auth

import "errors"

// Errors, wrapped with the particulars.
var (
	// ErrNoIdentity: the data directory holds no identity yet; run `lamina up` or `lamina join`.
	ErrNoIdentity = errors.New("no identity")
	// ErrIdentity: the identity in the data directory cannot be used as it is, or is another one than asked for.
	ErrIdentity = errors.New("it cannot be used")
	// ErrName: a node name that is not allowed.
	ErrName = errors.New("invalid node name")
	// ErrJoinString: not a join string.
	ErrJoinString = errors.New("invalid join string")
	// ErrRequest: a join request that cannot be granted as it stands.
	ErrRequest = errors.New("invalid join request")
	// ErrPeer: the other side of a connection is not who it must be.
	ErrPeer = errors.New("peer not accepted")
	// ErrKey: an API key that is malformed, unknown or revoked.
	ErrKey = errors.New("invalid API key")
)
