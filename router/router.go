package router

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"

	"lamina/cluster"
)

// Why nothing was picked; both are wrapped with the model's name.
var (
	// ErrUnknownModel: no model of that name.
	ErrUnknownModel = errors.New("unknown model")
	// ErrNotReady: the model is known, but no replica can be picked now. Try again soon.
	ErrNotReady = errors.New("no replica is ready")
)

// Router picks placements and counts what is in flight on each, as this gateway sees it. Safe for
// concurrent use.
type Router struct {
	seed uint64

	mu struct {
		sync.Mutex
		table map[string][]*replica
	}
}

// replica is a placement with the requests in flight on it. It lives as long as a table or a pick needs
// it, and keeps its count when the table is swapped.
type replica struct {
	placement cluster.Placement
	load      int
}

// Pick is a choice. Release must be called once the request is over; more calls do nothing.
type Pick struct {
	Placement cluster.Placement
	Release   func()
}

// New returns a router without models. Gateways with equal seeds and tables agree about the home of a key.
func New(seed uint64) *Router { return &Router{seed: seed} }

// Update replaces the table at once. Counts of placements that stay (by epoch) are kept. The router keeps
// the placements and does not write to them.
func (r *Router) Update(t Table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := make(map[uint64]*replica)
	for _, list := range r.mu.table {
		for _, rep := range list {
			known[rep.placement.Epoch] = rep
		}
	}
	next := make(map[string][]*replica, len(t))
	for name, placements := range t {
		list := make([]*replica, 0, len(placements))
		for _, p := range placements {
			rep := known[p.Epoch]
			if rep == nil {
				rep = &replica{}
				known[p.Epoch] = rep // one count for a placement that serves two names
			}
			rep.placement = p
			list = append(list, rep)
		}
		next[name] = list
	}
	r.mu.table = next
}

// Pick chooses a replica of the model for the key and counts the request until Release. Epochs in skip are
// not chosen: placements that just failed the same request. It never waits for a replica to be free.
func (r *Router) Pick(model string, key []byte, skip ...uint64) (Pick, error) {
	h := r.hash(key)
	r.mu.Lock()
	defer r.mu.Unlock()
	list, ok := r.mu.table[model]
	if !ok {
		return Pick{}, fmt.Errorf("%w: %q", ErrUnknownModel, model)
	}
	rep := r.choose(list, h, skip)
	if rep == nil {
		return Pick{}, fmt.Errorf("%w: model %q", ErrNotReady, model)
	}
	rep.load++
	return Pick{Placement: rep.placement, Release: r.releaser(rep)}, nil
}

// InFlight returns how many picks of the placement were not released yet; 0 if it is not in the table.
func (r *Router) InFlight(epoch uint64) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, list := range r.mu.table {
		for _, rep := range list {
			if rep.placement.Epoch == epoch {
				return rep.load
			}
		}
	}
	return 0
}

// releaser counts the pick down, once.
func (r *Router) releaser(rep *replica) func() {
	done := false
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !done {
			done = true
			rep.load--
		}
	}
}

// choose returns the replica with the highest score among those below the bound. There always is one below
// it: n bounds add up to more than the load.
func (r *Router) choose(list []*replica, key uint64, skip []uint64) *replica {
	total, n := 0, 0
	for _, rep := range list {
		if !slices.Contains(skip, rep.placement.Epoch) {
			total += rep.load
			n++
		}
	}
	var best *replica
	var bestScore uint64
	for _, rep := range list {
		if slices.Contains(skip, rep.placement.Epoch) || rep.load >= bound(total+1, n) {
			continue
		}
		s := score(key, rep.placement.Epoch)
		if best == nil || s > bestScore || s == bestScore && rep.placement.Epoch < best.placement.Epoch {
			best, bestScore = rep, s
		}
	}
	return best
}

// bound is the most requests one of n replicas may have of a total: 1.25 times the mean, rounded up.
func bound(total, n int) int { return (5*total + 4*n - 1) / (4 * n) }

// hash is the seeded hash of a key. The seed is the cluster's, so that clients cannot choose keys that
// collide.
func (r *Router) hash(key []byte) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(r.seed)
	_, _ = d.Write(key) // never fails
	return d.Sum64()
}

// score is the random weight of a replica for a hashed key.
func score(key, epoch uint64) uint64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], key)
	binary.LittleEndian.PutUint64(b[8:], epoch)
	return xxhash.Sum64(b[:])
}
