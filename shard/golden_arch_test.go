package shard_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lamina/kernels"
	"lamina/shard"
	"lamina/shard/arch"
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
				want, ok = f.KV.Floats("lamina.golden.embedding")
			}
			if !ok {
				t.Fatal("no logits and no embedding")
			}
			s := cut(t, f).open(t, shard.Options{Workers: workers(t, 1)})
			got := s.alone(t, goldenTokens(t, f), 33)
			if len(got) != len(want) {
				t.Fatalf("%d numbers, want %d", len(got), len(want))
			}
			rel, worst := distance(got, want)
			t.Logf("relative square error %.2g, worst %.2g", rel, worst)
			if !(rel <= 5e-6) {
				t.Errorf("relative square error %.2g, at most 5e-6", rel)
			}
		})
	}
}

// The goldens tell a model from one that differs in a single number: nothing that an architecture does is idle in them.
func TestGoldensTellModelsApart(t *testing.T) {
	u, f := gguf.Uint32, gguf.Float32
	for _, c := range []struct {
		name, key string
		value     gguf.Value
	}{
		{"mistral", "llama.attention.sliding_window", u(10)},
		{"gemma3", "gemma3.attention.sliding_window", u(8)},
		{"gemma3", "gemma3.attention.sliding_window_pattern", u(5)},
		{"gemma3", "gemma3.rope.freq_base", f(10000)},
		{"gemma3", "gemma3.rope.freq_base_swa", f(1e6)},
		{"gemma2", "gemma2.attention.sliding_window", u(10)},
		{"gemma2", "gemma2.attn_logit_softcapping", f(3)},
		{"gemma2", "gemma2.final_logit_softcapping", f(4.1)},
		{"phi3", "phi3.attention.sliding_window", u(34)},
		{"phi4", "phi3.rope.scaling.attn_factor", f(1)},
		{"phi4", "phi3.rope.scaling.original_context_length", u(256)},
		{"qwen3moe", "qwen3moe.expert_used_count", u(3)},
		{"gpt-oss", "gpt-oss.attention.sliding_window", u(11)},
		{"gpt-oss", "gpt-oss.rope.scaling.factor", f(7)},
	} {
		t.Run(c.name+" "+c.key, func(t *testing.T) {
			data := rewrite(t, goldens(t)[c.name], func(f *gguf.File) ([]gguf.Pair, []gguf.Tensor) {
				pairs := slices.DeleteFunc(slices.Clone(f.KV.Pairs()), func(p gguf.Pair) bool { return p.Key == c.key })
				return append(pairs, gguf.Pair{Key: c.key, Value: c.value}), f.Tensors
			})
			f := parse(t, data)
			want, _ := f.KV.Floats("lamina.golden.logits")
			got := cut(t, f).open(t, shard.Options{Workers: workers(t, 1)}).alone(t, goldenTokens(t, f), 80)
			if rel, _ := distance(got, want); !(rel > 1e-4) {
				t.Errorf("relative square error %.2g with another %s", rel, c.key)
			}
		})
	}
}

// An encoder takes a text whole, at the start of a sequence, and gives no logits.
func TestEncoderSteps(t *testing.T) {
	line := cut(t, parse(t, goldens(t)["bert"])).open(t, shard.Options{Workers: workers(t, 1)})
	s, info := line[0], line[0].Info()
	if !info.Encoder || info.Tied {
		t.Fatalf("%+v", info)
	}
	for _, p := range shard.PartsOf(info, shard.Span{First: 0, End: info.Layers}, info.Tied) {
		if p.Kind == shard.Head {
			t.Error("an encoder has no head")
		}
	}
	q := newSeq(t, s, 20)
	tokens := randomTokens(1, 8, info.Vocab)
	if _, err := s.Step([]shard.Rows{{Seq: q, Tokens: tokens, Logits: 1}}); !errors.Is(err, shard.ErrInput) {
		t.Errorf("logits: %v", err)
	}
	out, err := s.Step([]shard.Rows{{Seq: q, Tokens: tokens}})
	if err != nil || len(out[0]) != info.Hidden {
		t.Fatalf("%d numbers, %v", len(out[0]), err)
	}
	first := slices.Clone(out[0])
	if _, err := s.Step([]shard.Rows{{Seq: q, Tokens: tokens}}); !errors.Is(err, shard.ErrInput) {
		t.Errorf("a second part: %v", err)
	}
	q.Rewind(0)
	if out, err = s.Step([]shard.Rows{{Seq: q, Tokens: tokens}}); err != nil {
		t.Fatal(err)
	}
	sameBits(t, "the text again", out[0], first)
}

