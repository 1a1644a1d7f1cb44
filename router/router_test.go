package router

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"lamina/cluster"
)

var update = flag.Bool("update", false, "rewrite golden files")

// replicas makes ready placements with these epochs.
func replicas(epochs ...uint64) []cluster.Placement {
	var out []cluster.Placement
	for _, e := range epochs {
		out = append(out, cluster.Placement{Model: "d", Epoch: e, Phase: cluster.Ready})
	}
	return out
}

func upTo(n int) []cluster.Placement {
	var epochs []uint64
	for i := range n {
		epochs = append(epochs, uint64(10+7*i))
	}
	return replicas(epochs...)
}

// homes returns where each of the keys goes when nothing is in flight.
func homes(t *testing.T, list []cluster.Placement, keys int) []uint64 {
	t.Helper()
	r := New(42)
	r.Update(Table{"m": list})
	out := make([]uint64, keys)
	for i := range out {
		p, err := r.Pick("m", fmt.Appendf(nil, "session-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		out[i] = p.Placement.Epoch
		p.Release()
	}
	return out
}

// TestMoves adds and removes a replica: only keys of the one that leaves or comes move. The figures of the
// golden file say how many, and how even the shares are.
func TestMoves(t *testing.T) {
	const keys = 20000
	var b strings.Builder
	for _, n := range []int{2, 3, 4, 8, 16, 64} {
		list := upTo(n + 1)
		small, large := homes(t, list[:n], keys), homes(t, list, keys)
		count := make(map[uint64]int)
		moved := 0
		for i := range keys {
			count[small[i]]++
			if small[i] == large[i] {
				continue
			}
			moved++
			if large[i] != list[n].Epoch {
				t.Fatalf("%d replicas: key %d moved from %d to %d, which was there before", n, i, small[i], large[i])
			}
		}
		most := 0
		for _, c := range count {
			most = max(most, c)
		}
		if share := float64(moved) / keys; share > 1.5/float64(n+1) {
			t.Errorf("%d replicas and one more: %.3f of the keys move", n, share)
		}
		fmt.Fprintf(&b, "%2d and one more: %5.2f %% of the keys move (ideal %5.2f); fullest %.3f of the mean\n",
			n, 100*float64(moved)/keys, 100/float64(n+1), float64(most*n)/keys)
	}
	const path = "testdata/moves.txt"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != b.String() {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestSeedDecidesHomes(t *testing.T) {
	a, b := New(1), New(2)
	a.Update(Table{"m": upTo(4)})
	b.Update(Table{"m": upTo(4)})
	differ := 0
	for i := range 100 {
		key := fmt.Append(nil, i)
		p, _ := a.Pick("m", key)
		q, _ := b.Pick("m", key)
		p.Release()
		q.Release()
		if p.Placement.Epoch != q.Placement.Epoch {
			differ++
		}
	}
	if differ < 50 {
		t.Errorf("only %d of 100 keys have another home under another seed", differ)
	}
}

// TestBound holds after any picks and releases: the picked replica has at most 1.25 times the mean,
// rounded up, and a key goes to its home while that is below the bound.
func TestBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "replicas")
		r := New(rapid.Uint64().Draw(t, "seed"))
		r.Update(Table{"m": upTo(n)})
		load := make(map[uint64]int)
		var open []Pick
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if len(open) > 0 && rapid.IntRange(0, 2).Draw(t, "release") == 0 {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				open[i].Release()
				open[i].Release() // does nothing
				load[open[i].Placement.Epoch]--
				open = append(open[:i], open[i+1:]...)
				continue
			}
			key := []byte{byte(rapid.IntRange(0, 3).Draw(t, "key"))}
			p, err := r.Pick("m", key)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, p)
			load[p.Placement.Epoch]++
			if got, most := load[p.Placement.Epoch], bound(len(open), n); got > most {
				t.Fatalf("%d of %d requests on one of %d replicas, bound %d", got, len(open), n, most)
			}
			if got := r.InFlight(p.Placement.Epoch); got != load[p.Placement.Epoch] {
				t.Fatalf("counts %d in flight, want %d", got, load[p.Placement.Epoch])
			}
		}
	})
}

func TestBoundFigures(t *testing.T) {
	for _, c := range []struct{ total, n, want int }{
		{1, 1, 2}, {1, 4, 1}, {4, 4, 2}, {8, 4, 3}, {100, 4, 32}, {7, 1, 9}, {32, 8, 5},
	} {
		if got := bound(c.total, c.n); got != c.want {
			t.Errorf("bound(%d, %d) = %d, want %d", c.total, c.n, got, c.want)
		}
	}
}

