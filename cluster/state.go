package cluster

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// State is all that the peers agree on. It is a value: Apply returns a new one and never writes to slices
// that an older one shares, so a State may be kept and read without locks. Readers must not write to it.
//
// Members are sorted by ID, Models by Name, Placements by Epoch, Failures by Model and Node, Tokens by Hash,
// Keys by ID. The zero value is the state of a new cluster.
type State struct {
	// Index is the log index of the last command that was accepted.
	Index      uint64      `json:"index"`
	Settings   Settings    `json:"settings"`
	Members    []Member    `json:"members,omitempty"`
	Models     []Model     `json:"models,omitempty"`
	Placements []Placement `json:"placements,omitempty"`
	Failures   []Failure   `json:"failures,omitempty"`
	Tokens     []Token     `json:"tokens,omitempty"`
	Keys       []Key       `json:"keys,omitempty"`
}

// Apply returns the state after the command at that log index. A refused command leaves the state as it
// was; the error wraps a sentinel of this package. Equal states and commands give equal results.
func (s State) Apply(index uint64, c Command) (State, error) {
	if c == nil {
		return s, fmt.Errorf("%w: no command", ErrInvalid)
	}
	if err := c.Validate(); err != nil {
		return s, err
	}
	next := s
	if err := c.apply(&next, index); err != nil {
		return s, err
	}
	next.Index = index
	return next, nil
}

// Member returns the member of that name.
func (s State) Member(id NodeID) (Member, bool) { return get(s.Members, id, memberKey) }

// Model returns the model of that name.
func (s State) Model(name string) (Model, bool) { return get(s.Models, name, modelKey) }

// ModelByDigest returns the first model, by name, that has that content.
func (s State) ModelByDigest(digest string) (Model, bool) {
	for _, m := range s.Models {
		if m.Digest == digest {
			return m, true
		}
	}
	return Model{}, false
}

// Placement returns the placement of that epoch.
func (s State) Placement(epoch uint64) (Placement, bool) {
	for _, p := range s.Placements {
		if p.Epoch == epoch {
			return p, true
		}
	}
	return Placement{}, false
}

// PlacementsOf returns the placements of a model's content, in order of their epochs.
func (s State) PlacementsOf(digest string) []Placement {
	var out []Placement
	for _, p := range s.Placements {
		if p.Model == digest {
			out = append(out, p)
		}
	}
	return out
}

// Key returns the API key with that public id.
func (s State) Key(id string) (Key, bool) { return get(s.Keys, id, keyKey) }

// Token returns the join token with that hash.
func (s State) Token(hash string) (Token, bool) { return get(s.Tokens, hash, tokenKey) }

func memberKey(m Member) string   { return m.ID }
func modelKey(m Model) string     { return m.Name }
func keyKey(k Key) string         { return k.ID }
func tokenKey(t Token) string     { return t.Hash }
func failureKey(f Failure) string { return f.Model + " " + f.Node }

// find returns where key is, or would be, in a slice sorted by it.
func find[T any](list []T, key string, of func(T) string) (int, bool) {
	return slices.BinarySearchFunc(list, key, func(t T, k string) int { return strings.Compare(of(t), k) })
}

func get[T any](list []T, key string, of func(T) string) (T, bool) {
	if i, ok := find(list, key, of); ok {
		return list[i], true
	}
	var zero T
	return zero, false
}

// put returns a copy of the sorted slice with v in its place.
func put[T any](list []T, v T, of func(T) string) []T {
	i, ok := find(list, of(v), of)
	out := make([]T, 0, len(list)+1)
	out = append(out, list[:i]...)
	out = append(out, v)
	if ok {
		i++
	}
	return append(out, list[i:]...)
}

// without returns a copy of the slice that lacks what gone says; nil if nothing is left.
func without[T any](list []T, gone func(T) bool) []T {
	var out []T
	for _, v := range list {
		if !gone(v) {
			out = append(out, v)
		}
	}
	return out
}

// stateVersion is the newest version of the encoding. It grows with every new field, for an older program that
// dropped a field it does not know would part ways with its peers. A state that does without the newer fields is written
// in the version that has all it needs, so that nodes of both programs can share a cluster until a new feature is used.
//
//	2: Member.Draining
const stateVersion = 2

// version is the oldest encoding that holds all of the state.
func (s State) version() int {
	if slices.ContainsFunc(s.Members, func(m Member) bool { return m.Draining }) {
		return 2
	}
	return 1
}

// MaxState is the largest encoded state, in bytes.
const MaxState = 256 << 20

type encodedState struct {
	Version int   `json:"version"`
	State   State `json:"state"`
}

// Encode returns the state as versioned JSON, for snapshots. Equal states give equal bytes.
func (s State) Encode() ([]byte, error) {
	data, err := json.Marshal(encodedState{s.version(), s})
	if err != nil {
		return nil, fmt.Errorf("%w: encode: %w", ErrSnapshot, err)
	}
	return data, nil
}

// DecodeState reads what Encode wrote, also in an older version. A newer version is refused.
func DecodeState(data []byte) (State, error) {
	if len(data) > MaxState {
		return State{}, fmt.Errorf("%w: %d bytes, at most %d", ErrSnapshot, len(data), MaxState)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	if head.Version < 1 || head.Version > stateVersion {
		return State{}, fmt.Errorf("%w: version %d, this program reads 1 to %d; upgrade this node", ErrSnapshot, head.Version, stateVersion)
	}
	var e encodedState
	if err := strictJSON(data, &e); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return e.State, nil
}
