package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxReason  = 512  // bytes kept of a reason
	maxMembers = 1024 // nodes
	maxModels  = 4096
	maxTokens  = 1024
	maxKeys    = 4096
)

func (c MemberUp) apply(s *State, _ uint64) error {
	m := c.Member
	m.Joined, m.Since, m.Down, m.Draining = stamp(c.At), stamp(c.At), false, false
	old, known := s.Member(m.ID)
	switch {
	case known && m.Incarnation < old.Incarnation:
		return fmt.Errorf("%w: node %s is at incarnation %d, not %d", ErrStale, m.ID, old.Incarnation, m.Incarnation)
	case !known && len(s.Members) >= maxMembers:
		return fmt.Errorf("%w: the cluster has %d nodes, at most %d", ErrConflict, len(s.Members), maxMembers)
	case known:
		m.Joined, m.Draining = old.Joined, old.Draining
		if m.Incarnation == old.Incarnation && !old.Down {
			m.Since = old.Since
		}
	}
	s.Members = put(s.Members, m, memberKey)
	if known && m.Incarnation > old.Incarnation {
		s.unready(m.ID, c.At, "node "+m.ID+" restarted")
		// A restart may have cured what failed: more memory, a mended disk.
		s.Failures = without(s.Failures, func(f Failure) bool { return f.Node == m.ID })
	}
	return nil
}

func (c MemberDown) apply(s *State, _ uint64) error {
	m, err := s.incarnation(c.Node, c.Incarnation)
	if err != nil {
		return err
	}
	if m.Down {
		return nil
	}
	m.Down, m.Since = true, stamp(c.At)
	s.Members = put(s.Members, m, memberKey)
	s.unready(m.ID, c.At, "node "+m.ID+" is down")
	return nil
}

func (c RemoveMember) apply(s *State, _ uint64) error {
	if _, ok := s.Member(c.Node); !ok {
		return fmt.Errorf("%w: node %s", ErrNotFound, c.Node)
	}
	s.Members = without(s.Members, func(m Member) bool { return m.ID == c.Node })
	s.Failures = without(s.Failures, func(f Failure) bool { return f.Node == c.Node })
	for _, p := range s.Placements {
		if _, _, on := p.On(c.Node); on && p.Phase != Gone {
			s.retire(p.Epoch, Gone, c.At, "node "+c.Node+" was removed")
		}
	}
	return nil
}

func (c DrainNode) apply(s *State, _ uint64) error {
	m, ok := s.Member(c.Node)
	if !ok {
		return fmt.Errorf("%w: node %s", ErrNotFound, c.Node)
	}
	if m.Draining != c.Off {
		return nil
	}
	m.Draining = !c.Off
	s.Members = put(s.Members, m, memberKey)
	return nil
}

func (c AddModel) apply(s *State, _ uint64) error {
	m := c.Model
	m.Created = stamp(c.At)
	m.Blobs = slices.Clone(m.Blobs)
	old, known := s.Model(m.Name)
	switch {
	case known && old.Digest != m.Digest:
		return fmt.Errorf("%w: model %q has another content (%s); remove it first or take another name", ErrExists, m.Name, old.Digest)
	case known:
		old.Stages, old.Replicas = m.Stages, m.Replicas
		m = old
	case len(s.Models) >= maxModels:
		return fmt.Errorf("%w: the cluster has %d models, at most %d", ErrConflict, len(s.Models), maxModels)
	}
	s.Models = put(s.Models, m, modelKey)
	return nil
}

func (c RemoveModel) apply(s *State, _ uint64) error {
	m, ok := s.Model(c.Name)
	if !ok {
		return fmt.Errorf("%w: model %q", ErrNotFound, c.Name)
	}
	s.Models = without(s.Models, func(o Model) bool { return o.Name == c.Name })
	if _, other := s.ModelByDigest(m.Digest); other {
		return nil
	}
	s.Placements = without(s.Placements, func(p Placement) bool { return p.Model == m.Digest })
	s.Failures = without(s.Failures, func(f Failure) bool { return f.Model == m.Digest })
	return nil
}

