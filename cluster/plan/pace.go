package plan

import (
	"cmp"
	"math"
	"slices"
)

// Rates are how fast a node gets weights through a step, by the rows that the step has. Zero: not known.
type Rates struct {
	One   float64 // bytes of weights a nanosecond, in a step of one row
	Eight float64 // the same in a step of eight rows, which read the weights once
	Many  float64 // bytes x rows a nanosecond, in the long steps of a prefill
}

// Measured is what a node has measured of a model that it runs.
type Measured struct {
	Rates
	Sequences float64 // open now, or lately on average
}

// promptTokens is how many tokens of prompts there are to one of an answer, where a choice must weigh reading
// prompts against writing answers.
const promptTokens = 4

// orDefault fills in what is not known: 1 byte a nanosecond, eight rows in the time of two, and in long steps four in the
// time that one takes alone.
func (r Rates) orDefault() Rates {
	if !(r.One > 0) {
		r.One = 1
	}
	if !(r.Eight > 0) {
		r.Eight = r.One / 2
	}
	if !(r.Many > 0) {
		r.Many = 4 * r.One
	}
	r.Eight = min(r.Eight, r.One)
	return r
}

// step is the time a byte of weights takes in a step of a number of rows, in nanoseconds: between one row and eight
// in proportion, above with the rate of a prefill.
func (r Rates) step(rows float64) float64 {
	one, eight := 1/r.One, 1/r.Eight
	if rows <= 8 {
		return one + (eight-one)*max(0, rows-1)/7
	}
	return eight + (rows-8)/r.Many
}

// rates says what is known of the node with the model: measured; else what the node measured of itself, corrected
// by how far the model's rates are from that on the nodes that run it. The time that a layer costs beside its bytes
// is part of what was measured on the model.
func (p *planner) rates(digest string, id string) (r Rates, layer float64) {
	l := p.live[id]
	own, f := l.Rates.orDefault(), p.factor(digest)
	if f == (Rates{}) {
		return own, float64(l.LayerCost)
	}
	r = Rates{own.One * f.One, own.Eight * f.Eight, own.Many * f.Many}
	m := l.Models[digest].Rates
	for _, v := range []struct{ to, from *float64 }{{&r.One, &m.One}, {&r.Eight, &m.Eight}, {&r.Many, &m.Many}} {
		if *v.from > 0 {
			*v.to = *v.from
		}
	}
	r.Eight = min(r.Eight, r.One)
	return r, 0
}

// factor is how much faster or slower than their own rates the nodes run the model: the median of those that know; of a
// kind of step that none knows, as with one row. Zero if nothing is known.
func (p *planner) factor(digest string) Rates {
	if f, ok := p.factors[digest]; ok {
		return f
	}
	var one, eight, many []float64
	for _, l := range p.live {
		m, own := l.Models[digest].Rates, l.Rates.orDefault()
		for _, v := range []struct {
			all       *[]float64
			here, own float64
		}{{&one, m.One, own.One}, {&eight, m.Eight, own.Eight}, {&many, m.Many, own.Many}} {
			if v.here > 0 {
				*v.all = append(*v.all, v.here/v.own)
			}
		}
	}
	var f Rates
	if f.One = median(one); f.One > 0 {
		f.Eight, f.Many = cmp.Or(median(eight), f.One), cmp.Or(median(many), f.One)
	}
	p.factors[digest] = f
	return f
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// hop is what it costs to pass a token of an answer, and its part of a prompt, from one node to another.
func (c *cost) hop(a, b *node) float64 {
	t := distance(a.where, b.where) / 2
	rate := min(a.rate, b.rate)
	if a.rate == 0 || b.rate == 0 {
		rate = max(a.rate, b.rate)
	}
	if rate > 0 {
		t += c.message / rate
	}
	return t
}

// distance is the round trip between two places, in nanoseconds: see Live.Where.
func distance(a, b [4]float64) float64 {
	if a == b {
		return 0 // nothing is known of either, or they are as one
	}
	x, y, z := a[0]-b[0], a[1]-b[1], a[2]-b[2]
	return math.Sqrt(x*x+y*y+z*z) + a[3] + b[3]
}

// stage is how long the node's stage takes for a token of an answer and its part of a prompt, without the hop to it.
func (c *cost) stage(n *node, first, end int) float64 {
	return c.time(first, end)*n.pace + c.prompt(first, end)*n.prompt + n.layer*float64(end-first)
}
