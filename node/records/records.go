// Package records keeps what is needed to answer a request again from its start: by the contract of the bits (DESIGN.md of
// kernels) the same request with the same seed has the same answer at every node, so a request that lost its gateway is
// resumed by whoever has its record. A Store is one node's share; it is pure but for its lock.
package records

import (
	"container/list"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Record is an accepted request. It is immutable.
type Record struct {
	ID     string `json:"id"`    // X-Request-Id, or the id of a response
	Owner  string `json:"owner"` // id of the API key that asked; empty: anonymous
	Node   string `json:"node"`  // the gateway that answers it
	Route  string `json:"route"` // path of the endpoint, which says how Body is read and the answer written
	Body   []byte `json:"body"`  // the request's body, in JSON or msgpack
	Type   string `json:"type"`  // media type of Body
	Answer string `json:"answer,omitempty"`
	// Digest is the content of the model that was asked: another one under the name would answer otherwise.
	Digest  string `json:"digest"`
	Seed    uint64 `json:"seed"`    // that was chosen, or asked for
	Created int64  `json:"created"` // Unix seconds, as the answer shows it
}

// Limits of a record, for those that come from other nodes.
const (
	MaxText = 256
	MaxBody = 8 << 20
)

// ErrInvalid: a record that no node would have written.
var ErrInvalid = errors.New("invalid record")

// Validate bounds the fields.
func (r Record) Validate() error {
	for _, f := range []struct{ name, v string }{
		{"id", r.ID}, {"owner", r.Owner}, {"node", r.Node}, {"route", r.Route}, {"type", r.Type}, {"answer", r.Answer}, {"digest", r.Digest},
	} {
		if len(f.v) > MaxText {
			return fmt.Errorf("%w: %s has %d bytes, at most %d", ErrInvalid, f.name, len(f.v), MaxText)
		}
	}
	switch {
	case r.ID == "" || r.Route == "" || r.Node == "":
		return fmt.Errorf("%w: id, route or node is missing", ErrInvalid)
	case len(r.Body) == 0 || len(r.Body) > MaxBody:
		return fmt.Errorf("%w: a body of %d bytes", ErrInvalid, len(r.Body))
	}
	return nil
}

// size is what a record takes, about.
func (r Record) size() int64 { return int64(len(r.Body)) + 512 }

// name is what a record is found by: ids are chosen by clients, so those of different owners may be equal.
type name struct{ owner, id string }

// Store holds records for a while and within a budget; the oldest leave first. Safe for concurrent use.
type Store struct {
	life   time.Duration
	budget int64
	now    func() time.Time

	mu    sync.Mutex
	byKey map[name]*list.Element
	age   *list.List // of kept, oldest first
	bytes int64
}

type kept struct {
	Record
	until time.Time
}

// New returns a Store that keeps records for life, and no more than budget bytes of them. now is the clock; nil: time.Now.
func New(life time.Duration, budget int64, now func() time.Time) *Store {
	if now == nil {
		now = time.Now
	}
	return &Store{life: life, budget: budget, now: now, byKey: make(map[name]*list.Element), age: list.New()}
}

// Put keeps a record, in place of one of the same owner and id.
func (s *Store) Put(r Record) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if r.size() > s.budget {
		return fmt.Errorf("%w: %d bytes are more than all records may take (%d)", ErrInvalid, r.size(), s.budget)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if e := s.byKey[name{r.Owner, r.ID}]; e != nil {
		s.drop(e)
	}
	s.tidy(now, s.budget-r.size())
	s.byKey[name{r.Owner, r.ID}] = s.age.PushBack(&kept{r, now.Add(s.life)})
	s.bytes += r.size()
	return nil
}

// Get finds a record.
func (s *Store) Get(owner, id string) (Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tidy(s.now(), s.budget)
	if e := s.byKey[name{owner, id}]; e != nil {
		return e.Value.(*kept).Record, true
	}
	return Record{}, false
}

// Drop forgets a record.
func (s *Store) Drop(owner, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byKey[name{owner, id}]; e != nil {
		s.drop(e)
	}
}

// Size is how many records there are, and how many bytes they take.
func (s *Store) Size() (n int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tidy(s.now(), s.budget)
	return s.age.Len(), s.bytes
}

// tidy drops what is over, and the oldest while there are more than most bytes.
func (s *Store) tidy(now time.Time, most int64) {
	for e := s.age.Front(); e != nil; e = s.age.Front() {
		if s.bytes <= most && now.Before(e.Value.(*kept).until) {
			return
		}
		s.drop(e)
	}
}

func (s *Store) drop(e *list.Element) {
	k := s.age.Remove(e).(*kept)
	delete(s.byKey, name{k.Owner, k.ID})
	s.bytes -= k.size()
}
