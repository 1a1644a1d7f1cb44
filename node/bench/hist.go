package bench

import (
	"math/bits"
	"time"
)

// Histogram counts durations in buckets that grow with the value, so that it has a fixed size and a quantile is right to
// half a percent. The zero value is empty. Negative durations count as zero. Not safe for concurrent use.
//
// Each power of two is divided into 1<<subBits buckets, as in HdrHistogram (Tene).
type Histogram struct {
	counts   []uint64
	n        uint64
	sum      float64
	min, max time.Duration
}

const (
	subBits  = 8
	topValue = 1<<43 - 1 // nanoseconds: 2.4 hours; longer ones fall into the last bucket
	buckets  = (43-subBits)<<subBits + 1<<subBits
)

// bucketOf is the index of v's bucket: exact below 1<<(subBits+1), then 1<<subBits of them for each power of two.
func bucketOf(v uint64) int {
	v = min(v, topValue)
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// middle is the value in the middle of a bucket.
func middle(i int) time.Duration {
	shift := max(i>>subBits-1, 0)
	low := uint64(i-shift<<subBits) << shift
	return time.Duration(low + 1<<shift/2)
}

// Add counts d.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	if h.counts == nil {
		h.counts = make([]uint64, buckets)
	}
	if h.n == 0 {
		h.min, h.max = d, d
	}
	h.n, h.sum, h.min, h.max = h.n+1, h.sum+float64(d), min(h.min, d), max(h.max, d)
	h.counts[bucketOf(uint64(d))]++
}

// Count is how many were added.
func (h *Histogram) Count() uint64 { return h.n }

// Quantile returns the smallest value that a share q of all does not exceed (nearest rank), within half a percent; 0 of none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q * float64(h.n))
	if float64(rank) < q*float64(h.n) {
		rank++
	}
	rank = min(max(rank, 1), h.n)
	switch rank { // the ends are known exactly
	case 1:
		return h.min
	case h.n:
		return h.max
	}
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= rank {
			return min(max(middle(i), h.min), h.max)
		}
	}
	return h.max
}

// Summary is what reports say of a histogram, in milliseconds.
type Summary struct {
	Count uint64  `json:"count"`
	Mean  float64 `json:"mean"`
	Min   float64 `json:"min"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
	// Curve has the quantiles at 0, 2, 4, ... 98, 100 percent, where plots show them.
	Curve []float64 `json:"curve,omitempty"`
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Summary sums the histogram up.
func (h *Histogram) Summary() Summary {
	if h.n == 0 {
		return Summary{}
	}
	return Summary{Count: h.n, Mean: h.sum / float64(h.n) / float64(time.Millisecond), Min: ms(h.min), Max: ms(h.max),
		P50: ms(h.Quantile(.5)), P90: ms(h.Quantile(.9)), P99: ms(h.Quantile(.99))}
}

// curve has the quantiles at 0, 2, 4, ... 100 percent, in milliseconds.
func (h *Histogram) curve() []float64 {
	var out []float64
	for q := 0; q <= 100 && h.n > 0; q += 2 {
		out = append(out, ms(h.Quantile(float64(q)/100)))
	}
	return out
}
