package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lamina/cluster"
)

func standbyModel(origin string, layers int) cluster.Model {
	m := cluster.Model{Name: "m", Digest: "sha256:d", Layers: layers, Origin: origin}
	for _, b := range []string{cluster.BlobMeta, cluster.BlobEmbed, cluster.BlobHead} {
		m.Blobs = append(m.Blobs, cluster.Blob{Name: b, Size: 1})
	}
	for l := range layers {
		m.Blobs = append(m.Blobs, cluster.Blob{Name: cluster.LayerBlob(l), Size: 1})
	}
	return m
}

// Whoever lives and whatever is placed: with the duties every span is at two living nodes, if two live that may keep it, nobody
// keeps what others have anyway, and all nodes agree on who keeps what.
func TestDuties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "nodes")
		s := cluster.State{Models: []cluster.Model{standbyModel("n0", 4)}}
		var alive []cluster.NodeID
		for i := range n {
			id := fmt.Sprint("n", i)
			m := cluster.Member{ID: id, Draining: rapid.IntRange(0, 5).Draw(t, "draining") == 0}
			s.Members = append(s.Members, m)
			if rapid.IntRange(0, 3).Draw(t, "alive") > 0 {
				alive = append(alive, id)
			}
		}
		for epoch := range rapid.IntRange(1, 3).Draw(t, "placements") {
			cut := rapid.IntRange(1, 4).Draw(t, "cut")
			p := cluster.Placement{Model: "sha256:d", Epoch: uint64(epoch + 1), Phase: cluster.Phase(rapid.IntRange(0, 4).Draw(t, "phase"))}
			at := rapid.IntRange(0, n-1).Draw(t, "first")
			p.Hops = []cluster.Hop{{Node: fmt.Sprint("n", at), First: 0, End: cut}}
			if cut < 4 && n > 1 {
				p.Hops = append(p.Hops, cluster.Hop{Node: fmt.Sprint("n", (at+1)%n), First: cut, End: 4})
			}
			s.Placements = append(s.Placements, p)
		}
		kept := map[string][]cluster.NodeID{}
		for _, id := range alive {
			for _, d := range duties(s, id, alive) {
				key := fmt.Sprint(d.hop.First, d.hop.End, d.hop.Node)
				if !slices.Contains(kept[key], id) {
					kept[key] = append(kept[key], id)
				}
			}
		}
		for _, p := range s.Placements {
			for _, h := range p.Hops {
				key := fmt.Sprint(h.First, h.End, h.Node)
				if !p.Phase.Active() {
					continue
				}
				have := holders(s, s.Models[0], h, alive)
				if len(have) == 0 {
					continue // it cannot be had
				}
				for _, id := range kept[key] {
					if !slices.Contains(have, id) {
						have = append(have, id)
					}
				}
				may := 0
				for _, m := range s.Members {
					if slices.Contains(alive, m.ID) && (!m.Draining || slices.Contains(have, m.ID)) {
						may++
					}
				}
				if len(have) < min(2, may) || len(kept[key]) > 1 {
					t.Fatalf("span %v is at %v, kept by %v; alive %v of %+v", h, have, kept[key], alive, s.Members)
				}
			}
		}
	})
}

// A duty is fetched when it has lasted, part by part, and tried again where that failed.
func TestStandbyRounds(t *testing.T) {
	s := cluster.State{
		Members:    []cluster.Member{{ID: "n1"}, {ID: "n2"}},
		Models:     []cluster.Model{standbyModel("n1", 2)},
		Placements: []cluster.Placement{{Model: "sha256:d", Epoch: 1, Phase: cluster.Ready, Hops: []cluster.Hop{{Node: "n1", First: 0, End: 2}}}},
	}
	var got []string
	fail := "layer.1"
	b := &standbys{
		self: "n2", state: func() cluster.State { return s }, alive: func() []cluster.NodeID { return []cluster.NodeID{"n1", "n2"} },
		ensure: func(_ context.Context, _ cluster.Model, p cluster.Blob) error {
			if p.Name == fail {
				return errors.New("no node has it now")
			}
			got = append(got, p.Name)
			return nil
		},
		grace: 10 * time.Second, out: slog.New(slog.DiscardHandler),
	}
	now := time.Unix(100, 0)
	for range 2 {
		b.round(t.Context(), now)
		now = now.Add(5 * time.Second)
	}
	if len(got) != 0 {
		t.Fatalf("%v were fetched at once", got)
	}
	b.round(t.Context(), now)
	if slices.Contains(got, "layer.1") || !slices.Contains(got, "layer.0") {
		t.Fatalf("after ten seconds: %v", got)
	}
	fail, got = "", nil
	b.round(t.Context(), now.Add(5*time.Second))
	if len(got) != 5 {
		t.Fatalf("in the next round: %v", got)
	}
	s.Placements[0].Phase, got = cluster.Gone, nil
	b.round(t.Context(), now.Add(10*time.Second))
	if len(got) != 0 || len(b.since) != 0 {
		t.Fatalf("without the placement: %v, %v", got, b.since)
	}
}
