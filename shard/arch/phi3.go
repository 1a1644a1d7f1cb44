package arch

import "lamina/kernels"

// phi3 is a layer of Phi-3 and Phi-4 (Abdin et al., "Phi-3 Technical Report", 2024): as Llama's, with one matrix for
// query, key and value and one for gate and up, and rotary positions on the two halves of a head, or of its first
// part. Long contexts rotate by factors of their own (Ding et al., "LongRoPE", 2024).
type phi3 struct {
	AttnNorm  []float32       `tensor:"attn_norm.weight" dims:"hidden"`
	QKV       *kernels.Matrix `tensor:"attn_qkv.weight" dims:"qkv,hidden"`
	O         *kernels.Matrix `tensor:"attn_output.weight" dims:"hidden,q"`
	RopeLong  []float32       `tensor:"rope_factors_long.weight,model,optional" dims:"rope"`
	RopeShort []float32       `tensor:"rope_factors_short.weight,model,optional" dims:"rope"`
	FFNNorm   []float32       `tensor:"ffn_norm.weight" dims:"hidden"`
	GateUp    *kernels.Matrix `tensor:"ffn_up.weight" dims:"gateup,hidden"`
	Down      *kernels.Matrix `tensor:"ffn_down.weight" dims:"hidden,ffn"`
}

// Forward computes x += O·attention(rope(Q·n), rope(K·n), V·n) with n = norm(x), then
// x += Down·(silu(Gate·m) * Up·m) with m = norm(x).
func (l *phi3) Forward(s *Step) {
	p := &s.p
	kv := p.KVHeads * p.HeadDim
	s.Norm(l.AttnNorm)
	m := s.Split(l.QKV, p.Heads*p.HeadDim, kv, kv)
	q, k, v := s.QKV(&m[0], &m[1], &m[2])
	s.Rope(q, k, l.factors(p), kernels.Halves)
	s.Residual(l.O, s.Attend(q, k, v))

	s.Norm(l.FFNNorm)
	m = s.Split(l.GateUp, p.FFN, p.FFN)
	s.Residual(l.Down, s.SwiGLU(&m[0], &m[1]))
}

// factors are the model's, whatever the length of a sequence: those for long contexts if its context is longer than
// what it was trained on. So a position's rotation never changes while its sequence grows.
func (l *phi3) factors(p *Params) []float32 {
	if p.Context > p.Scaling.Original {
		return l.RopeLong
	}
	return l.RopeShort
}

func phi3Numbers(r *reader, p *Params) {
	if p.FFN%16 != 0 || p.KVHeads*p.HeadDim%16 != 0 || p.Heads*p.HeadDim%16 != 0 {
		r.fail("widths of %d, %d and %d in one matrix; they must be multiples of 16", p.FFN, p.Heads*p.HeadDim, p.KVHeads*p.HeadDim)
	}
	// Factors and a magnitude: YaRN that stretches nothing.
	p.Scaling = kernels.RopeScaling{Kind: kernels.RopeYarn, Factor: 1, Attn: r.number("rope.scaling.attn_factor", 0, 1e6, 1)}
	p.Scaling.Original = r.count("rope.scaling.original_context_length", maxContext, p.Context)
}
