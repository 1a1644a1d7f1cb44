package consensus

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"lamina/cluster"
)

// MaxVoters is the most voters a cluster has: five bear the loss of two at once; more only make agreement
// slower.
const MaxVoters = 5

// Op is what a Change does.
type Op uint8

// The changes.
const (
	Add       Op = iota // as non-voter
	Readdress           // another address, same vote
	Promote             // non-voter to voter
	Demote              // voter to non-voter
	Remove              // out of the configuration
)

// String returns the name of the change.
func (o Op) String() string {
	switch o {
	case Add:
		return "add"
	case Readdress:
		return "readdress"
	case Promote:
		return "promote"
	case Demote:
		return "demote"
	case Remove:
		return "remove"
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// Change is one step towards the wanted configuration.
type Change struct {
	Op   Op
	ID   cluster.NodeID
	Addr string // with Add, Readdress and Promote
}

// Health is how a node is seen, and for how long it has been seen like that.
type Health struct {
	Alive bool
	For   time.Duration
}

// Voters returns the changes, in order, that lead from the present servers to the wanted ones: every member
// is a server; an odd number up to five vote. Servers that are no members any more leave. A node counts as
// alive or dead once it has been seen so for the stabilisation time; until then a voter stays one and a
// non-voter waits. A dead voter keeps its vote until a living non-voter can take its place, or until five
// voters with two dead shrink to three. self, the leader, is never demoted.
//
// The changes are single steps of raft; the caller carries them out in order, stops at the first error and
// asks again.
func Voters(self cluster.NodeID, servers []Server, members []cluster.Member, health map[cluster.NodeID]Health, stable time.Duration) []Change {
	addr := make(map[cluster.NodeID]string, len(members))
	for _, m := range members {
		addr[m.ID] = m.Peer
	}
	var add, readdress, remove []Change
	known := make(map[cluster.NodeID]bool)
	var candidates []candidate
	for _, s := range servers {
		known[s.ID] = true
		a, member := addr[s.ID]
		switch {
		case !member:
			remove = append(remove, Change{Op: Remove, ID: s.ID})
			continue
		case a != s.Addr:
			readdress = append(readdress, Change{Readdress, s.ID, a})
		}
		candidates = append(candidates, rank(self, s, a, health[s.ID], stable))
	}
	for _, m := range members {
		if !known[m.ID] {
			add = append(add, Change{Add, m.ID, m.Peer})
		}
	}
	promote, demote := choose(candidates)
	// The leader removes itself last: it cannot do anything after that.
	slices.SortFunc(remove, func(a, b Change) int {
		return cmp.Or(compareBool(a.ID == self, b.ID == self), cmp.Compare(a.ID, b.ID))
	})
	return slices.Concat(add, readdress, promote, demote, remove)
}

// candidate is a server that stays, and how gladly it is taken as a voter: lower is better.
type candidate struct {
	Server
	rank int
}

// Ranks. Those from unfit on are not made voters.
const (
	rankSelf = iota
	rankVoter
	rankSpare
	rankDeadVoter
	rankUnfit
)

func rank(self cluster.NodeID, s Server, addr string, h Health, stable time.Duration) candidate {
	s.Addr = addr
	settled := h.For >= stable
	switch {
	case s.ID == self:
		return candidate{s, rankSelf}
	case s.Voter && !h.Alive && settled:
		return candidate{s, rankDeadVoter}
	case s.Voter:
		return candidate{s, rankVoter}
	case h.Alive && settled:
		return candidate{s, rankSpare}
	}
	return candidate{s, rankUnfit}
}

// choose picks the voters among the candidates.
func choose(list []candidate) (promote, demote []Change) {
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.ID, b.ID))
	})
	fit := 0
	for fit < len(list) && list[fit].rank < rankUnfit {
		fit++
	}
	want := min(fit, MaxVoters)
	want -= 1 - want%2
	for want >= 5 && list[want-2].rank == rankDeadVoter {
		want -= 2
	}
	for i, c := range list {
		switch {
		case i < want && !c.Voter:
			promote = append(promote, Change{Promote, c.ID, c.Addr})
		case i >= want && c.Voter:
			demote = append(demote, Change{Op: Demote, ID: c.ID})
		}
	}
	return promote, demote
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
