package shard_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lamina/kernels"
	"lamina/shard"
	"lamina/shard/arch"
	"lamina/shard/gguf"
	"lamina/shard/packed"
	"lamina/shard/tiny"
)

// rewrite changes a model file's pairs and tensors.
func rewrite(t testing.TB, data []byte, change func(f *gguf.File) ([]gguf.Pair, []gguf.Tensor)) []byte {
	t.Helper()
	pairs, tensors := change(parse(t, data))
	var b bytes.Buffer
	if err := gguf.Write(&b, pairs, tensors); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// with is a llama whose metadata have the pair.
func with(key string, v gguf.Value) []byte {
	return tiny.Llama(tiny.Config{Layers: 2, Extra: []gguf.Pair{{Key: key, Value: v}}})
}

func without(t testing.TB, key string) []byte {
	return rewrite(t, tiny.Llama(tiny.Config{Layers: 2}), func(f *gguf.File) ([]gguf.Pair, []gguf.Tensor) {
		return slices.DeleteFunc(slices.Clone(f.KV.Pairs()), func(p gguf.Pair) bool { return p.Key == key }), f.Tensors
	})
}

// A model that cannot be run is refused with a reason that a user can act on.
func TestRefusedModels(t *testing.T) {
	two := tiny.Config{Layers: 2}
	tensors := func(change func([]gguf.Tensor) []gguf.Tensor) []byte {
		return rewrite(t, tiny.Llama(two), func(f *gguf.File) ([]gguf.Pair, []gguf.Tensor) {
			return f.KV.Pairs(), change(slices.Clone(f.Tensors))
		})
	}
	edit := func(name string, f func(*gguf.Tensor)) []byte {
		return tensors(func(ts []gguf.Tensor) []gguf.Tensor {
			for i := range ts {
				if ts[i].Name == name {
					f(&ts[i])
				}
			}
			return ts
		})
	}
	badScale := tiny.Llama(two)
	q := must(parse(t, badScale).Tensor("blk.1.ffn_up.weight"))
	q.Data[34*5+1] = 0x7c // the sixth block's scale becomes infinite
	for _, c := range []struct {
		name string
		data []byte
		kind error
		text string
	}{
		{"other architecture", with("general.architecture", gguf.String("mamba")), arch.ErrModel, "supported are llama, qwen2"},
		{"no architecture", without(t, "general.architecture"), arch.ErrModel, "general.architecture"},
		{"no layers key", without(t, "llama.block_count"), arch.ErrModel, "llama.block_count"},
		{"no layers", with("llama.block_count", gguf.Uint32(0)), arch.ErrModel, "llama.block_count is 0"},
		{"too many layers", with("llama.block_count", gguf.Uint32(1<<30)), arch.ErrModel, "llama.block_count"},
		{"layers not a number", with("llama.block_count", gguf.String("2")), arch.ErrModel, "llama.block_count"},
		{"layers negative", with("llama.block_count", gguf.Int32(-2)), arch.ErrModel, "llama.block_count"},
		{"heads per layer", with("llama.attention.head_count_kv", gguf.Int32s([]int32{2, 1})), arch.ErrModel, "variant"},
		{"heads indivisible", with("llama.attention.head_count_kv", gguf.Uint32(3)), arch.ErrModel, "multiple"},
		{"more heads than width", with("llama.attention.head_count", gguf.Uint32(128)), arch.ErrModel, "divide"},
		{"huge width", with("llama.embedding_length", gguf.Uint64(1<<62)), arch.ErrModel, "embedding_length"},
		{"epsilon not a number", with("llama.attention.layer_norm_rms_epsilon", gguf.String("x")), arch.ErrModel, "epsilon"},
		{"epsilon zero", with("llama.attention.layer_norm_rms_epsilon", gguf.Float32(0)), arch.ErrModel, "epsilon"},
		{"odd rotation", with("llama.rope.dimension_count", gguf.Uint32(7)), arch.ErrModel, "rope.dimension_count"},
		{"unknown scaling", with("llama.rope.scaling.type", gguf.String("longrope")), arch.ErrModel, "none, linear and yarn"},
		{"experts", with("llama.expert_count", gguf.Uint32(8)), arch.ErrModel, "experts"},
		{"encoder", with("llama.attention.causal", gguf.Bool(false)), arch.ErrModel, "causal"},
		{"values of another width", with("llama.attention.value_length", gguf.Uint32(8)), arch.ErrModel, "equal"},
		{"no vocabulary", without(t, "tokenizer.ggml.tokens"), arch.ErrModel, "vocab_size"},
		{"other vocabulary", with("tokenizer.ggml.tokens", gguf.Strings([]string{"a", "b"})), arch.ErrModel, "token_embd.weight"},
		{"more layers than tensors", with("llama.block_count", gguf.Uint32(3)), arch.ErrModel, "blk.2.attn_norm.weight is missing"},
		{"fewer layers than tensors", with("llama.block_count", gguf.Uint32(1)), arch.ErrModel, "does not use"},
		{"qwen2 without biases", with("general.architecture", gguf.String("qwen2")), arch.ErrModel, "qwen2.block_count"},
		{"llama with biases", rewrite(t, tiny.Qwen2(two), func(f *gguf.File) ([]gguf.Pair, []gguf.Tensor) {
			return parse(t, tiny.Llama(two)).KV.Pairs(), f.Tensors
		}), arch.ErrModel, "attn_q.bias"},
		{"missing tensor", tensors(func(ts []gguf.Tensor) []gguf.Tensor {
			return slices.DeleteFunc(ts, func(x gguf.Tensor) bool { return x.Name == "blk.1.ffn_up.weight" })
		}), arch.ErrModel, "blk.1.ffn_up.weight is missing"},
		{"turned tensor", edit("blk.0.attn_k.weight", func(x *gguf.Tensor) { x.Dims = []int{32, 64} }), arch.ErrModel, "blk.0.attn_k.weight has shape [32 64]"},
		{"quantised vector", edit("blk.0.attn_norm.weight", func(x *gguf.Tensor) {
			x.Type, x.Data = kernels.Q8_0, make([]byte, 68)
		}), arch.ErrModel, "blk.0.attn_norm.weight is a vector of type Q8_0"},
		{"infinite scale", badScale, kernels.ErrScale, "layer.1: ffn_up.weight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := shard.Cut(parse(t, c.data), func(shard.Part, []byte) error { return nil })
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v; want %v with %q", err, c.kind, c.text)
			}
		})
	}
}