func (c Place) apply(s *State, index uint64) error {
	m, ok := s.ModelByDigest(c.Model)
	if !ok {
		return fmt.Errorf("%w: model %s", ErrNotFound, c.Model)
	}
	if c.Hops[len(c.Hops)-1].End != m.Layers {
		return fmt.Errorf("%w: placement ends at layer %d of the %d of model %q", ErrInvalid, c.Hops[len(c.Hops)-1].End, m.Layers, m.Name)
	}
	hops := slices.Clone(c.Hops)
	for i := range hops {
		hops[i].Ready = false
		if _, ok := s.Member(hops[i].Node); !ok {
			return fmt.Errorf("%w: node %s", ErrNotFound, hops[i].Node)
		}
	}
	if c.Replaces != 0 {
		if err := s.replaceable(c.Replaces, c.Model); err != nil {
			return err
		}
	}
	p := Placement{Model: c.Model, Epoch: index, Replaces: c.Replaces, Since: stamp(c.At), Hops: hops, Reason: clip(c.Reason)}
	s.Placements = append(slices.Clip(slices.Clone(s.Placements)), p)
	return nil
}

// replaceable says whether a new placement of the model may replace that epoch.
func (s *State) replaceable(epoch uint64, digest string) error {
	old, ok := s.Placement(epoch)
	if !ok || old.Model != digest || !old.Phase.Active() {
		return fmt.Errorf("%w: placement %d is no active one of this model", ErrStale, epoch)
	}
	for _, p := range s.Placements {
		if p.Replaces == epoch && p.Phase.Active() {
			return fmt.Errorf("%w: placement %d is being replaced by %d", ErrStale, epoch, p.Epoch)
		}
	}
	return nil
}

func (c HopReady) apply(s *State, _ uint64) error {
	p, i, err := s.hop(c.Epoch, c.Node, c.Incarnation)
	if err != nil {
		return err
	}
	if m, _ := s.Member(c.Node); m.Down {
		return fmt.Errorf("%w: node %s is down; it must announce itself first", ErrStale, c.Node)
	}
	s.Failures = without(s.Failures, func(f Failure) bool { return f.Model == p.Model && f.Node == c.Node })
	p.Hops = slices.Clone(p.Hops)
	p.Hops[i].Ready = true
	phase := Ready
	for _, h := range p.Hops {
		if !h.Ready {
			phase = Loading
		}
	}
	if p.Phase.Active() && p.Phase != phase {
		p.Phase, p.Since, p.Reason = phase, stamp(c.At), ""
	}
	s.setPlacement(p)
	if p.Phase == Ready && p.Replaces != 0 {
		if old, ok := s.Placement(p.Replaces); ok && old.Phase.Active() {
			s.retire(old.Epoch, Draining, c.At, fmt.Sprintf("replaced by %d", p.Epoch))
		}
	}
	return nil
}

func (c HopFailed) apply(s *State, _ uint64) error {
	p, _, err := s.hop(c.Epoch, c.Node, c.Incarnation)
	if err != nil {
		return err
	}
	f := Failure{Model: p.Model, Node: c.Node, Reason: clip(c.Reason), Count: 1, At: stamp(c.At)}
	if old, ok := get(s.Failures, failureKey(f), failureKey); ok {
		f.Count = min(old.Count+1, 1<<20)
	}
	s.Failures = put(s.Failures, f, failureKey)
	s.retire(p.Epoch, Gone, c.At, "node "+c.Node+": "+c.Reason)
	return nil
}

func (c Drain) apply(s *State, _ uint64) error {
	p, ok := s.Placement(c.Epoch)
	if !ok || p.Phase == Gone {
		return fmt.Errorf("%w: placement %d", ErrNotFound, c.Epoch)
	}
	if p.Phase != Draining {
		s.retire(c.Epoch, Draining, c.At, c.Reason)
	}
	return nil
}

func (c Drop) apply(s *State, _ uint64) error {
	p, ok := s.Placement(c.Epoch)
	if !ok {
		return fmt.Errorf("%w: placement %d", ErrNotFound, c.Epoch)
	}
	if p.Phase == Gone {
		return nil
	}
	reason := c.Reason
	if reason == "" {
		reason = p.Reason // why it was draining
	}
	s.retire(c.Epoch, Gone, c.At, reason)
	return nil
}

func (c AddToken) apply(s *State, _ uint64) error {
	s.Tokens = without(s.Tokens, func(t Token) bool { return !t.Expires.After(c.At) })
	switch old, ok := s.Token(c.Hash); {
	case ok && (old.UsedBy != "" || !old.Expires.Equal(c.Expires)):
		return fmt.Errorf("%w: a join token with this hash", ErrExists)
	case ok:
		return nil
	case len(s.Tokens) >= maxTokens:
		return fmt.Errorf("%w: %d join tokens are open, at most %d; wait until some expire", ErrConflict, len(s.Tokens), maxTokens)
	}
	t := Token{Hash: c.Hash, Created: stamp(c.At), Expires: stamp(c.Expires)}
	s.Tokens = put(s.Tokens, t, tokenKey)
	return nil
}

