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
	kv := NewKV(c.kvHeads, c.dim)
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
	{9, 3, 64, 150}, {4, 4, 16, 70}, {14, 2, 64, 66}, {1, 1, 5, 3}, {3, 1, 80, 65}, {2, 1, 128, 64}, {1, 1, 300, 20},
}

func TestAttention(t *testing.T) {
	w := NewWorkers(2)
	defer w.Close()
	for _, s := range attnShapes {
		c := newAttnCase(7, s.heads, s.kvHeads, s.dim, s.positions)
		near(t, "Attention", c.run(w, s.positions), c.oracle(), 2e-6)
	}
}

func TestAttentionChunks(t *testing.T) {
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
