package arch

import "lamina/kernels"

// qwen2 is a layer of Qwen2 and Qwen2.5 (Yang et al., 2024): as Llama's, with biases on query, key and
// value, and rotary positions on the two halves of a head.
type qwen2 struct {
	AttnNorm  []float32       `tensor:"attn_norm.weight" dims:"hidden"`
	Q         *kernels.Matrix `tensor:"attn_q.weight" dims:"q,hidden"`
	QBias     []float32       `tensor:"attn_q.bias" dims:"q"`
	K         *kernels.Matrix `tensor:"attn_k.weight" dims:"kv,hidden"`
	KBias     []float32       `tensor:"attn_k.bias" dims:"kv"`
	V         *kernels.Matrix `tensor:"attn_v.weight" dims:"kv,hidden"`
	VBias     []float32       `tensor:"attn_v.bias" dims:"kv"`
	O         *kernels.Matrix `tensor:"attn_output.weight" dims:"hidden,q"`
	RopeFreqs []float32       `tensor:"rope_freqs.weight,model,optional" dims:"rope"`
	FFNNorm   []float32       `tensor:"ffn_norm.weight" dims:"hidden"`
	Gate      *kernels.Matrix `tensor:"ffn_gate.weight" dims:"ffn,hidden"`
	Up        *kernels.Matrix `tensor:"ffn_up.weight" dims:"ffn,hidden"`
	Down      *kernels.Matrix `tensor:"ffn_down.weight" dims:"hidden,ffn"`
}

// Forward computes x += O·attention(rope(Q·n+b), rope(K·n+b), V·n+b) with n = norm(x), then
// x += Down·(silu(Gate·m) * Up·m) with m = norm(x).
func (l *qwen2) Forward(s *Step) {
	s.Norm(l.AttnNorm)
	q, k, v := s.QKV(l.Q, l.K, l.V)
	s.Bias(q, l.QBias)
	s.Bias(k, l.KBias)
	s.Bias(v, l.VBias)
	s.Rope(q, k, l.RopeFreqs, kernels.Halves)
	s.Residual(l.O, s.Attend(q, k, v))

	s.Norm(l.FFNNorm)
	s.Residual(l.Down, s.SwiGLU(l.Gate, l.Up))
}
