package arch

import "lamina/kernels"

// nomicbert is a layer of Nomic BERT (Nussbaum et al., "Nomic Embed", 2024): BERT's without biases, with one matrix for
// query, key and value, rotary positions on the two halves of a head, and SwiGLU.
type nomicbert struct {
	QKV          *kernels.Matrix `tensor:"attn_qkv.weight" dims:"qkv,hidden"`
	O            *kernels.Matrix `tensor:"attn_output.weight" dims:"hidden,q"`
	AttnNorm     []float32       `tensor:"attn_output_norm.weight" dims:"hidden"`
	AttnNormBias []float32       `tensor:"attn_output_norm.bias" dims:"hidden"`
	Gate         *kernels.Matrix `tensor:"ffn_gate.weight" dims:"ffn,hidden"`
	Up           *kernels.Matrix `tensor:"ffn_up.weight" dims:"ffn,hidden"`
	Down         *kernels.Matrix `tensor:"ffn_down.weight" dims:"hidden,ffn"`
	Norm         []float32       `tensor:"layer_output_norm.weight" dims:"hidden"`
	NormBias     []float32       `tensor:"layer_output_norm.bias" dims:"hidden"`
}

// Forward computes x = norm(x + O·attention(rope(Q·x), rope(K·x), V·x)), then x = norm(x + Down·(silu(Gate·x) * Up·x)).
func (l *nomicbert) Forward(s *Step) {
	p := &s.p
	kv := p.KVHeads * p.HeadDim
	s.Input()
	m := s.Split(l.QKV, p.Heads*p.HeadDim, kv, kv)
	q, k, v := s.QKV(&m[0], &m[1], &m[2])
	s.Rope(q, k, nil, kernels.Halves)
	s.Residual(l.O, s.Attend(q, k, v))
	s.LayerNorm(l.AttnNorm, l.AttnNormBias)

	s.Input()
	s.Residual(l.Down, s.SwiGLU(l.Gate, l.Up))
	s.LayerNorm(l.Norm, l.NormBias)
}

func nomicbertNumbers(r *reader, p *Params) {
	if p.KVHeads*p.HeadDim%16 != 0 || p.Heads*p.HeadDim%16 != 0 {
		r.fail("widths of %d and %d in one matrix; they must be multiples of 16", p.Heads*p.HeadDim, p.KVHeads*p.HeadDim)
	}
}
