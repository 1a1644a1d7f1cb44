package gossip

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"time"
)

// place is where a node stands in a space in which distance is round-trip time, found by comparing the times of the probes
// that go on anyway with what the places of both say (Dabek et al., "Vivaldi: A Decentralized Network Coordinate System",
// 2004). So a few bytes a node tell the time between any two of thousands. All in nanoseconds.
type place struct {
	at     [3]float64
	height float64 // how far the node is off from everybody: its own line, or how busy it is
	err    float64 // share by which the place is thought to be off
}

const (
	placeSize = 20 // bytes of a place in a probe's answer
	adapt     = 0.25
	// floor is the least round trip that is worth a difference, and the least height.
	floor = float64(10 * time.Microsecond)
	// farthest bounds what a stranger may say.
	farthest = float64(time.Minute)
	// samples of a peer of which the least counts: what is over that is waiting, not way.
	samples = 5
)

func newPlace() place { return place{height: floor, err: 1} }

// distance is the round trip that two places foretell.
func (p place) distance(o place) float64 {
	d, _ := p.vector(o)
	return d
}

// vector returns the distance and the direction away from o.
func (p place) vector(o place) (float64, [3]float64) {
	var v [3]float64
	n := 0.0
	for i := range v {
		v[i] = p.at[i] - o.at[i]
		n += v[i] * v[i]
	}
	return math.Sqrt(n) + p.height + o.height, v
}

// pull moves the place for a round trip to o of rtt nanoseconds.
func (p *place) pull(rtt float64, o place) {
	if !(rtt > 0) || rtt > farthest {
		return
	}
	rtt = max(rtt, floor)
	d, v := p.vector(o)
	weight := p.err / max(p.err+o.err, 1e-6)
	p.err = min(1, math.Abs(d-rtt)/rtt*adapt*weight+p.err*(1-adapt*weight))
	force := adapt * weight * (rtt - d)
	if n := d - p.height - o.height; n < floor/10 { // at the same place: any direction will do
		for i := range v {
			v[i] = rand.NormFloat64() * floor
		}
		d = math.Sqrt(v[0]*v[0]+v[1]*v[1]+v[2]*v[2]) + p.height + o.height
	}
	for i := range v {
		p.at[i] = max(-farthest, min(farthest, p.at[i]+force*v[i]/d))
	}
	p.height = max(floor, min(farthest, p.height+force*(p.height+o.height)/d))
}

// moved reports whether the place is so far from old that the others should hear of it.
func (p place) moved(old place) bool {
	n, _ := p.vector(place{})
	off := math.Abs(p.height - old.height)
	for i := range p.at {
		off = max(off, math.Abs(p.at[i]-old.at[i]))
	}
	return off > max(float64(200*time.Microsecond), n/5)
}

// append writes the place as five float32, in microseconds.
func (p place) append(b []byte) []byte {
	for _, v := range []float64{p.at[0] / 1e3, p.at[1] / 1e3, p.at[2] / 1e3, p.height / 1e3, p.err} {
		b = binary.BigEndian.AppendUint32(b, math.Float32bits(float32(v)))
	}
	return b
}

// readPlace reads what append wrote. False: it is none, or out of range.
func readPlace(b []byte) (place, bool) {
	if len(b) != placeSize {
		return place{}, false
	}
	var v [5]float64
	for i := range v {
		v[i] = float64(math.Float32frombits(binary.BigEndian.Uint32(b[4*i:])))
		if i < 4 {
			v[i] *= 1e3
		}
		if !(math.Abs(v[i]) <= farthest*1.001) {
			return place{}, false
		}
	}
	p := place{[3]float64(v[:3]), v[3], v[4]}
	return p, p.height >= 0 && p.err >= 0 && p.err <= 1.001
}

// where is the form in which others are told: see Meta.Where.
func (p place) where() [4]float64 { return [4]float64{p.at[0], p.at[1], p.at[2], p.height} }
