package cluster

import (
	"fmt"
	"time"
)

// NodeID is the name of a node: 1 to 64 of letters, digits, dot, dash and underscore; unique in the cluster
// and bound to the node by its certificate.
type NodeID = string

// Member is a node that was admitted. Whether it is alive is gossip's to say; Down is what the leader
// last made of that.
type Member struct {
	ID      NodeID `json:"id"`
	Peer    string `json:"peer"` // host:port for peers
	HTTP    string `json:"http"` // host:port for clients
	Version string `json:"version"`
	// Incarnation grows with every start of the node (its start time in nanoseconds will do). A shard is
	// loaded in one incarnation; it does not outlive it.
	Incarnation uint64    `json:"incarnation"`
	Joined      time.Time `json:"joined"`
	// Down says that the leader declared this incarnation lost; Since when.
	Down  bool      `json:"down,omitempty"`
	Since time.Time `json:"since"`
	// Draining says that its layers are to be served by others: it gets nothing new.
	Draining bool `json:"draining,omitempty"`
}

// Blob is a content-addressed part of a model: "meta", "embed", "layer.0" and so on, "head".
type Blob struct {
	Name   string `json:"name"`
	Digest string `json:"digest"` // sha256: and 64 lower-case hex digits
	Size   int64  `json:"size"`   // bytes, as stored and as loaded
}

// Phase is where a placement stands in its life. The numbers are stored: never renumber.
type Phase uint8

// The phases, in order. A placement is served in Ready only; a Loading one becomes Ready when all its
// hops are, and Loading again when a node of it restarts. Draining finishes what runs and takes nothing new.
const (
	Planned  Phase = iota // agreed on; no hop is loaded
	Loading               // some hops are loaded
	Ready                 // every hop is loaded
	Draining              // replaced or taken back: running sequences finish
	Gone                  // over; nodes close their shards. Kept for its Reason until the next one of the model
)

// String returns the lower-case name of the phase.
func (p Phase) String() string {
	switch p {
	case Planned:
		return "planned"
	case Loading:
		return "loading"
	case Ready:
		return "ready"
	case Draining:
		return "draining"
	case Gone:
		return "gone"
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// Active reports whether the placement is meant to serve: planned, loading or ready.
func (p Phase) Active() bool { return p <= Ready }

// Hop is one stage of a placement: layers First to End (exclusive) on a node.
type Hop struct {
	Node  NodeID `json:"node"`
	First int    `json:"first"`
	End   int    `json:"end"`
	Ready bool   `json:"ready,omitempty"` // loaded by the node's current incarnation
}

// Placement is one replica of a model: hops in layer order that cover every layer once, on different nodes.
// Epoch is the index of the log entry that made it: unique, and the fencing number of its frames.
type Placement struct {
	Model    string    `json:"model"` // digest
	Epoch    uint64    `json:"epoch"`
	Replaces uint64    `json:"replaces,omitempty"` // epoch of the placement that drains when this one is ready
	Phase    Phase     `json:"phase"`
	Since    time.Time `json:"since"` // when it came into this phase, by the clock of the proposer
	Hops     []Hop     `json:"hops"`
	Reason   string    `json:"reason,omitempty"` // why it was made, loads again, drains or is gone
}

// On returns the placement's hop on a node, and its index in the route.
func (p Placement) On(node NodeID) (hop Hop, index int, ok bool) {
	for i, h := range p.Hops {
		if h.Node == node {
			return h, i, true
		}
	}
	return Hop{}, 0, false
}

// Failure remembers that a node could not load its span of a model, so that the planner tries elsewhere
// first. Count grows with every failure in a row.
type Failure struct {
	Model  string    `json:"model"` // digest
	Node   NodeID    `json:"node"`
	Reason string    `json:"reason"`
	Count  int       `json:"count"`
	At     time.Time `json:"at"`
}

// Token lets one node join. Only the hash of the secret is kept.
type Token struct {
	Hash    string    `json:"hash"` // sha256: and 64 lower-case hex digits, of the secret
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	UsedBy  NodeID    `json:"used_by,omitempty"`
	Used    time.Time `json:"used,omitzero"`
}

// Role is what a key's holder may do. The strings are stored: never rename.
type Role string

// The roles.
const (
	Admin Role = "admin" // everything
	User  Role = "user"  // ask models, list models
)

// Key is an API key. Only the hash of its secret is kept.
type Key struct {
	ID      string    `json:"id"`   // public part, 1 to 32 letters and digits
	Hash    string    `json:"hash"` // sha256: and 64 lower-case hex digits, of the secret
	Role    Role      `json:"role"`
	Note    string    `json:"note,omitempty"` // whose it is; free text
	Created time.Time `json:"created"`
}

// Settings are facts about the cluster as a whole. ClusterID and CAPin are set once.
type Settings struct {
	ClusterID string    `json:"cluster_id"`
	CAPin     string    `json:"ca_pin"` // sha256: and 64 lower-case hex digits, of the CA's public key (SPKI)
	Created   time.Time `json:"created,omitzero"`
}
