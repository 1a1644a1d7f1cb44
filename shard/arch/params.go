package arch

import (
	"errors"
	"fmt"
	"math"

	"lamina/kernels"
	"lamina/shard/gguf"
)

// ErrModel: the file is a readable GGUF, but not a model that can be run. The text says why.
var ErrModel = errors.New("model not supported")

// Bounds of what a model may declare. They are far above any real model; within them no product of the
// numbers below overflows.
const (
	maxLayers  = 4096
	maxHidden  = 1 << 17
	maxFFN     = 1 << 20
	maxHeads   = 2048
	maxHeadDim = 1024
	maxVocab   = 2 << 20
	maxContext = 1 << 24
	maxExperts = 1024
	maxTypes   = 64
)

// Params are the numbers of a model, as its file's key-value pairs give them.
type Params struct {
	Arch    string
	Layers  int
	Hidden  int // width of the residual stream
	FFN     int // width inside the feed-forward block
	Heads   int // query heads
	KVHeads int // key-value heads; divides Heads
	HeadDim int
	Vocab   int
	Context int // positions the model can attend to
	Eps     float32
	RopeDim int // elements of a head that are rotated
	Base    float64
	Scaling kernels.RopeScaling // without Factors, which are a tensor

	// What only some architectures have; zero is none.
	Window     int     // keys that a sliding layer sees
	Every      int     // of so many layers the last one sees everything; 0: all slide
	LocalBase  float64 // Base in sliding layers, which then are not scaled
	EmbedScale float32 // factor of embeddings
	QueryScale float32 // of the products of queries and keys; 0 is 1/sqrt(HeadDim)
	AttnCap    float32 // soft cap of those products
	LogitCap   float32 // soft cap of logits
	Experts    int     // in a layer
	Chosen     int     // of them for a row
	ExpertFFN  int     // width inside one
	Pooling    Pooling // of an encoder, where every position sees all; a decoder has none
	Types      int     // of an encoder's tokens
}

// Sliding tells whether a layer, counted from 0, sees only the last Window keys (Jiang et al., "Mistral 7B", 2023).
func (p Params) Sliding(layer int) bool {
	return p.Window > 0 && (p.Every == 0 || (layer+1)%p.Every != 0)
}

// Read checks the architecture and reads its numbers. Errors wrap ErrModel and name the key.
func Read(kv gguf.KV) (Params, error) {
	name, ok := kv.String("general.architecture")
	if !ok {
		return Params{}, fmt.Errorf("%w: general.architecture is missing: not a language model", ErrModel)
	}
	a, err := Lookup(name)
	if err != nil {
		return Params{}, err
	}
	r := &reader{kv: kv, arch: name}
	eps := "attention.layer_norm_rms_epsilon"
	if a.Encoder != nil {
		eps = "attention.layer_norm_epsilon"
	}
	p := r.params(eps)
	if a.Encoder != nil {
		r.encoder(&p)
	}
	p.Scaling = r.scaling()
	if a.Numbers != nil {
		a.Numbers(r, &p)
	}
	r.refuse(p)
	if r.err != nil {
		return Params{}, r.err
	}
	return p, nil
}

func (r *reader) params(eps string) Params {
	p := Params{Arch: r.arch}
	p.Layers = r.count("block_count", maxLayers, 0)
	p.Hidden = r.count("embedding_length", maxHidden, 0)
	p.FFN = r.count("feed_forward_length", maxFFN, 0)
	p.Heads = r.count("attention.head_count", maxHeads, 0)
	p.KVHeads = r.count("attention.head_count_kv", maxHeads, p.Heads)
	p.HeadDim = r.count("attention.key_length", maxHeadDim, max(1, p.Hidden/p.Heads))
	p.Context = r.count("context_length", maxContext, 0)
	p.Window = r.optional("attention.sliding_window", math.MaxInt32)
	p.RopeDim = r.count("rope.dimension_count", maxHeadDim, p.HeadDim)
	p.Eps = float32(r.number(eps, 0, 1, -1))
	p.Base = r.number("rope.freq_base", 1, 1e15, 10000)
	if n, ok := r.kv.Len("tokenizer.ggml.tokens"); ok {
		p.Vocab = n
	} else {
		p.Vocab = r.count("vocab_size", maxVocab, 0)
	}
	return p
}

