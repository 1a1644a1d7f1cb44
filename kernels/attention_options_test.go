package kernels

import (
	"fmt"
	"math"
	"testing"
)

var attnOptions = []AttnOptions{
	{Window: 1}, {Window: 5}, {Window: 64}, {Window: 70}, {Window: 1000}, {Cap: 2}, {Sinks: sinks}, {Full: true},
	{Window: 33, Cap: 1.5, Sinks: sinks}, {Full: true, Cap: 3, Sinks: sinks},
}

var sinks = []float32{0.5, -3, 4, 0, 1, 2, -1, 90, 1, -200, 0.25, 1, 1, 3}

// with is run with options; what is not causal needs all keys first.
func (c *attnCase) with(w *Workers, chunk int, o AttnOptions) []float32 {
	out, at := make([]float32, len(c.q)), c.heads*c.dim
	kv := newKV(c.kvHeads, c.dim, c.positions)
	if o.Full {
		kv.Append(c.k, c.v, c.positions)
	}
	for from := 0; from < c.positions; from += chunk {
		to := min(from+chunk, c.positions)
		if !o.Full {
			kv.Append(c.k[from*c.kvHeads*c.dim:], c.v[from*c.kvHeads*c.dim:], to-from)
		}
		AttentionWith(w, out[from*at:to*at], c.q[from*at:to*at], []AttnSeq{{kv, from, to - from}}, c.heads, c.dim, o)
	}
	return out
}

// exact is the same in float64.
func (c *attnCase) exact(o AttnOptions) []float64 {
	out := make([]float64, len(c.q))
	for p := range c.positions {
		first, last := 0, p+1
		if o.Window > 0 {
			first = max(0, last-o.Window)
		}
		if o.Full {
			first, last = 0, c.positions
		}
		for h := range c.heads {
			c.exactRow(out[(p*c.heads+h)*c.dim:][:c.dim], p, h, first, last, o)
		}
	}
	return out
}

func (c *attnCase) exactRow(out []float64, p, h, first, last int, o AttnOptions) {
	at := (p*c.heads + h) * c.dim
	weights, sum := map[int]float64{}, 0.0
	for j := first; j < last; j++ {
		s := 0.0
		for d := range c.dim {
			s += float64(c.q[at+d]) * float64(f16(toHalf(c.k[c.kvAt(j, h)+d])))
		}
		s *= float64(o.Scale)
		if o.Cap > 0 {
			s = float64(o.Cap) * math.Tanh(s/float64(o.Cap))
		}
		weights[j] = math.Exp(s)
		sum += weights[j]
	}
	if o.Sinks != nil {
		sum += math.Exp(float64(o.Sinks[h]))
	}
	for j := first; j < last; j++ {
		for d := range out {
			out[d] += weights[j] / sum * float64(f16(toHalf(c.v[c.kvAt(j, h)+d])))
		}
	}
}

func eachOption(t *testing.T, f func(what string, c *attnCase, o AttnOptions)) {
	for i, s := range attnShapes {
		c := newAttnCase(uint64(20+i), s.heads, s.kvHeads, s.dim, s.positions)
		for _, o := range attnOptions {
			o.Scale = c.scale()
			f(fmt.Sprintf("%+v of %+v", o, s), c, o)
		}
	}
}

func TestAttentionOptions(t *testing.T) { eachImpl(t, testAttentionOptions) }

func testAttentionOptions(t *testing.T) {
	w := NewWorkers(2)
	defer w.Close()
	eachOption(t, func(what string, c *attnCase, o AttnOptions) {
		near(t, what, c.with(w, c.positions, o), c.exact(o), 3e-6)
	})
}

// Chunks, workers and the level change no bit, whatever the options.
func TestAttentionOptionsBits(t *testing.T) {
	one, two := NewWorkers(1), NewWorkers(2)
	defer one.Close()
	defer two.Close()
	eachOption(t, func(what string, c *attnCase, o AttnOptions) {
		old := active
		active = generic
		want := c.with(one, 1, o)
		active = old
		eachImpl(t, func(t *testing.T) {
			for _, chunk := range []int{7, c.positions} {
				sameBits(t, what+" in chunks", c.with(two, chunk, o), want)
			}
		})
	})
}

// A window as long as the sequence, a sink that weighs nothing: the bits of no option at all.
func TestAttentionOptionsThatDoNothing(t *testing.T) { eachImpl(t, testAttentionOptionsThatDoNothing) }

func testAttentionOptionsThatDoNothing(t *testing.T) {
	w := NewWorkers(2)
	defer w.Close()
	c := newAttnCase(30, 6, 2, 32, 130)
	none := []float32{-300, -300, -300, -300, -300, -300}
	sameBits(t, "idle options", c.with(w, 50, AttnOptions{Scale: c.scale(), Window: 130, Sinks: none}), c.run(w, 50))
}

// What has left the window, and what was never in it, harms no row.
func TestAttentionWindowPoison(t *testing.T) { eachImpl(t, testAttentionWindowPoison) }

func testAttentionWindowPoison(t *testing.T) {
	w := NewWorkers(1)
	defer w.Close()
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		c := newAttnCase(31, 2, 2, 16, 150)
		o := AttnOptions{Scale: c.scale(), Window: 20}
		want := c.with(w, 150, o)
		for i := 70 * 32; i < 71*32; i++ {
			c.k[i], c.v[i] = float32(bad), float32(bad)
		}
		got := c.with(w, 150, o)
		sameBits(t, "rows before a bad key", got[:70*32], want[:70*32])
		sameBits(t, "rows after it has left", got[90*32:], want[90*32:])
	}
}
