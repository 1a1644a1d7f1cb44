package records

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func record(owner, id string, body int) Record {
	return Record{ID: id, Owner: owner, Node: "n1", Route: "/v1/infer", Type: "application/json", Body: make([]byte, body)}
}

// Whatever is put, found and dropped: what is found is the latest that was put, not over, and the budget holds; within the budget
// nothing is lost before its time.
func TestStore(t *testing.T) {
	const life, budget = 10 * time.Minute, 6000
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		s := New(life, budget, func() time.Time { return now })
		type put struct {
			r  Record
			at time.Time
		}
		latest := map[name]put{}
		var order []name
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			n := name{rapid.SampledFrom([]string{"", "alice"}).Draw(t, "owner"), rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "id")}
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				r := record(n.owner, n.id, rapid.IntRange(1, 2000).Draw(t, "size"))
				if err := s.Put(r); err != nil {
					t.Fatal(err)
				}
				latest[n] = put{r, now}
				order = append(order, n)
			case 2:
				s.Drop(n.owner, n.id)
				delete(latest, n)
			case 3:
				now = now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "seconds")) * time.Second)
			}
			if _, bytes := s.Size(); bytes > budget {
				t.Fatalf("%d bytes of %d", bytes, budget)
			}
			var room int64 = budget // of the latest ones, which must all be there as long as they fit
			for i := len(order) - 1; i >= 0; i-- {
				p, ok := latest[order[i]]
				if !ok {
					continue
				}
				room -= p.r.size()
				got, found := s.Get(order[i].owner, order[i].id)
				switch {
				case found && (len(got.Body) != len(p.r.Body) || now.Sub(p.at) >= life):
					t.Fatalf("%v: a wrong one, or one whose time is over", order[i])
				case !found && room >= 0 && now.Sub(p.at) < life && i == len(order)-1:
					t.Fatalf("%v: the latest is lost", order[i])
				}
			}
		}
		now = now.Add(life)
		if n, bytes := s.Size(); n != 0 || bytes != 0 {
			t.Fatalf("%d records of %d bytes are left at the end", n, bytes)
		}
	})
}

func TestStoreRefuses(t *testing.T) {
	s := New(time.Minute, 1<<20, nil)
	for _, r := range []Record{
		{}, record("", "", 1), record("", "a", 0), record(strings.Repeat("o", MaxText+1), "a", 1), record("", "a", MaxBody+1), record("", "a", 2<<20),
	} {
		if err := s.Put(r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.60s: %v", fmt.Sprint(r.ID, len(r.Body)), err)
		}
	}
	if n, bytes := s.Size(); n != 0 || bytes != 0 {
		t.Errorf("%d records of %d bytes", n, bytes)
	}
}
