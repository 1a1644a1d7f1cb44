package bench

import (
	"math/rand/v2"
	"time"
)

// arrivals yields the times at which requests of an open loop start, counted from the beginning of the load. They do not
// depend on anything the server does.
type arrivals struct {
	rng  *rand.Rand
	mean float64 // seconds between two
	even bool
	at   float64
	n    int
}

func newArrivals(l Load, rng *rand.Rand) *arrivals {
	return &arrivals{rng: rng, mean: 1 / l.Rate, even: l.Even}
}

// next is the time of the next arrival.
func (a *arrivals) next() time.Duration {
	if a.even { // not summed up, so that rounding cannot make the rate drift
		a.n++
		return time.Duration(float64(a.n-1) * a.mean * float64(time.Second))
	}
	a.at += a.rng.ExpFloat64() * a.mean
	return time.Duration(a.at * float64(time.Second))
}