func (c UseToken) apply(s *State, _ uint64) error {
	t, ok := s.Token(c.Hash)
	if !ok || t.UsedBy != "" || !t.Expires.After(c.At) {
		return ErrToken
	}
	t.UsedBy, t.Used = c.Node, stamp(c.At)
	s.Tokens = put(s.Tokens, t, tokenKey)
	return nil
}

func (c AddKey) apply(s *State, _ uint64) error {
	k := c.Key
	k.Created = stamp(c.At)
	switch old, ok := s.Key(k.ID); {
	case ok && (old.Hash != k.Hash || old.Role != k.Role):
		return fmt.Errorf("%w: key %s", ErrExists, k.ID)
	case ok:
		return nil
	case len(s.Keys) >= maxKeys:
		return fmt.Errorf("%w: the cluster has %d keys, at most %d", ErrConflict, len(s.Keys), maxKeys)
	}
	s.Keys = put(s.Keys, k, keyKey)
	return nil
}

func (c RemoveKey) apply(s *State, _ uint64) error {
	if _, ok := s.Key(c.ID); !ok {
		return fmt.Errorf("%w: key %s", ErrNotFound, c.ID)
	}
	s.Keys = without(s.Keys, func(k Key) bool { return k.ID == c.ID })
	return nil
}

func (c SetSettings) apply(s *State, _ uint64) error {
	n, old := c.Settings, s.Settings
	if old.ClusterID != "" && (n.ClusterID != old.ClusterID || n.CAPin != old.CAPin) {
		return fmt.Errorf("%w: cluster id and CA are fixed", ErrConflict)
	}
	n.Created = old.Created
	if n.Created.IsZero() {
		n.Created = stamp(c.At)
	}
	s.Settings = n
	return nil
}

// incarnation returns the member if it is at that incarnation.
func (s *State) incarnation(id NodeID, incarnation uint64) (Member, error) {
	m, ok := s.Member(id)
	if !ok {
		return m, fmt.Errorf("%w: node %s", ErrNotFound, id)
	}
	if m.Incarnation != incarnation {
		return m, fmt.Errorf("%w: node %s is at incarnation %d, not %d", ErrStale, id, m.Incarnation, incarnation)
	}
	return m, nil
}

// hop finds a node's hop in a placement that is not over.
func (s *State) hop(epoch uint64, node NodeID, incarnation uint64) (Placement, int, error) {
	if _, err := s.incarnation(node, incarnation); err != nil {
		return Placement{}, 0, err
	}
	p, ok := s.Placement(epoch)
	if !ok || p.Phase == Gone {
		return Placement{}, 0, fmt.Errorf("%w: placement %d is over", ErrStale, epoch)
	}
	_, i, ok := p.On(node)
	if !ok {
		return Placement{}, 0, fmt.Errorf("%w: node %s in placement %d", ErrNotFound, node, epoch)
	}
	return p, i, nil
}

// unready marks a node's hops as not loaded: active placements load again, draining ones have nothing left
// to finish with.
func (s *State) unready(node NodeID, at time.Time, reason string) {
	for _, p := range s.Placements {
		h, i, on := p.On(node)
		switch {
		case !on || p.Phase == Gone:
		case p.Phase == Draining:
			s.retire(p.Epoch, Gone, at, reason)
		case h.Ready:
			p.Hops = slices.Clone(p.Hops)
			p.Hops[i].Ready = false
			if p.Phase != Loading {
				p.Phase, p.Since = Loading, stamp(at)
			}
			p.Reason = reason
			s.setPlacement(p)
		}
	}
}

// retire moves a placement to Draining or Gone. Of the placements that are gone only the last of each
// model is kept.
func (s *State) retire(epoch uint64, phase Phase, at time.Time, reason string) {
	p, ok := s.Placement(epoch)
	if !ok {
		return
	}
	p.Phase, p.Since, p.Reason = phase, stamp(at), clip(reason)
	if phase == Gone {
		s.Placements = without(s.Placements, func(o Placement) bool {
			return o.Model == p.Model && o.Phase == Gone && o.Epoch != epoch
		})
	}
	s.setPlacement(p)
}

// setPlacement replaces the placement of that epoch in a copy of the list.
func (s *State) setPlacement(p Placement) {
	s.Placements = slices.Clone(s.Placements)
	for i := range s.Placements {
		if s.Placements[i].Epoch == p.Epoch {
			s.Placements[i] = p
		}
	}
}

// stamp returns a time as it is kept: in UTC, without the reading of the monotonic clock.
func stamp(t time.Time) time.Time { return t.Round(0).UTC() }

// clip shortens a reason to what is kept, at a character boundary.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= maxReason {
		return s
	}
	cut := maxReason
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
