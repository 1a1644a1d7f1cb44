package tiny

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"

	"lamina/kernels"
	"lamina/shard/gguf"
)

// Config describes a model. Zero fields take the defaults named with them.
type Config struct {
	Layers  int // 4
	Hidden  int // 64; a multiple of the weights' block (32, for the K types 256)
	FFN     int // twice Hidden
	Heads   int // Hidden / 16
	KVHeads int // Heads / 2
	Context int // 512
	Seed    uint64
	Name    string // "tiny"

	// Type of the matrices (Q8_0), unless TypeOf says otherwise for a tensor's name, such as
	// "token_embd.weight" or "blk.0.attn_q.weight".
	Type   kernels.Type
	TypeOf func(name string) kernels.Type
	// F32 asks for float weights; needed since F32 is the zero Type.
	F32 bool
	// Untied gives the model an output.weight of its own.
	Untied bool
	// RopeFreqs adds rope_freqs.weight, as Llama 3 has.
	RopeFreqs bool
	// Extra pairs are appended; one with a key that the model has already replaces it.
	Extra []gguf.Pair
}

// Llama returns a GGUF file of the architecture "llama". It panics on a Config that makes no model.
func Llama(c Config) []byte { return build("llama", c, false) }

// Qwen2 returns a GGUF file of the architecture "qwen2": with biases on query, key and value.
func Qwen2(c Config) []byte { return build("qwen2", c, true) }

func (c Config) defaults() Config {
	set := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	set(&c.Layers, 4)
	set(&c.Hidden, 64)
	set(&c.FFN, 2*c.Hidden)
	set(&c.Heads, max(1, c.Hidden/16))
	set(&c.KVHeads, max(1, c.Heads/2))
	set(&c.Context, 512)
	if c.Name == "" {
		c.Name = "tiny"
	}
	if c.Type == kernels.F32 && !c.F32 {
		c.Type = kernels.Q8_0
	}
	return c
}

func build(arch string, c Config, bias bool) []byte {
	c = c.defaults()
	b := &builder{Config: c, rng: rand.New(rand.NewPCG(c.Seed, 0x6c616d696e61))}
	words := Vocabulary()
	b.matrix("token_embd.weight", len(words), c.Hidden, 1)
	head := c.Hidden / c.Heads
	if c.RopeFreqs {
		b.vector("rope_freqs.weight", head/2, 2, 1)
	}
	for i := range c.Layers {
		b.layer(fmt.Sprintf("blk.%d.", i), head, bias)
	}
	b.vector("output_norm.weight", c.Hidden, 1, 0.1)
	if c.Untied {
		b.matrix("output.weight", len(words), c.Hidden, 3)
	}
	var out bytes.Buffer
	if err := gguf.Write(&out, pairs(arch, c, words), b.tensors); err != nil {
		panic(fmt.Sprintf("tiny: %v", err))
	}
	return out.Bytes()
}

func pairs(arch string, c Config, words []string) []gguf.Pair {
	u := func(n int) gguf.Value { return gguf.Uint32(uint32(n)) }
	list := []gguf.Pair{
		{Key: "general.architecture", Value: gguf.String(arch)},
		{Key: "general.name", Value: gguf.String(c.Name)},
		{Key: arch + ".block_count", Value: u(c.Layers)},
		{Key: arch + ".context_length", Value: u(c.Context)},
		{Key: arch + ".embedding_length", Value: u(c.Hidden)},
		{Key: arch + ".feed_forward_length", Value: u(c.FFN)},
		{Key: arch + ".attention.head_count", Value: u(c.Heads)},
		{Key: arch + ".attention.head_count_kv", Value: u(c.KVHeads)},
		{Key: arch + ".attention.layer_norm_rms_epsilon", Value: gguf.Float32(1e-5)},
		{Key: arch + ".rope.freq_base", Value: gguf.Float32(10000)},
	}
	list = append(list, tokenizer(arch, words)...)
	return replace(list, c.Extra)
}

func replace(list, extra []gguf.Pair) []gguf.Pair {
next:
	for _, e := range extra {
		for i := range list {
			if list[i].Key == e.Key {
				list[i] = e
				continue next
			}
		}
		list = append(list, e)
	}
	return list
}

type builder struct {
	Config
	rng     *rand.Rand
	tensors []gguf.Tensor
}

func (b *builder) layer(p string, head int, bias bool) {
	q, kv := b.Heads*head, b.KVHeads*head
	b.vector(p+"attn_norm.weight", b.Hidden, 1, 0.1)
	b.matrix(p+"attn_q.weight", q, b.Hidden, 2)
	b.matrix(p+"attn_k.weight", kv, b.Hidden, 2)
	b.matrix(p+"attn_v.weight", kv, b.Hidden, 1)
	if bias {
		b.vector(p+"attn_q.bias", q, 0, 0.5)
		b.vector(p+"attn_k.bias", kv, 0, 0.5)
		b.vector(p+"attn_v.bias", kv, 0, 0.2)
	}
	b.matrix(p+"attn_output.weight", b.Hidden, q, 1)
	b.vector(p+"ffn_norm.weight", b.Hidden, 1, 0.1)
	b.matrix(p+"ffn_gate.weight", b.FFN, b.Hidden, 1.5)
	b.matrix(p+"ffn_up.weight", b.FFN, b.Hidden, 1.5)
	b.matrix(p+"ffn_down.weight", b.Hidden, b.FFN, 1)
}

// matrix adds random weights that keep the size of what they are multiplied with, times gain.
func (b *builder) matrix(name string, rows, cols int, gain float64) {
	t := b.Type
	if b.TypeOf != nil {
		t = b.TypeOf(name)
	}
	dev := gain / math.Sqrt(float64(cols))
	if name == "token_embd.weight" {
		dev = gain
	}
	w := make([]float32, rows*cols)
	for i := range w {
		w[i] = float32(b.rng.NormFloat64() * dev)
	}
	b.tensors = append(b.tensors, gguf.Tensor{Name: name, Type: t, Dims: []int{cols, rows}, Data: Quantize(t, w)})
}

func (b *builder) vector(name string, n int, mean, dev float64) {
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(mean + math.Max(-2, math.Min(2, b.rng.NormFloat64()))*dev*0.4)
	}
	b.tensors = append(b.tensors, gguf.Tensor{Name: name, Type: kernels.F32, Dims: []int{n}, Data: Quantize(kernels.F32, w)})
}
