package arch

import (
	"reflect"
	"strings"
	"testing"

	"lamina/kernels"
	"lamina/shard/gguf"
	"lamina/shard/tiny"
)

var params = Params{Layers: 1, Hidden: 64, FFN: 128, Heads: 4, KVHeads: 2, HeadDim: 16, Vocab: 10, RopeDim: 16, Experts: 4, Chosen: 2, ExpertFFN: 32, Context: 8, Types: 2}

// Every field of every layer is bound by a tag that is understood, and names no tensor twice.
func TestTags(t *testing.T) {
	targets := []any{new(Head)}
	for _, a := range Table() {
		targets = append(targets, a.Layer(), a.Embedding())
	}
	for _, x := range targets {
		list, err := Tensors(x, params)
		if err != nil {
			t.Errorf("%T: %v", x, err)
		}
		seen := map[string]bool{}
		for _, w := range list {
			if seen[w.Name] {
				t.Errorf("%T binds %s twice", x, w.Name)
			}
			seen[w.Name] = true
		}
	}
}

func TestWrongTags(t *testing.T) {
	for name, x := range map[string]any{
		"no name": &struct{ A []float32 }{},
		"unknown dim": &struct {
			A []float32 `tensor:"a" dims:"height"`
		}{},
		"vector of 3": &struct {
			A []float32 `tensor:"a" dims:"q,q,hidden"`
		}{},
		"matrix of 1": &struct {
			A *kernels.Matrix `tensor:"a" dims:"q"`
		}{},
		"unknown rows": &struct {
			A *kernels.Matrix `tensor:"a" dims:"height,q"`
		}{},
	} {
		if _, err := Tensors(x, params); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func read(t *testing.T, extra ...gguf.Pair) Params {
	t.Helper()
	f, err := gguf.Parse(tiny.Llama(tiny.Config{Extra: extra}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Read(f.KV)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRead(t *testing.T) {
	want := Params{Arch: "llama", Layers: 4, Hidden: 64, FFN: 128, Heads: 4, KVHeads: 2, HeadDim: 16, Vocab: 299,
		Context: 512, Eps: 1e-5, RopeDim: 16, Base: 10000, Scaling: kernels.RopeScaling{Factor: 1}}
	if p := read(t); !reflect.DeepEqual(p, want) {
		t.Errorf("got %+v", p)
	}
	pair := func(key string, v gguf.Value) gguf.Pair { return gguf.Pair{Key: "llama." + key, Value: v} }
	if p := read(t, pair("attention.sliding_window", gguf.Uint32(100))); p.Context != 512 || !p.Sliding(3) {
		t.Errorf("context %d, window %d; it should be 512 and 100", p.Context, p.Window)
	}
	if p := read(t, pair("attention.sliding_window", gguf.Uint32(0))); p.Sliding(0) {
		t.Error("a window of 0 is none")
	}
	if p := read(t, pair("attention.key_length", gguf.Uint32(32))); p.HeadDim != 32 || p.RopeDim != 32 {
		t.Errorf("heads of %d, %d rotated", p.HeadDim, p.RopeDim)
	}
	if s := read(t, pair("rope.scale_linear", gguf.Float32(2))).Scaling; s.Kind != kernels.RopeLinear || s.Factor != 2 {
		t.Errorf("old linear scaling: %+v", s)
	}
	linear := []gguf.Pair{pair("rope.scaling.type", gguf.String("linear")), pair("rope.scaling.factor", gguf.Float32(4))}
	if s := read(t, linear...).Scaling; s.Kind != kernels.RopeLinear || s.Factor != 4 {
		t.Errorf("linear scaling: %+v", s)
	}
	yarn := []gguf.Pair{pair("rope.scaling.type", gguf.String("yarn")), pair("rope.scaling.factor", gguf.Float32(4)),
		pair("rope.scaling.original_context_length", gguf.Uint32(128))}
	if s := read(t, yarn...).Scaling; s.Kind != kernels.RopeYarn || s.Factor != 4 || s.Original != 128 || s.BetaFast != 32 {
		t.Errorf("yarn scaling: %+v", s)
	}
}

func TestLookupListsWhatThereIs(t *testing.T) {
	_, err := Lookup("mamba")
	for _, a := range Table() {
		if err == nil || !strings.Contains(err.Error(), a.Name) {
			t.Errorf("%v does not name %s", err, a.Name)
		}
	}
}