// What an architecture of its own cannot do is refused by name, before anything is computed.
func TestRefusedNumbers(t *testing.T) {
	u := gguf.Uint32
	for _, c := range []struct {
		name, key string
		value     gguf.Value
		text      string
	}{
		{"qwen3moe", "qwen3moe.expert_used_count", u(7), "7 of 6 experts"},
		{"qwen3moe", "qwen3moe.expert_count", u(5000), "expert_count"},
		{"qwen3moe", "qwen3moe.expert_feed_forward_length", u(24), "multiples of 16"},
		{"qwen3", "qwen3.expert_count", u(2), "only dense"},
		{"phi3", "phi3.feed_forward_length", u(40), "multiples of 16"},
		{"gemma3", "gemma3.attention.sliding_window", u(0), "sliding_window"},
		{"gemma3", "gemma3.attention.causal", gguf.Bool(false), "causal"},
		{"bert", "bert.pooling_type", u(0), "pooling_type"},
		{"bert", "bert.pooling_type", u(3), "pooling_type"},
		{"bert", "bert.attention.causal", gguf.Bool(true), "causal"},
		{"bert", "bert.context_length", u(95), "position_embd.weight"},
	} {
		t.Run(c.name+" "+c.key, func(t *testing.T) {
			data := rewrite(t, goldens(t)[c.name], func(f *gguf.File) ([]gguf.Pair, []gguf.Tensor) {
				pairs := slices.DeleteFunc(slices.Clone(f.KV.Pairs()), func(p gguf.Pair) bool { return p.Key == c.key })
				return append(pairs, gguf.Pair{Key: c.key, Value: c.value}), f.Tensors
			})
			err := shard.Cut(parse(t, data), func(shard.Part, []byte) error { return nil })
			if !errors.Is(err, arch.ErrModel) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v; want %q", err, c.text)
			}
		})
	}
}

// withExperts is a model with the matrices of its experts rounded to a type and then stored as another.
func withExperts(t testing.TB, data []byte, to kernels.Type, store func(t kernels.Type, data []byte, n int) (kernels.Type, []byte)) []byte {
	t.Helper()
	return rewrite(t, data, func(f *gguf.File) ([]gguf.Pair, []gguf.Tensor) {
		tensors, changed := slices.Clone(f.Tensors), 0
		for i, x := range tensors {
			if !strings.Contains(x.Name, "_exps.weight") {
				continue
			}
			n := x.Rows() * x.Cols()
			w := make([]float32, n)
			if err := kernels.Dequantize(w, x.Type, x.Data); err != nil {
				t.Fatal(err)
			}
			tensors[i].Type, tensors[i].Data = store(to, tiny.Quantize(to, w), n)
			changed++
		}
		if changed == 0 {
			t.Fatal("the model has no experts")
		}
		return f.KV.Pairs(), tensors
	})
}

// asIs stores what withExperts has rounded.
func asIs(t kernels.Type, data []byte, _ int) (kernels.Type, []byte) { return t, data }

// gpt-oss files have MXFP4 experts among matrices of other types. Such a model gives the logits that the same numbers give as
// float32, but for the rounding of activations to 8 bits.
func TestExpertsInMXFP4(t *testing.T) {
	for _, name := range []string{"gpt-oss", "qwen3moe"} {
		t.Run(name, func(t *testing.T) {
			data := goldens(t)[name]
			logits := func(data []byte) []float32 {
				f := parse(t, data)
				return cut(t, f).open(t, shard.Options{Workers: workers(t, 1)}).alone(t, goldenTokens(t, f), 33)
			}
			packed := logits(withExperts(t, data, kernels.MXFP4, asIs))
			exact := logits(withExperts(t, data, kernels.MXFP4, func(k kernels.Type, b []byte, n int) (kernels.Type, []byte) {
				w := make([]float32, n)
				if err := kernels.Dequantize(w, k, b); err != nil {
					t.Fatal(err)
				}
				return kernels.F32, tiny.Quantize(kernels.F32, w)
			}))
			rel, _ := distance(packed, exact)
			far, _ := distance(exact, logits(data))
			t.Logf("relative square error %.2g; rounding the experts moves the logits by %.2g", rel, far)
			if !(rel < 1e-3) || rel > far/50 {
				t.Errorf("relative square error %.2g, want less than 1e-3 and a fiftieth of %.2g", rel, far)
			}
		})
	}
}