func must[T any](x T, ok bool) T {
	if !ok {
		panic("absent")
	}
	return x
}

// Nothing is emitted of a model that is refused for its metadata or tensors, and an error of emit ends the cut.
func TestCutStops(t *testing.T) {
	n := 0
	count := func(shard.Part, []byte) error { n++; return nil }
	if err := shard.Cut(parse(t, with("llama.block_count", gguf.Uint32(3))), count); err == nil || n > 0 {
		t.Errorf("%d parts, %v", n, err)
	}
	full := errors.New("disk full")
	err := shard.Cut(parse(t, tiny.Llama(tiny.Config{})), func(p shard.Part, _ []byte) error {
		if p.Name == "layer.1" {
			return full
		}
		return nil
	})
	if err != full {
		t.Errorf("got %v", err)
	}
}

func TestCutOfAShrinkingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, tiny.Llama(tiny.Config{}), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if err := shard.Cut(f, func(shard.Part, []byte) error { return nil }); !errors.Is(err, gguf.ErrTruncated) {
		t.Errorf("got %v", err)
	}
}

// Parts that are damaged, swapped or absent are refused at Open.
func TestOpenRefuses(t *testing.T) {
	good := cut(t, parse(t, tiny.Llama(tiny.Config{})))
	other := cut(t, parse(t, tiny.Llama(tiny.Config{Hidden: 128})))
	meta := parse(t, good["meta"])
	opt := shard.Options{Workers: workers(t, 1)}
	all := shard.Span{First: 0, End: 4}
	change := func(name string, data []byte) parts {
		p := parts{}
		for n, d := range good {
			p[n] = d
		}
		p[name] = data
		return p
	}
	for _, c := range []struct {
		name string
		src  parts
		span shard.Span
		opt  shard.Options
		kind error
	}{
		{"empty span", good, shard.Span{First: 2, End: 2}, opt, shard.ErrSpan},
		{"turned span", good, shard.Span{First: 3, End: 1}, opt, shard.ErrSpan},
		{"negative span", good, shard.Span{First: -1, End: 2}, opt, shard.ErrSpan},
		{"span past the end", good, shard.Span{First: 0, End: 5}, opt, shard.ErrSpan},
		{"no workers", good, all, shard.Options{}, shard.ErrInput},
		{"part cut short", change("layer.2", good["layer.2"][:100]), all, opt, packed.ErrFormat},
		{"part empty", change("layer.2", nil), all, opt, packed.ErrFormat},
		{"part of another kind", change("layer.2", good["head"]), all, opt, arch.ErrModel},
		{"part of another model", change("layer.2", other["layer.2"]), all, opt, arch.ErrModel},
		{"head of another model", change("head", other["head"]), all, opt, arch.ErrModel},
	} {
		if s, err := shard.Open(meta, c.src, c.span, c.opt); !errors.Is(err, c.kind) || s != nil {
			t.Errorf("%s: %v; want %v", c.name, err, c.kind)
		}
	}
	if _, err := shard.Open(meta, parts{}, all, opt); err == nil || !strings.Contains(err.Error(), "layer.0") {
		t.Errorf("missing part: %v", err)
	}
}

