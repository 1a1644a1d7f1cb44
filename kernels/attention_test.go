package kernels

import (
	"math"
	"testing"
)

// attnCase is a sequence with its queries, keys and values: positions x heads*dim each.
type attnCase struct {
	heads, kvHeads, dim, positions int
	q, k, v                        []float32
}

func newAttnCase(seed uint64, heads, kvHeads, dim, positions int) *attnCase {
	return &attnCase{
		heads: heads, kvHeads: kvHeads, dim: dim, positions: positions,
		q: normals(seed, positions*heads*dim), k: normals(seed+1, positions*kvHeads*dim), v: normals(seed+2, positions*kvHeads*dim),
	}
}

func (c *attnCase) scale() float32 { return float32(1 / math.Sqrt(float64(c.dim))) }

// run computes all positions in chunks of at most chunk rows.
func (c *attnCase) run(w *Workers, chunk int) []float32 {
	out := make([]float32, len(c.q))
	kv := newKV(c.kvHeads, c.dim, c.positions)
	for from := 0; from < c.positions; from += chunk {
		to := min(from+chunk, c.positions)
		kv.Append(c.k[from*c.kvHeads*c.dim:], c.v[from*c.kvHeads*c.dim:], to-from)
		at := c.heads * c.dim
		Attention(w, out[from*at:to*at], c.q[from*at:to*at], []AttnSeq{{kv, from, to - from}}, c.heads, c.dim, c.scale())
	}
	return out
}

// oracle is the same in float64, from the keys and values as the cache rounds them.
func (c *attnCase) oracle() []float64 {
	out := make([]float64, len(c.q))
	for p := range c.positions {
		for h := range c.heads {
			at := (p*c.heads + h) * c.dim
			weights, sum := make([]float64, p+1), 0.0
			for j := range weights {
				dot := 0.0
				for d := range c.dim {
					dot += float64(c.q[at+d]) * float64(f16(toHalf(c.k[c.kvAt(j, h)+d])))
				}
				weights[j] = math.Exp(dot * float64(c.scale()))
				sum += weights[j]
			}
			for j, w := range weights {
				for d := range c.dim {
					out[at+d] += w / sum * float64(f16(toHalf(c.v[c.kvAt(j, h)+d])))
				}
			}
		}
	}
	return out
}

func (c *attnCase) kvAt(pos, head int) int {
	return (pos*c.kvHeads + head/(c.heads/c.kvHeads)) * c.dim
}

var attnShapes = []struct{ heads, kvHeads, dim, positions int }{
	{6, 2, 20, 150}, {9, 3, 64, 70}, {4, 4, 16, 70}, {14, 2, 64, 66}, {1, 1, 5, 3}, {3, 1, 80, 65}, {2, 1, 128, 64}, {1, 1, 300, 20},
}

func TestAttention(t *testing.T) { eachImpl(t, testAttention) }

func testAttention(t *testing.T) {
	w := NewWorkers(2)
	defer w.Close()
	for _, s := range attnShapes {
		c := newAttnCase(7, s.heads, s.kvHeads, s.dim, s.positions)
		near(t, "Attention", c.run(w, s.positions), c.oracle(), 2e-6)
	}
}

func TestAttentionChunks(t *testing.T) { eachImpl(t, testAttentionChunks) }

func testAttentionChunks(t *testing.T) {
	w := NewWorkers(2)
	defer w.Close()
	for _, s := range attnShapes {
		c := newAttnCase(8, s.heads, s.kvHeads, s.dim, s.positions)
		want := c.run(w, 1)
		for _, chunk := range []int{7, 32, 64, 100, s.positions} {
			sameBits(t, "in chunks", c.run(w, chunk), want)
		}
	}
}

// What was forgotten and appended again, and what lies in the page beyond it, leaves no trace.
func TestAttentionSetLen(t *testing.T) { eachImpl(t, testAttentionSetLen) }

func testAttentionSetLen(t *testing.T) {
	w := NewWorkers(2)
	defer w.Close()
	c := newAttnCase(9, 6, 2, 32, 100)
	want := c.run(w, 100)
	kv, width := newKV(2, 32, 120), 6*32
	poison := make([]float32, 100*2*32)
	for i := range poison {
		poison[i] = float32(math.NaN())
	}
	kv.Append(c.k, c.v, 100)
	for _, keep := range []int{90, 64, 63, 5, 0} {
		kv.Append(poison, poison, 20)
		kv.SetLen(keep)
		kv.Append(c.k[keep*64:], c.v[keep*64:], 100-keep)
		out := make([]float32, (100-keep)*width)
		Attention(w, out, c.q[keep*width:], []AttnSeq{{kv, keep, 100 - keep}}, 6, 32, c.scale())
		sameBits(t, "after SetLen", out, want[keep*width:])
	}
}

// A key or value that is infinite or NaN harms the rows that see it and no earlier ones, even in the same tile.
func TestAttentionPoison(t *testing.T) { eachImpl(t, testAttentionPoison) }

func testAttentionPoison(t *testing.T) {
	w := NewWorkers(1)
	defer w.Close()
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e30} {
		c := newAttnCase(10, 2, 2, 16, 80)
		want := c.run(w, 80)
		for i := 70 * 32; i < 71*32; i++ {
			c.k[i], c.v[i] = float32(bad), float32(bad)
		}
		got := c.run(w, 80)
		sameBits(t, "rows before a bad one", got[:70*32], want[:70*32])
		sameBits(t, "in chunks", c.run(w, 9), got)
	}
}

// Sequences of different lengths, decoding and prefilling in one batch of 1 to 33, with any number of workers, give what
// each gives alone.
func TestAttentionBatch(t *testing.T) { eachImpl(t, testAttentionBatch) }

func testAttentionBatch(t *testing.T) {
	const heads, kvHeads, dim = 4, 2, 16
	var q, want []float32
	var seqs []AttnSeq
	alone := NewWorkers(1)
	defer alone.Close()
	for i := range 33 {
		positions, rows := 1+i*37%140, 1+i*i%9
		rows = min(rows, positions)
		c := newAttnCase(uint64(i), heads, kvHeads, dim, positions)
		kv, first := newKV(kvHeads, dim, positions), positions-rows
		kv.Append(c.k, c.v, positions)
		s := []AttnSeq{{kv, first, rows}}
		out := make([]float32, rows*heads*dim)
		Attention(alone, out, c.q[first*heads*dim:], s, heads, dim, c.scale())
		q, want, seqs = append(q, c.q[first*heads*dim:]...), append(want, out...), append(seqs, s...)
	}
	for _, workers := range []int{1, 2, 5} {
		w := NewWorkers(workers)
		defer w.Close()
		rows := 0
		for n := range seqs {
			rows += seqs[n].Rows
			out := make([]float32, rows*heads*dim)
			Attention(w, out, q, seqs[:n+1], heads, dim, 0.25)
			sameBits(t, "a batch", out, want[:len(out)])
		}
	}
}

func TestAttentionNothing(t *testing.T) { eachImpl(t, testAttentionNothing) }

func testAttentionNothing(t *testing.T) {
	w := NewWorkers(2)
	defer w.Close()
	Attention(w, nil, nil, nil, 4, 16, 1)
	Attention(w, nil, nil, []AttnSeq{{newKV(2, 16, 0), 0, 0}}, 4, 16, 1)
	out := normals(1, 4*16)
	Attention(w, out, normals(2, 4*16), []AttnSeq{{newKV(2, 16, 0), 0, 1}}, 4, 16, 1)
	sameBits(t, "no keys", out, make([]float32, 4*16))
}
