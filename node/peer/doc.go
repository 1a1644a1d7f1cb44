// Package peer is everything between nodes: one port, one handshake, and the streams behind it.
//
// A Mux listens on a TCP port with TLS 1.3. Both sides show a certificate of the cluster's CA, and the protocol that
// is agreed on in the handshake (ALPN) says whose stream it is: stage links (Links), raft (RaftLayer), memberlist's streams
// (GossipTransport, with its packets on the UDP port of the same number), HTTP between nodes (HandleHTTP, HTTPClient),
// and the join exchange, the only one without a client certificate (HandleJoin, Join). PROTOCOL.md is the specification.
//
// A Network makes the connections: TCP, or Memory, a network inside the process with cuts, delays and sudden deaths,
// which runs in virtual time under testing/synctest.
package peer

import "errors"

// The protocols of the peer port (ALPN).
const (
	ProtoStage  = "lamina-stage/1"
	ProtoRaft   = "lamina-raft/1"
	ProtoGossip = "lamina-gossip/1"
	ProtoHTTP   = "lamina-http/1"
	ProtoJoin   = "lamina-join/1"
)

// Errors, wrapped with the particulars.
var (
	// ErrClosed: the Mux, Links or network was closed.
	ErrClosed = errors.New("peer port is closed")
	// ErrLinkDown: there is no link to the node just now.
	ErrLinkDown = errors.New("link is down")
	// ErrQueueFull: the node takes frames more slowly than they come.
	ErrQueueFull = errors.New("link queue is full")
	// ErrProtocol: the other side does not keep to PROTOCOL.md.
	ErrProtocol = errors.New("protocol error")
	// ErrUnknownNode: no address is known for the node.
	ErrUnknownNode = errors.New("no address is known for the node")
	// ErrNotMember: the node may not take part in consensus.
	ErrNotMember = errors.New("node is not a member of the consensus")
	// ErrSilent: nothing was heard from the other side for too long.
	ErrSilent = errors.New("silent")
)
