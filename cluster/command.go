package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Command is one agreed change. The set is closed: the types below.
//
// What Validate accepts is part of the meaning of the log, for Apply refuses what it refuses. A rule is
// therefore only ever changed under a new kind.
type Command interface {
	// Kind is the number the command has in the log.
	Kind() Kind
	// Validate checks the command by itself, before it is proposed. Errors wrap ErrInvalid.
	Validate() error
	// apply changes s, whose slices are shared with older states and are cloned before they are written to.
	apply(s *State, index uint64) error
}

// Kind numbers the commands in the log. Append only, never renumber.
type Kind uint16

// The kinds.
const (
	KindMemberUp     Kind = 1
	KindMemberDown   Kind = 2
	KindRemoveMember Kind = 3
	KindAddModel     Kind = 4
	KindRemoveModel  Kind = 5
	KindPlace        Kind = 6
	KindHopReady     Kind = 7
	KindHopFailed    Kind = 8
	KindDrain        Kind = 9
	KindDrop         Kind = 10
	KindAddToken     Kind = 11
	KindUseToken     Kind = 12
	KindAddKey       Kind = 13
	KindRemoveKey    Kind = 14
	KindSetSettings  Kind = 15
	KindDrainNode    Kind = 16
)

// MemberUp admits a node or says that it is back. A higher incarnation than the known one makes its hops
// not ready; a lower one is refused as stale; the same one updates addresses and version.
type MemberUp struct {
	Member Member    `json:"member"` // Joined, Down and Since are ignored
	At     time.Time `json:"at"`
}

// MemberDown is the leader's finding that an incarnation is lost: its hops are not ready any more.
type MemberDown struct {
	Node        NodeID    `json:"node"`
	Incarnation uint64    `json:"incarnation"`
	At          time.Time `json:"at"`
}

// RemoveMember takes a node out for good; placements that need it are gone.
type RemoveMember struct {
	Node NodeID    `json:"node"`
	At   time.Time `json:"at"`
}

// DrainNode asks for a node's layers to be served elsewhere, or, with Off, takes that back. A node that drains gets nothing
// new; what it holds goes on serving until it has been placed on other nodes, where there is room. It stays so over
// restarts of the node.
type DrainNode struct {
	Node NodeID    `json:"node"`
	Off  bool      `json:"off,omitempty"`
	At   time.Time `json:"at"`
}

// AddModel makes a model known. The same name with another digest is refused (ErrExists); with the same
// digest it only sets the wishes Stages and Replicas.
type AddModel struct {
	Model Model     `json:"model"` // Created is set from At
	At    time.Time `json:"at"`
}

// RemoveModel forgets a name, and with the last name of a digest its placements.
type RemoveModel struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
}

// Place makes a placement; its epoch is the index of this command. If Replaces is not 0, that placement of
// the same model drains as soon as this one is ready, and not before.
type Place struct {
	Model    string    `json:"model"` // digest
	Hops     []Hop     `json:"hops"`  // Ready is ignored
	Replaces uint64    `json:"replaces,omitempty"`
	Reason   string    `json:"reason,omitempty"` // why it is made; for people
	At       time.Time `json:"at"`
}

// HopReady is a node's word that it has loaded its span of the placement.
type HopReady struct {
	Epoch       uint64    `json:"epoch"`
	Node        NodeID    `json:"node"`
	Incarnation uint64    `json:"incarnation"`
	At          time.Time `json:"at"`
}

// HopFailed is a node's word that it cannot load, or no longer serve, its span. The placement is gone and
// the failure remembered.
type HopFailed struct {
	Epoch       uint64    `json:"epoch"`
	Node        NodeID    `json:"node"`
	Incarnation uint64    `json:"incarnation"`
	Reason      string    `json:"reason"`
	At          time.Time `json:"at"`
}

