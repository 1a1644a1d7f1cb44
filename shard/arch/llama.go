package arch

import "lamina/kernels"

// llama is a layer of Llama (Touvron et al., 2023) and of all models with its structure: Llama 2 and 3,
// TinyLlama, SmolLM2, Mistral. Pre-norm, grouped queries (Llama 2), rotary positions on interleaved
// pairs, SwiGLU. Llama 3.1's long context stands in RopeFreqs.
type llama struct {
	AttnNorm  []float32       `tensor:"attn_norm.weight" dims:"hidden"`
	Q         *kernels.Matrix `tensor:"attn_q.weight" dims:"q,hidden"`
	K         *kernels.Matrix `tensor:"attn_k.weight" dims:"kv,hidden"`
	V         *kernels.Matrix `tensor:"attn_v.weight" dims:"kv,hidden"`
	O         *kernels.Matrix `tensor:"attn_output.weight" dims:"hidden,q"`
	RopeFreqs []float32       `tensor:"rope_freqs.weight,model,optional" dims:"rope"`
	FFNNorm   []float32       `tensor:"ffn_norm.weight" dims:"hidden"`
	Gate      *kernels.Matrix `tensor:"ffn_gate.weight" dims:"ffn,hidden"`
	Up        *kernels.Matrix `tensor:"ffn_up.weight" dims:"ffn,hidden"`
	Down      *kernels.Matrix `tensor:"ffn_down.weight" dims:"hidden,ffn"`
}

// Forward computes x += O·attention(rope(Q·n), rope(K·n), V·n) with n = norm(x), then
// x += Down·(silu(Gate·m) * Up·m) with m = norm(x).
func (l *llama) Forward(s *Step) {
	s.Norm(l.AttnNorm)
	q, k, v := s.QKV(l.Q, l.K, l.V)
	s.Rope(q, k, l.RopeFreqs, kernels.Interleaved)
	s.Residual(l.O, s.Attend(q, k, v))

	s.Norm(l.FFNNorm)
	s.Residual(l.Down, s.SwiGLU(l.Gate, l.Up))
}
