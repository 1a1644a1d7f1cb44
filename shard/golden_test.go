package shard_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"lamina/kernels"
	"lamina/shard"
)

// golden is what deploy/conformance/golden_llm.py writes: the float32 reference's logits over a text.
type golden struct {
	tokens []int32
	lse    []float32
	ids    [][]int32   // most likely first
	logits [][]float32 // of ids
}

func readGolden(t testing.TB, name string) golden {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if string(b[:8]) != "LAMGOLD1" {
		t.Fatalf("%s is no golden", name)
	}
	n, k := int(binary.LittleEndian.Uint32(b[8:])), int(binary.LittleEndian.Uint32(b[12:]))
	b = b[16:]
	ints := func(n int) []int32 {
		out := make([]int32, n)
		for i := range out {
			out[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
		}
		b = b[4*n:]
		return out
	}
	floats := func(n int) []float32 {
		out := make([]float32, n)
		for i, x := range ints(n) {
			out[i] = math.Float32frombits(uint32(x))
		}
		return out
	}
	g := golden{tokens: ints(n), lse: floats(n)}
	for range n {
		g.ids = append(g.ids, ints(k))
	}
	for range n {
		g.logits = append(g.logits, floats(k))
	}
	return g
}

// divergence is KL(reference || ours) at position i; what the golden does not hold counts as one token.
func (g golden) divergence(i int, ours []float32) float64 {
	top := float64(kernels.LogSumExp(ours))
	var kl, restRef, restOurs float64 = 0, 1, 1
	for j, id := range g.ids[i] {
		p, q := float64(g.logits[i][j]-g.lse[i]), float64(ours[id])-top
		kl += math.Exp(p) * (p - q)
		restRef -= math.Exp(p)
		restOurs -= math.Exp(q)
	}
	restRef, restOurs = max(restRef, 1e-12), max(restOurs, 1e-12)
	return kl + restRef*math.Log(restRef/restOurs)
}

// The logits of real models agree with the float32 reference, and are no farther from it than those of
// llama.cpp at the same positions (DESIGN.md tells how its figures were made).
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		file, golden string
		llama        float64 // mean divergence of llama.cpp
	}{{smol, "smollm2.golden", 0.003813}, {qwen, "qwen2.5-coder.golden", 0.002124}, {gemma, "gemma3.golden", 0.007227}, {large, "qwen2.5-coder-1.5b.golden", 0.035826}} {
		t.Run(c.golden, func(t *testing.T) {
			if c.file == gemma || c.file == large {
				quick(t)
			}
			g := readGolden(t, c.golden)
			f := model(t, c.file)
			s := cut(t, f).open(t, shard.Options{Workers: workers(t, 0)})
			logits := s.alone(t, g.tokens, len(g.tokens))
			n, equal, sum, worst := s[0].Info().Vocab, 0, 0.0, 0.0
			for i := range g.tokens {
				row := logits[i*n : (i+1)*n]
				kl := g.divergence(i, row)
				sum, worst = sum+kl, max(worst, kl)
				if int32(kernels.Argmax(row)) == g.ids[i][0] {
					equal++
				}
			}
			mean := sum / float64(len(g.tokens))
			t.Logf("greedy token equal at %d of %d positions, mean KL %.6f, worst %.6f", equal, len(g.tokens), mean, worst)
			if equal < 60 || !(mean <= min(0.01, c.llama)) {
				t.Errorf("greedy token equal at %d of 64 (at least 60), mean KL %.6f (at most 0.01 and llama.cpp's %.6f)", equal, mean, c.llama)
			}
		})
	}
}
