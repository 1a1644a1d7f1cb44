package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever is counted, a quantile is that of the sorted samples to half a percent, and the ends are exact.
func TestHistogramAgainstSorted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(0, 1<<rapid.IntRange(1, 42).Draw(t, "bits")).Draw(t, "ns"))
		}), 1, 200).Draw(t, "samples")
		var h Histogram
		for _, d := range all {
			h.Add(d)
		}
		slices.Sort(all)
		q := rapid.Float64Range(0, 1).Draw(t, "q")
		rank := int(q * float64(len(all)))
		if float64(rank) < q*float64(len(all)) {
			rank++
		}
		want := all[max(rank, 1)-1]
		if got := h.Quantile(q); float64(max(got-want, want-got)) > 0.005*float64(want) {
			t.Fatalf("quantile %g of %v: %v, want %v", q, all, got, want)
		}
		if h.Quantile(0) != all[0] || h.Quantile(1) != all[len(all)-1] || h.Count() != uint64(len(all)) {
			t.Fatalf("ends %v %v of %v", h.Quantile(0), h.Quantile(1), all)
		}
	})
}

func TestHistogramEdges(t *testing.T) {
	var h Histogram
	if h.Quantile(.5) != 0 || h.Summary().Count != 0 || h.curve() != nil {
		t.Error("an empty histogram has values")
	}
	h.Add(-time.Second)
	h.Add(1000 * time.Hour) // beyond the last bucket
	if s := h.Summary(); s.Min != 0 || s.Max != ms(1000*time.Hour) || s.Count != 2 || len(h.curve()) != 51 {
		t.Errorf("%+v", s)
	}
	for i := range 63 { // every bucket holds its own middle
		v := min(uint64(1)<<i, topValue)
		if b := bucketOf(v); b >= buckets || bucketOf(uint64(middle(b))) != b {
			t.Errorf("%d is in bucket %d of %d, whose middle %d is in %d", v, b, buckets, middle(b), bucketOf(uint64(middle(b))))
		}
	}
}

func TestLength(t *testing.T) {
	for _, bad := range []string{"", "0", "-1", "5-", "9-3", "a", "1/0", "exp:", "exp:0", "normal:5", "normal:0:1", "2000000", "1-2-3", "1.5", "normal:1:2:3"} {
		if l, err := ParseLength(bad); err == nil {
			t.Errorf("%q was taken as %+v", bad, l)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		text     string
		low, top int
		mean     float64
	}{{"85", 85, 85, 85}, {"20-200", 20, 200, 110}, {"32/512", 32, 512, 272}, {"exp:100", 1, 2000, 100}, {"normal:100:20", 1, 220, 100}, {"normal:7:0", 7, 7, 7}} {
		var l Length
		if err := l.UnmarshalText([]byte(c.text)); err != nil || l.String() != c.text {
			t.Fatal(c.text, l, err)
		}
		const n = 20000
		sum := 0.0
		for range n {
			x := l.draw(rng)
			if x < c.low || x > c.top {
				t.Fatalf("%s drew %d", c.text, x)
			}
			sum += float64(x)
		}
		if mean := sum / n; mean < .97*c.mean || mean > 1.03*c.mean {
			t.Errorf("%s has the mean %.1f, want %.1f", c.text, mean, c.mean)
		}
	}
}

// Arrivals have their rate, in order; Poisson ones the spread of an exponential distribution, even ones none.
func TestArrivals(t *testing.T) {
	const n = 20000
	for _, even := range []bool{true, false} {
		a := newArrivals(Load{Rate: 50, Even: even}, random(3, "arrivals"))
		var last time.Duration
		var squares float64
		for i := range n {
			at := a.next()
			if at < last {
				t.Fatalf("arrival %d at %v comes before %v", i, at, last)
			}
			if i > 0 {
				gap := (at - last).Seconds() * 50
				squares += (gap - 1) * (gap - 1)
			}
			last = at
		}
		if rate := n / last.Seconds(); rate < 49 || rate > 51 {
			t.Errorf("even %v: %.1f a second", even, rate)
		}
		if spread := squares / n; even && spread > 1e-9 || !even && (spread < .9 || spread > 1.1) {
			t.Errorf("even %v: variance %g", even, spread)
		}
	}
	if newArrivals(Load{Rate: 1e5, Even: true}, nil).next() != 0 {
		t.Error("even arrivals do not begin at once")
	}
}
