package shard_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lamina/kernels"
	"lamina/shard"
	"lamina/shard/gguf"
	"lamina/shard/tiny"
)

// goldens lists the models of deploy/conformance/golden_arch.py by name.
func goldens(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "arch", "*.gguf"))
	if err != nil || len(files) == 0 {
		t.Fatal("no golden models", err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		if out[strings.TrimSuffix(filepath.Base(f), ".gguf")], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// requantized is a model with its matrices rounded to a type, if their columns fit.
func requantized(t testing.TB, data []byte, to kernels.Type) []byte {
	return rewrite(t, data, func(f *gguf.File) ([]gguf.Pair, []gguf.Tensor) {
		tensors := slices.Clone(f.Tensors)
		for i, x := range tensors {
			if x.Type != kernels.F16 || x.Cols()%to.Block() != 0 {
				continue
			}
			w := make([]float32, x.Rows()*x.Cols())
			if err := kernels.Dequantize(w, x.Type, x.Data); err != nil {
				t.Fatal(err)
			}
			tensors[i].Type, tensors[i].Data = to, tiny.Quantize(to, w)
		}
		return f.KV.Pairs(), tensors
	})
}

// goldenTokens are the tokens of a golden model.
func goldenTokens(t testing.TB, f *gguf.File) []int32 {
	t.Helper()
	ids, ok := f.KV.Ints("lamina.golden.tokens")
	if !ok {
		t.Fatal("no tokens")
	}
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}

// distance is the square error of x relative to want, and the largest error of an element.
func distance(x, want []float32) (rel, worst float64) {
	var num, den float64
	for i, v := range want {
		d := float64(x[i]) - float64(v)
		num, den, worst = num+d*d, den+float64(v)*float64(v), max(worst, math.Abs(d))
	}
	return num / den, worst
}

// Every architecture gives the logits of its reference implementation, but for the float16 of the cache.
func TestGoldenArchitectures(t *testing.T) {
	for name, data := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			f := parse(t, data)
			want, ok := f.KV.Floats("lamina.golden.logits")
			if !ok {
				t.Fatal("no logits")
			}
			s := cut(t, f).open(t, shard.Options{Workers: workers(t, 1)})
			got := s.alone(t, goldenTokens(t, f), 33)
			if len(got) != len(want) {
				t.Fatalf("%d logits, want %d", len(got), len(want))
			}
			rel, worst := distance(got, want)
			t.Logf("relative square error %.2g, worst %.2g", rel, worst)
			if !(rel <= 5e-6) {
				t.Errorf("relative square error %.2g, at most 5e-6", rel)
			}
		})
	}
}