// TestHotKey puts half of the load on one key: it spills over in the key's own order of replicas, and no
// replica is over the bound.
func TestHotKey(t *testing.T) {
	const n, requests = 8, 800
	r := New(42)
	r.Update(Table{"m": upTo(n)})
	load := make(map[uint64]int)
	for i := range requests {
		key := fmt.Append(nil, i)
		if i%2 == 0 {
			key = []byte("hot")
		}
		p, err := r.Pick("m", key)
		if err != nil {
			t.Fatal(err)
		}
		load[p.Placement.Epoch]++
	}
	for epoch, l := range load {
		if l > bound(requests, n) {
			t.Errorf("replica %d has %d of %d requests, bound %d", epoch, l, requests, bound(requests, n))
		}
	}
	if len(load) != n {
		t.Errorf("%d of %d replicas are used", len(load), n)
	}
}

func TestErrorsAndSkip(t *testing.T) {
	r := New(1)
	if _, err := r.Pick("m", nil); !errors.Is(err, ErrUnknownModel) {
		t.Error("empty router:", err)
	}
	r.Update(Table{"m": nil, "n": replicas(1, 2)})
	if _, err := r.Pick("m", nil); !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), `"m"`) {
		t.Error("no replica:", err)
	}
	p, err := r.Pick("n", nil)
	if err != nil {
		t.Fatal(err)
	}
	q, err := r.Pick("n", nil, p.Placement.Epoch)
	if err != nil || q.Placement.Epoch == p.Placement.Epoch {
		t.Errorf("skipping %d gave %d, %v", p.Placement.Epoch, q.Placement.Epoch, err)
	}
	if _, err := r.Pick("n", nil, 1, 2); !errors.Is(err, ErrNotReady) {
		t.Error("all skipped:", err)
	}
}

func TestUpdateKeepsCounts(t *testing.T) {
	r := New(1)
	r.Update(Table{"m": replicas(1, 2)})
	p, _ := r.Pick("m", nil)
	epoch := p.Placement.Epoch
	r.Update(Table{"m": replicas(1, 2, 3), "alias": replicas(1, 2, 3)})
	if got := r.InFlight(epoch); got != 1 {
		t.Errorf("after a swap %d in flight, want 1", got)
	}
	r.Update(Table{"m": replicas(3)})
	if q, err := r.Pick("m", nil); err != nil || q.Placement.Epoch != 3 {
		t.Errorf("picked %d, %v from a table of 3", q.Placement.Epoch, err)
	}
	p.Release() // of a replica that left
	r.Update(Table{})
	if _, err := r.Pick("m", nil); !errors.Is(err, ErrUnknownModel) {
		t.Error("after removal:", err)
	}
}

func TestTableOf(t *testing.T) {
	s := cluster.State{
		Models: []cluster.Model{{Name: "a", Digest: "d"}, {Name: "b", Digest: "d"}, {Name: "c", Digest: "e"}},
		Placements: []cluster.Placement{
			{Model: "d", Epoch: 1, Phase: cluster.Ready}, {Model: "d", Epoch: 2, Phase: cluster.Draining},
			{Model: "d", Epoch: 3, Phase: cluster.Ready}, {Model: "e", Epoch: 4, Phase: cluster.Loading},
		},
	}
	got := TableOf(s, func(p cluster.Placement) bool { return p.Epoch != 3 })
	if len(got) != 3 || len(got["a"]) != 1 || got["a"][0].Epoch != 1 || len(got["b"]) != 1 || len(got["c"]) != 0 {
		t.Errorf("got %+v", got)
	}
	if all := TableOf(s, nil); len(all["a"]) != 2 {
		t.Errorf("without a filter %+v", all)
	}
}

func TestConcurrent(t *testing.T) {
	r := New(1)
	r.Update(Table{"m": upTo(3)})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				p, err := r.Pick("m", []byte{byte(g), byte(i)})
				if err != nil {
					t.Error(err)
					return
				}
				if i%50 == 0 {
					r.Update(Table{"m": upTo(2 + i%3)})
				}
				p.Release()
			}
		})
	}
	wg.Wait()
	for _, p := range upTo(4) {
		if n := r.InFlight(p.Epoch); n != 0 {
			t.Errorf("%d in flight on %d after all were released", n, p.Epoch)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{1, 4, 16} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := New(1)
			r.Update(Table{"m": upTo(n)})
			key := []byte("session-1234567890")
			b.ReportAllocs()
			for b.Loop() {
				p, err := r.Pick("m", key)
				if err != nil {
					b.Fatal(err)
				}
				p.Release()
			}
		})
	}
}