// Drain ends the service of a placement: what runs finishes.
type Drain struct {
	Epoch  uint64    `json:"epoch"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Drop ends a placement at once.
type Drop struct {
	Epoch  uint64    `json:"epoch"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// AddToken makes a join token known by the hash of its secret. Tokens that are expired at At are forgotten.
type AddToken struct {
	Hash    string    `json:"hash"`
	Expires time.Time `json:"expires"`
	At      time.Time `json:"at"`
}

// UseToken spends a join token for a node; refused with ErrToken if it is unknown, spent (even by the same
// node: who repeats a join may be somebody else) or expired at At.
type UseToken struct {
	Hash string    `json:"hash"`
	Node NodeID    `json:"node"`
	At   time.Time `json:"at"`
}

// AddKey makes an API key known. The same id with another hash or role is refused (ErrExists).
type AddKey struct {
	Key Key       `json:"key"` // Created is set from At
	At  time.Time `json:"at"`
}

// RemoveKey revokes an API key.
type RemoveKey struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

// SetSettings sets the facts about the cluster. ClusterID and CAPin cannot be changed once set.
type SetSettings struct {
	Settings Settings  `json:"settings"` // Created is set from At, once
	At       time.Time `json:"at"`
}

// Kind implements Command.
func (MemberUp) Kind() Kind { return KindMemberUp }

// Kind implements Command.
func (MemberDown) Kind() Kind { return KindMemberDown }

// Kind implements Command.
func (RemoveMember) Kind() Kind { return KindRemoveMember }

// Kind implements Command.
func (DrainNode) Kind() Kind { return KindDrainNode }

// Kind implements Command.
func (AddModel) Kind() Kind { return KindAddModel }

// Kind implements Command.
func (RemoveModel) Kind() Kind { return KindRemoveModel }

// Kind implements Command.
func (Place) Kind() Kind { return KindPlace }

// Kind implements Command.
func (HopReady) Kind() Kind { return KindHopReady }

// Kind implements Command.
func (HopFailed) Kind() Kind { return KindHopFailed }

// Kind implements Command.
func (Drain) Kind() Kind { return KindDrain }

// Kind implements Command.
func (Drop) Kind() Kind { return KindDrop }

// Kind implements Command.
func (AddToken) Kind() Kind { return KindAddToken }

// Kind implements Command.
func (UseToken) Kind() Kind { return KindUseToken }

// Kind implements Command.
func (AddKey) Kind() Kind { return KindAddKey }

// Kind implements Command.
func (RemoveKey) Kind() Kind { return KindRemoveKey }

// Kind implements Command.
func (SetSettings) Kind() Kind { return KindSetSettings }

// MaxCommand is the largest encoded command, in bytes.
const MaxCommand = 1 << 20

// commandVersion is the version of the envelope.
const commandVersion = 1

// envelope is how a command stands in the log.
type envelope struct {
	Version int             `json:"v"`
	Kind    Kind            `json:"kind"`
	Data    json.RawMessage `json:"data"`
}

// EncodeCommand validates a command and returns its bytes for the log.
func EncodeCommand(c Command) ([]byte, error) {
	if c == nil {
		return nil, fmt.Errorf("%w: no command", ErrInvalid)
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("%w: kind %d: %w", ErrInvalid, c.Kind(), err)
	}
	out, err := json.Marshal(envelope{commandVersion, c.Kind(), data})
	if err != nil {
		return nil, fmt.Errorf("%w: kind %d: %w", ErrInvalid, c.Kind(), err)
	}
	if len(out) > MaxCommand {
		return nil, fmt.Errorf("%w: kind %d has %d bytes encoded, at most %d", ErrInvalid, c.Kind(), len(out), MaxCommand)
	}
	return out, nil
}

// DecodeCommand reads what EncodeCommand wrote. A kind, version or field that this program does not know
// is ErrUnknownCommand; anything else that cannot be read is ErrInvalid. The command is not validated.
func DecodeCommand(data []byte) (Command, error) {
	if len(data) > MaxCommand {
		return nil, fmt.Errorf("%w: %d bytes encoded, at most %d", ErrInvalid, len(data), MaxCommand)
	}
	var e envelope
	if err := strictJSON(data, &e); err != nil {
		return nil, fmt.Errorf("%w: envelope: %w", ErrInvalid, err)
	}
	if e.Version != commandVersion {
		return nil, fmt.Errorf("%w: version %d", ErrUnknownCommand, e.Version)
	}
	return decodeBody(e.Kind, e.Data)
}

// decodeBody is the table of kinds.
func decodeBody(kind Kind, data []byte) (Command, error) {
	switch kind {
	case KindMemberUp:
		return body[MemberUp](data)
	case KindMemberDown:
		return body[MemberDown](data)
	case KindRemoveMember:
		return body[RemoveMember](data)
	case KindDrainNode:
		return body[DrainNode](data)
	case KindAddModel:
		return body[AddModel](data)
	case KindRemoveModel:
		return body[RemoveModel](data)
	case KindPlace:
		return body[Place](data)
	case KindHopReady:
		return body[HopReady](data)
	case KindHopFailed:
		return body[HopFailed](data)
	case KindDrain:
		return body[Drain](data)
	case KindDrop:
		return body[Drop](data)
	case KindAddToken:
		return body[AddToken](data)
	case KindUseToken:
		return body[UseToken](data)
	case KindAddKey:
		return body[AddKey](data)
	case KindRemoveKey:
		return body[RemoveKey](data)
	case KindSetSettings:
		return body[SetSettings](data)
	}
	return nil, fmt.Errorf("%w: kind %d", ErrUnknownCommand, kind)
}

// body reads one command. A field it does not know means that the writer is newer.
func body[T Command](data []byte) (Command, error) {
	var c T
	if err := strictJSON(data, &c); err != nil {
		return nil, fmt.Errorf("%w: kind %d: %w", ErrUnknownCommand, c.Kind(), err)
	}
	return c, nil
}

// strictJSON decodes exactly one value without unknown fields.
func strictJSON(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}