// refuse checks how the numbers fit together, and what would change the forward pass.
func (r *reader) refuse(p Params) {
	if r.err != nil {
		return
	}
	switch v := r.count("attention.value_length", maxHeadDim, p.HeadDim); {
	case p.Vocab < 1 || p.Vocab > maxVocab:
		r.fail("a vocabulary of %d tokens; 1 to %d are possible", p.Vocab, maxVocab)
	case p.Heads%p.KVHeads != 0:
		r.fail("%d heads are no multiple of %d key-value heads", p.Heads, p.KVHeads)
	case p.HeadDim > maxHeadDim || !r.has("attention.key_length") && p.HeadDim*p.Heads != p.Hidden:
		r.fail("an embedding_length of %d does not divide into %d heads of at most %d", p.Hidden, p.Heads, maxHeadDim)
	case v != p.HeadDim:
		r.fail("keys of %d and values of %d elements; they must be equal", p.HeadDim, v)
	case p.RopeDim > p.HeadDim || p.RopeDim%2 != 0:
		r.fail("rope.dimension_count %d of heads of %d", p.RopeDim, p.HeadDim)
	}
	if n, ok := r.kv.Uint(r.arch + ".expert_count"); ok && n > 0 && p.Experts == 0 {
		r.fail("a mixture of %d experts; of this architecture only dense models are supported", n)
	}
	if p.Experts > 0 && (p.ExpertFFN%16 != 0 || p.Hidden%16 != 0 || p.Chosen > p.Experts) {
		r.fail("%d of %d experts of %d x %d; widths must be multiples of 16", p.Chosen, p.Experts, p.ExpertFFN, p.Hidden)
	}
	if causal, ok := r.kv.Bool(r.arch + ".attention.causal"); ok && causal != (p.Pooling == 0) {
		r.fail("attention.causal is %t: a variant that is not supported", causal)
	}
}

// encoder reads the numbers that only encoders have.
func (r *reader) encoder(p *Params) {
	p.Pooling = Pooling(r.count("pooling_type", 255, 0))
	if p.Pooling != PoolMean && p.Pooling != PoolFirst {
		r.fail("pooling_type %d; 1 (mean) and 2 (first) are supported", p.Pooling)
	}
	p.Types = 2
	if n, ok := r.kv.Uint("tokenizer.ggml.token_type_count"); ok {
		p.Types = int(min(max(n, 1), maxTypes))
	}
}

// scaling reads how RoPE is stretched.
func (r *reader) scaling() kernels.RopeScaling {
	kind, _ := r.kv.String(r.arch + ".rope.scaling.type")
	old := r.number("rope.scale_linear", 1e-6, 1e6, 1) // before there were kinds
	s := kernels.RopeScaling{Factor: r.number("rope.scaling.factor", 1e-6, 1e6, old)}
	switch kind {
	case "none":
	case "":
		if old != 1 {
			s.Kind = kernels.RopeLinear
		}
	case "linear":
		s.Kind = kernels.RopeLinear
	case "yarn":
		s.Kind = kernels.RopeYarn
		s.Original = r.count("rope.scaling.original_context_length", maxContext, r.count("context_length", maxContext, 0))
		s.Attn = r.number("rope.scaling.attn_factor", 0, 1e6, 1)
		s.BetaFast = r.number("rope.scaling.yarn_beta_fast", 0, 1e6, 32)
		s.BetaSlow = r.number("rope.scaling.yarn_beta_slow", 0, 1e6, 1)
	default:
		r.fail("rope.scaling.type %.40q; none, linear and yarn are supported", kind)
	}
	return s
}

// reader reads an architecture's keys and keeps the first error.
type reader struct {
	kv   gguf.KV
	arch string
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s: %s", ErrModel, r.arch, fmt.Sprintf(format, args...))
	}
}

func (r *reader) has(key string) bool {
	_, ok := r.kv.Get(r.arch + "." + key)
	return ok
}

// count reads a whole number from 1 to most; def stands for an absent one, 0 means it must be there.
func (r *reader) count(key string, most, def int) int {
	full := r.arch + "." + key
	if !r.has(key) && def > 0 {
		return def
	}
	n, ok := r.kv.Uint(full)
	if !ok {
		r.fail("key %s is missing or not one whole number: the file is incomplete or of a variant that is not supported", full)
		return 1
	}
	if n < 1 || n > uint64(most) {
		r.fail("%s is %d; 1 to %d are possible", full, n, most)
		return 1
	}
	return int(n)
}

// optional reads a whole number up to most; absent is 0.
func (r *reader) optional(key string, most int) int {
	if n, ok := r.kv.Uint(r.arch + "." + key); ok && n == 0 || !r.has(key) {
		return 0
	}
	return r.count(key, most, 0)
}

// number reads a number above low, at most high; def stands for an absent one, a negative one means it
// must be there.
func (r *reader) number(key string, low, high, def float64) float64 {
	full := r.arch + "." + key
	if !r.has(key) && def >= 0 {
		return def
	}
	x, ok := r.kv.Float(full)
	if !ok || !(x > low && x <= high) { // also refuses NaN
		r.fail("%s is missing or not a number in (%g, %g]", full, low, high)
		return high
	}
	return x
}
