package gossip

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestPlacesTellRoundTrips: nodes in three regions, each probing a random other now and then with delays that vary; afterwards
// their places tell the time between nodes that have never met.
func TestPlacesTellRoundTrips(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	const n, probes = 60, 120
	ms := float64(time.Millisecond)
	regions := [][2]float64{{0, 0}, {40 * ms, 0}, {10 * ms, 70 * ms}}
	var at [n][2]float64
	var line [n]float64
	for i := range at {
		at[i] = [2]float64{regions[i%3][0] + r.Float64()*ms, regions[i%3][1] + r.Float64()*ms}
		line[i] = 0.1*ms + r.Float64()*ms/4
	}
	way := func(i, j int) float64 { return math.Hypot(at[i][0]-at[j][0], at[i][1]-at[j][1]) + line[i] + line[j] }
	places := make([]place, n)
	for i := range places {
		places[i] = newPlace()
	}
	for range probes {
		for i := range places {
			if j := r.IntN(n); j != i {
				places[i].pull(way(i, j)*(1+r.Float64()/10), places[j])
			}
		}
	}
	var off, near []float64
	for i := range n {
		for j := range i {
			d := places[i].distance(places[j])
			off = append(off, math.Abs(d-way(i, j))/way(i, j))
			if i%3 == j%3 {
				near = append(near, d)
			}
		}
	}
	slices.Sort(off)
	slices.Sort(near)
	t.Logf("off by %.0f %% in the median, %.0f %% for nine in ten; %.1f ms within a region for nine in ten", 100*off[len(off)/2], 100*off[len(off)*9/10], near[len(near)*9/10]/ms)
	if off[len(off)/2] > 0.15 || near[len(near)*9/10] > 6*ms {
		t.Error("the places do not tell the round trips")
	}
}

// TestPullIsSafe: whatever a stranger says, a place stays a number within bounds.
func TestPullIsSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPlace()
		for range rapid.IntRange(1, 20).Draw(t, "probes") {
			b := rapid.SliceOfN(rapid.Byte(), placeSize, placeSize).Draw(t, "answer")
			if rapid.Bool().Draw(t, "own place") {
				b = p.append(nil)
			}
			if o, ok := readPlace(b); ok {
				p.pull(rapid.Float64().Draw(t, "rtt"), o)
			}
			if _, ok := readPlace(p.append(nil)); !ok {
				t.Fatalf("the place has become %+v", p)
			}
		}
	})
	for what, b := range map[string][]byte{"nothing": nil, "short": make([]byte, placeSize-1), "long": make([]byte, placeSize+1), "not a number": []byte(strings.Repeat("\x7f\xf8\x00\x00", 5))} {
		if _, ok := readPlace(b); ok {
			t.Errorf("%s was taken for a place", what)
		}
	}
}

func TestModelRatesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(1.0/64, 20000))
		var list []ModelRates
		for i := range rapid.IntRange(0, 20).Draw(t, "models") {
			list = append(list, ModelRates{
				Model: fmt.Sprintf("sha256:%012x", i*77777), One: rate.Draw(t, "one"), Eight: rate.Draw(t, "eight"), Many: rate.Draw(t, "many"),
				Sequences: rapid.IntRange(0, 255).Draw(t, "sequences"),
			})
		}
		m := Meta{HTTP: strings.Repeat("h", 60), Version: strings.Repeat("v", 40), MemoryTotal: math.MaxInt64, Speed: 1.5, Models: PackModels(append(list, ModelRates{Model: "other"}))}
		m.Eight, m.Many, m.LayerCost, m.Net = float64(float32(1.1)), 2, 3, 4
		m.Where = [4]float64{1e9, -1e6, 0, 1e5}
		back, err := decodeMeta(m.encode(MaxMeta))
		if err != nil || back.Models != m.Models || back.Eight != m.Eight || back.Many != 2 || back.LayerCost != 3 || back.Net != 4 || math.Abs(back.Where[0]-1e9) > 100 {
			t.Fatalf("%+v came back as %+v, %v", m, back, err)
		}
		got := back.ModelRates()
		if len(got) != min(len(list), maxModels) {
			t.Fatalf("%d of %d models came back", len(got), len(list))
		}
		for i, g := range got {
			w := list[i]
			for _, v := range [][2]float64{{w.One, g.One}, {w.Eight, g.Eight}, {w.Many, g.Many}} {
				if v[0] == 0 != (v[1] == 0) || math.Abs(v[0]-v[1]) > 0.0295*v[0] {
					t.Fatalf("%+v came back as %+v", w, g)
				}
			}
			if g.Model != w.Model || g.Sequences != w.Sequences {
				t.Fatalf("%+v came back as %+v", w, g)
			}
		}
	})
}

// TestProbesFindPlaces: nodes far from each other see so in each other's metadata, without anybody measuring.
func TestProbesFindPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stopAll()
		l.net.Delay(20 * time.Millisecond)
		l.startAll(3)
		for range 120 { // virtual seconds
			time.Sleep(time.Second)
			for _, g := range l.nodes {
				g.SetMeta(g.cfg.Meta)
			}
		}
		l.await("n1", "places 40 ms apart", func(p []Peer) bool {
			for i := range p {
				for j := range i {
					d := place{[3]float64(p[i].Where[:3]), p[i].Where[3], 0}.distance(place{[3]float64(p[j].Where[:3]), p[j].Where[3], 0})
					if math.Abs(d-40e6) > 10e6 {
						return false
					}
				}
			}
			return true
		})
	})
}
