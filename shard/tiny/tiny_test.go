package tiny

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"lamina/kernels"
	"lamina/shard/gguf"
)

// The quantisers lose no more than half a step of their type's scale (K types: a little more, for their
// own scales are rounded too).
func TestQuantize(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	w := make([]float32, 1024)
	for i := range w {
		w[i] = float32(rng.NormFloat64())
	}
	for typ, most := range map[kernels.Type]float64{
		kernels.F32: 0, kernels.F16: 1e-6, kernels.BF16: 1e-4, kernels.Q8_0: 1e-4, kernels.Q5_1: 2e-3, kernels.Q5_0: 4e-3,
		kernels.Q4_1: 8e-3, kernels.Q4_0: 1.2e-2, kernels.Q4_K: 8e-3, kernels.Q5_K: 2e-3, kernels.Q6_K: 6e-4,
		kernels.Q2_K: 0.13, kernels.Q3_K: 0.04, kernels.IQ4_NL: 9e-3, kernels.IQ4_XS: 9e-3, kernels.MXFP4: 1.5e-2,
	} {
		data := Quantize(typ, w)
		back := make([]float32, len(w))
		if err := kernels.Dequantize(back, typ, data); err != nil {
			t.Fatal(err)
		}
		var num, den float64
		for i := range w {
			num += math.Pow(float64(back[i]-w[i]), 2)
			den += math.Pow(float64(w[i]), 2)
		}
		t.Logf("%v: error %.2g", typ, num/den)
		if !(num/den <= most) {
			t.Errorf("%v: relative square error %.2g, at most %.2g", typ, num/den, most)
		}
		zero := make([]float32, 256)
		if err := kernels.Dequantize(zero, typ, Quantize(typ, make([]float32, 256))); err != nil || !equal(zero, make([]float32, 256)) {
			t.Errorf("%v: zeros come back as %v (%v)", typ, zero[:4], err)
		}
	}
}

func equal(a, b []float32) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestModels(t *testing.T) {
	a, b := Llama(Config{Seed: 1}), Llama(Config{Seed: 2})
	if !bytes.Equal(a, Llama(Config{Seed: 1})) || bytes.Equal(a, b) {
		t.Error("the bytes are not a function of the Config")
	}
	f, err := gguf.Parse(Qwen2(Config{Extra: []gguf.Pair{{Key: "general.name", Value: gguf.String("x")}}}))
	if err != nil {
		t.Fatal(err)
	}
	if name, _ := f.KV.String("general.name"); name != "x" {
		t.Errorf("name %q", name)
	}
}

func TestVocabulary(t *testing.T) {
	index := map[string]int{}
	for i, w := range Vocabulary() {
		if j, dup := index[w]; dup {
			t.Errorf("%q is token %d and %d", w, j, i)
		}
		index[w] = i
	}
	if len(index) != 299 || index["Ġ"] != ' ' || index["Ċ"] != '\n' || index["a"] != 'a' {
		t.Errorf("%d tokens; Ġ is %d, Ċ is %d", len(index), index["Ġ"], index["Ċ"])
	}
	for _, m := range merged {
		for _, part := range m {
			if _, ok := index[part]; !ok {
				t.Errorf("merge of %q, which is no token", part)
			}
		}
	}
}
