package arch

import "lamina/kernels"

// qwen3 is a layer of Qwen3 (Yang et al., 2025), dense: as Llama's, with a norm for each head of query and key in the
// place of Qwen2's biases, heads of a width of their own, and rotary positions on the two halves of a head.
type qwen3 struct {
	AttnNorm []float32       `tensor:"attn_norm.weight" dims:"hidden"`
	Q        *kernels.Matrix `tensor:"attn_q.weight" dims:"q,hidden"`
	QNorm    []float32       `tensor:"attn_q_norm.weight" dims:"head"`
	K        *kernels.Matrix `tensor:"attn_k.weight" dims:"kv,hidden"`
	KNorm    []float32       `tensor:"attn_k_norm.weight" dims:"head"`
	V        *kernels.Matrix `tensor:"attn_v.weight" dims:"kv,hidden"`
	O        *kernels.Matrix `tensor:"attn_output.weight" dims:"hidden,q"`
	FFNNorm  []float32       `tensor:"ffn_norm.weight" dims:"hidden"`
	Gate     *kernels.Matrix `tensor:"ffn_gate.weight" dims:"ffn,hidden"`
	Up       *kernels.Matrix `tensor:"ffn_up.weight" dims:"ffn,hidden"`
	Down     *kernels.Matrix `tensor:"ffn_down.weight" dims:"hidden,ffn"`
}

// Forward computes x += O·attention(rope(norm(Q·n)), rope(norm(K·n)), V·n) with n = norm(x), then
// x += Down·(silu(Gate·m) * Up·m) with m = norm(x).
func (l *qwen3) Forward(s *Step) {
	s.Norm(l.AttnNorm)
	q, k, v := s.QKV(l.Q, l.K, l.V)
	s.HeadNorm(q, l.QNorm)
	s.HeadNorm(k, l.KNorm)
	s.Rope(q, k, nil, kernels.Halves)
	s.Residual(l.O, s.Attend(q, k, v))

	s.Norm(l.FFNNorm)
	s.Residual(l.Down, s.SwiGLU(l.Gate, l.Up))
}