func TestStepRefuses(t *testing.T) {
	p := cut(t, parse(t, tiny.Llama(tiny.Config{})))
	line := p.open(t, shard.Options{Workers: workers(t, 1)}, 2)
	first, last := line[0], line[1]
	seq := func(s *shard.Shard) *shard.Seq {
		q := newSeq(t, s, 8)
		return q
	}
	a, b, c, freed := seq(first), seq(first), seq(last), seq(first)
	freed.Free()
	ok := shard.Rows{Seq: b, Tokens: []int32{1}}
	for _, x := range []struct {
		name  string
		shard *shard.Shard
		batch []shard.Rows
		kind  error
	}{
		{"no sequence", first, []shard.Rows{ok, {Tokens: []int32{1}}}, shard.ErrClosed},
		{"freed sequence", first, []shard.Rows{ok, {Seq: freed, Tokens: []int32{1}}}, shard.ErrClosed},
		{"sequence of another shard", first, []shard.Rows{ok, {Seq: c, Tokens: []int32{1}}}, shard.ErrClosed},
		{"sequence twice", first, []shard.Rows{ok, ok}, shard.ErrInput},
		{"no rows", first, []shard.Rows{ok, {Seq: a}}, shard.ErrInput},
		{"token too large", first, []shard.Rows{ok, {Seq: a, Tokens: []int32{1, vocab}}}, shard.ErrInput},
		{"token negative", first, []shard.Rows{ok, {Seq: a, Tokens: []int32{-1}}}, shard.ErrInput},
		{"activations for the first", first, []shard.Rows{ok, {Seq: a, X: make([]float32, 64)}}, shard.ErrInput},
		{"tokens for the last", last, []shard.Rows{{Seq: c, Tokens: []int32{1}}}, shard.ErrInput},
		{"half a row", last, []shard.Rows{{Seq: c, X: make([]float32, 65)}}, shard.ErrInput},
		{"logits in the middle", first, []shard.Rows{ok, {Seq: a, Tokens: []int32{1}, Logits: 1}}, shard.ErrInput},
		{"more logits than rows", last, []shard.Rows{{Seq: c, X: make([]float32, 64), Logits: 2}}, shard.ErrInput},
		{"too many positions", first, []shard.Rows{ok, {Seq: a, Tokens: make([]int32, 9)}}, shard.ErrContext},
	} {
		if _, err := x.shard.Step(x.batch); !errors.Is(err, x.kind) {
			t.Errorf("%s: %v; want %v", x.name, err, x.kind)
		}
	}
	if b.Len() != 0 {
		t.Errorf("a refused step left %d positions", b.Len())
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := first.Step([]shard.Rows{ok}); !errors.Is(err, shard.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := first.NewSeq(1, nil); !errors.Is(err, shard.ErrClosed) {
		t.Errorf("NewSeq after Close: %v", err)
	}
	b.Rewind(0)
	b.Free()
}

func TestBudget(t *testing.T) {
	p := cut(t, parse(t, tiny.Llama(tiny.Config{})))
	info, err := shard.ReadInfo(parse(t, p["meta"]))
	if err != nil {
		t.Fatal(err)
	}
	span := shard.Span{First: 1, End: 3}
	budget := info.KVBytes(span, 100) + info.KVBytes(span, 64)
	s, err := shard.Open(parse(t, p["meta"]), p, span, shard.Options{Workers: workers(t, 1), KVBudget: budget})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := newSeq(t, s, 100)
	b, err := s.NewSeq(100, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Reserve(65); !errors.Is(err, shard.ErrNoMemory) || !strings.Contains(err.Error(), "65 positions") {
		t.Errorf("over the budget: %v", err)
	}
	if st := s.KVStats(); st.InUse != 2 || st.Available != 1 || st.Bytes != info.KVBytes(span, 100) || st.Budget != budget {
		t.Errorf("after a refusal: %+v", st)
	}
	if _, err := s.Step([]shard.Rows{{Seq: b, X: make([]float32, 64)}}); !errors.Is(err, shard.ErrNoMemory) {
		t.Errorf("a step of what is not reserved: %v", err)
	}
	if err := b.Reserve(64); err != nil {
		t.Errorf("what is left of the budget is refused: %v", err)
	}
	if err := b.Reserve(101); !errors.Is(err, shard.ErrContext) {
		t.Errorf("more than it was opened for: %v", err)
	}
	for _, n := range []int{0, -1, info.Context + 1} {
		if _, err := s.NewSeq(n, nil); !errors.Is(err, shard.ErrContext) {
			t.Errorf("%d positions: %v", n, err)
		}
	}
	a.Free()
	a.Free()
	if st := s.KVStats(); st.InUse != 1 || st.Free != 2 || st.Available != 2 {
		t.Errorf("after Free: %+v", st)
	}
	newSeq(t, s, 100)
	if a.Len() != 0 {
		t.Error("a freed sequence has positions")
	}
	if err := a.Reserve(1); !errors.Is(err, shard.ErrClosed) {
		t.Errorf("Reserve after Free: %v", err)
	}
	b.Free()
}

// Whatever bytes of a model file are changed, Cut and Open end in a result or an error; what they let through can
// be stepped.
func FuzzModel(f *testing.F) {
	all := [][]byte{tiny.Qwen2(tiny.Config{Layers: 2, Hidden: 32, Heads: 2, Untied: true})}
	named := goldens(f)
	for _, name := range slices.Sorted(maps.Keys(named)) {
		all = append(all, named[name])
	}
	for i, data := range all {
		f.Add(uint8(i), uint32(100), []byte{1, 2, 3, 4, 5, 6, 7, 8})
		for _, key := range []string{".block_count", ".embedding_length", ".attention.head_count", "blk.0.attn_q.weight", ".rope.freq_base",
			".attention.sliding_window", ".expert_count", ".expert_used_count", ".context_length", ".pooling_type"} {
			if at := bytes.Index(data, []byte(key)); at >= 0 {
				f.Add(uint8(i), uint32(at+len(key)), []byte{4, 0, 0, 0, 3, 0, 0, 0})
			}
		}
	}
	w := kernels.NewWorkers(1)
	f.Cleanup(w.Close)
	f.Fuzz(func(t *testing.T, which uint8, at uint32, change []byte) {
		b := bytes.Clone(all[int(which)%len(all)])
		copy(b[int(at)%len(b):], change)
		file, err := gguf.Parse(b)
		if err != nil {
			return
		}
		p := parts{}
		if err := shard.Cut(file, func(x shard.Part, d []byte) error { p[x.Name] = bytes.Clone(d); return nil }); err != nil {
			return
		}
		meta := parse(t, p["meta"])
		info, err := shard.ReadInfo(meta)
		if err != nil {
			t.Fatalf("the metadata of a model that was cut: %v", err)
		}
		s, err := shard.Open(meta, p, shard.Span{First: 0, End: info.Layers}, shard.Options{Workers: w})
		if err != nil {
			t.Fatalf("a model that was cut: %v", err)
		}
		defer s.Close()
		q := newSeq(t, s, min(4, info.Context))
		rows := shard.Rows{Seq: q, Tokens: []int32{0}, Logits: 1}
		if info.Encoder {
			rows.Logits = 0
		}
		if _, err := s.Step([]shard.Rows{rows}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestInfo(t *testing.T) {
	for _, untied := range []bool{false, true} {
		f := parse(t, tiny.Qwen2(tiny.Config{Untied: untied, Name: "mine"}))
		want := shard.Info{Name: "mine", Arch: "qwen2", Layers: 4, Hidden: 64, Vocab: vocab, Context: 512, Heads: 4, KVHeads: 2, HeadDim: 16, Tied: !untied}
		for _, x := range f.Tensors {
			want.Params += int64(x.Rows() * x.Cols())
		}
		p := cut(t, f)
		for what, meta := range map[string]*gguf.File{"file": f, "metadata part": parse(t, p["meta"])} {
			if got, err := shard.ReadInfo(meta); err != nil || got != want {
				t.Errorf("%s: %+v, %v; want %+v", what, got, err, want)
			}
		}
		if _, ok := parse(t, p["meta"]).KV.String("tokenizer.chat_template"); !ok {
			t.Error("the metadata part lacks the template")
		}
	}
}

// The parts that PartsOf lists are those that Cut makes, and those that Open asks for.
func TestPartsOf(t *testing.T) {
	for _, untied := range []bool{false, true} {
		p := cut(t, parse(t, tiny.Llama(tiny.Config{Untied: untied})))
		meta := parse(t, p["meta"])
		info, err := shard.ReadInfo(meta)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(shard.PartsOf(info, shard.Span{First: 0, End: 4}, info.Tied)); n != len(p) {
			t.Errorf("%d parts listed, %d made", n, len(p))
		}
		for first := range 4 {
			for end := first + 1; end <= 4; end++ {
				span := shard.Span{First: first, End: end}
				some := parts{}
				for _, x := range shard.PartsOf(info, span, info.Tied) {
					some[x.Name] = p[x.Name]
				}
				s, err := shard.Open(meta, some, span, shard.Options{Workers: workers(t, 1)})
				if err != nil {
					t.Errorf("%v: %v", span, err)
					continue
				}
				if s.Span() != span || s.Info() != info {
					t.Errorf("%v: opened as %v of %+v", span, s.Span(), s.Info())
				}
				s.Close()
				for name := range some { // none is superfluous
					if name == "meta" {
						continue
					}
					fewer := parts{}
					for n, d := range some {
						if n != name {
							fewer[n] = d
						}
					}
					if _, err := shard.Open(meta, fewer, span, shard.Options{Workers: workers(t, 1)}); err == nil {
						t.Errorf("%v opens without %s", span, name)
					}
				}
			}
		}
	}
	if s := fmt.Sprint(shard.Span{First: 3, End: 12}); s != "[3:12]" {
		t.Error(s)
	}
}
