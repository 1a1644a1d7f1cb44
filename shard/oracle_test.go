package shard_test

import (
	"fmt"
	"math"
	"testing"

	"lamina/kernels"
	"lamina/shard"
	"lamina/shard/arch"
	"lamina/shard/gguf"
	"lamina/shard/tiny"
)

// oracle computes a model in float64, one position after the other, straight from the formulas.
type oracle struct {
	t    *testing.T
	f    *gguf.File
	p    arch.Params
	keys [][][]float64 // layer, position
	vals [][][]float64
}

func (o *oracle) weight(name string) ([]float64, bool) {
	t, ok := o.f.Tensor(name)
	if !ok {
		return nil, false
	}
	x := make([]float32, t.Rows()*t.Cols())
	for r := range t.Rows() {
		n := len(t.Data) / t.Rows()
		if err := kernels.Dequantize(x[r*t.Cols():(r+1)*t.Cols()], t.Type, t.Data[r*n:(r+1)*n]); err != nil {
			o.t.Fatal(err)
		}
	}
	w := make([]float64, len(x))
	for i, v := range x {
		w[i] = float64(v)
	}
	return w, true
}

func (o *oracle) linear(name string, x []float64) []float64 {
	w, ok := o.weight(name + ".weight")
	if !ok {
		o.t.Fatalf("no %s", name)
	}
	y := make([]float64, len(w)/len(x))
	for i := range y {
		for j, v := range x {
			y[i] += w[i*len(x)+j] * v
		}
	}
	if b, ok := o.weight(name + ".bias"); ok {
		for i := range y {
			y[i] += b[i]
		}
	}
	return y
}

func (o *oracle) norm(name string, x []float64) []float64 {
	w, _ := o.weight(name)
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v / math.Sqrt(sum/float64(len(x))+float64(o.p.Eps)) * w[i]
	}
	return y
}

func (o *oracle) rope(x []float64, pos int) {
	factors, _ := o.weight("rope_freqs.weight")
	half := o.p.RopeDim / 2
	for h := 0; h < len(x); h += o.p.HeadDim {
		for i := range half {
			a, b := h+2*i, h+2*i+1
			if o.p.Arch == "qwen2" {
				a, b = h+i, h+i+half
			}
			f := math.Pow(o.p.Base, -2*float64(i)/float64(o.p.RopeDim))
			if factors != nil {
				f /= factors[i]
			}
			sin, cos := math.Sincos(float64(pos) * f)
			x[a], x[b] = x[a]*cos-x[b]*sin, x[a]*sin+x[b]*cos
		}
	}
}

func (o *oracle) attention(layer, pos int, x []float64) []float64 {
	blk, d := fmt.Sprintf("blk.%d.", layer), o.p.HeadDim
	q, k := o.linear(blk+"attn_q", x), o.linear(blk+"attn_k", x)
	o.rope(q, pos)
	o.rope(k, pos)
	o.keys[layer] = append(o.keys[layer], k)
	o.vals[layer] = append(o.vals[layer], o.linear(blk+"attn_v", x))
	out := make([]float64, len(q))
	for h := range o.p.Heads {
		g := h / (o.p.Heads / o.p.KVHeads)
		weights, sum := make([]float64, pos+1), 0.0
		for i, key := range o.keys[layer] {
			s := 0.0
			for j := range d {
				s += q[h*d+j] * key[g*d+j]
			}
			weights[i] = math.Exp(s / math.Sqrt(float64(d)))
			sum += weights[i]
		}
		for i, v := range o.vals[layer] {
			for j := range d {
				out[h*d+j] += weights[i] / sum * v[g*d+j]
			}
		}
	}
	return o.linear(blk+"attn_output", out)
}

func (o *oracle) step(token int32, pos int) []float64 {
	embed, _ := o.weight("token_embd.weight")
	x := embed[int(token)*o.p.Hidden:][:o.p.Hidden]
	for l := range o.p.Layers {
		blk := fmt.Sprintf("blk.%d.", l)
		for i, v := range o.attention(l, pos, o.norm(blk+"attn_norm.weight", x)) {
			x[i] += v
		}
		n := o.norm(blk+"ffn_norm.weight", x)
		h, up := o.linear(blk+"ffn_gate", n), o.linear(blk+"ffn_up", n)
		for i := range h {
			h[i] *= up[i] / (1 + math.Exp(-h[i]))
		}
		for i, v := range o.linear(blk+"ffn_down", h) {
			x[i] += v
		}
	}
	head := "output"
	if _, ok := o.weight("output.weight"); !ok {
		head = "token_embd"
	}
	return o.linear(head, o.norm("output_norm.weight", x))
}

// With float weights the forward pass is that of the formulas, but for float32 and a cache of float16.
func TestFormulas(t *testing.T) {
	partial := []gguf.Pair{{Key: "llama.rope.dimension_count", Value: gguf.Uint32(8)}, {Key: "llama.rope.freq_base", Value: gguf.Float32(500)}}
	for name, data := range map[string][]byte{
		"llama":          tiny.Llama(tiny.Config{F32: true, Layers: 3}),
		"llama 3":        tiny.Llama(tiny.Config{F32: true, Layers: 2, RopeFreqs: true, Untied: true}),
		"half rotated":   tiny.Llama(tiny.Config{F32: true, Layers: 2, Extra: partial}),
		"one head group": tiny.Llama(tiny.Config{F32: true, Layers: 2, Heads: 2, KVHeads: 2}),
		"qwen2":          tiny.Qwen2(tiny.Config{F32: true, Layers: 3, Seed: 5}),
	} {
		t.Run(name, func(t *testing.T) {
			f := parse(t, data)
			p, err := arch.Read(f.KV)
			if err != nil {
				t.Fatal(err)
			}
			o := &oracle{t: t, f: f, p: p, keys: make([][][]float64, p.Layers), vals: make([][][]float64, p.Layers)}
			tokens := randomTokens(8, 20, vocab)
			got := cut(t, f).open(t, shard.Options{Workers: workers(t, 1)}).alone(t, tokens, 7)
			var num, den float64
			for i, token := range tokens {
				for j, want := range o.step(token, i) {
					num += math.Pow(float64(got[i*vocab+j])-want, 2)
					den += want * want
				}
			}
			t.Logf("relative square error %.2g", num/den)
			if !(num/den <= 1e-5) {
				t.Errorf("relative square error %.2g, at most 1e-5", num/den)
			}
		})
	}
}
