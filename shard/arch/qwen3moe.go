package arch

import "lamina/kernels"

// qwen3moe is a layer of Qwen3 (Yang et al., 2025) as a mixture of experts: attention as in qwen3, and of many small
// feed-forward blocks a few for each row.
type qwen3moe struct {
	AttnNorm []float32       `tensor:"attn_norm.weight" dims:"hidden"`
	Q        *kernels.Matrix `tensor:"attn_q.weight" dims:"q,hidden"`
	QNorm    []float32       `tensor:"attn_q_norm.weight" dims:"head"`
	K        *kernels.Matrix `tensor:"attn_k.weight" dims:"kv,hidden"`
	KNorm    []float32       `tensor:"attn_k_norm.weight" dims:"head"`
	V        *kernels.Matrix `tensor:"attn_v.weight" dims:"kv,hidden"`
	O        *kernels.Matrix `tensor:"attn_output.weight" dims:"hidden,q"`
	FFNNorm  []float32       `tensor:"ffn_norm.weight" dims:"hidden"`
	Router   *kernels.Matrix `tensor:"ffn_gate_inp.weight" dims:"experts,hidden"`
	Gate     *kernels.Matrix `tensor:"ffn_gate_exps.weight" dims:"experts,xffn,hidden"`
	Up       *kernels.Matrix `tensor:"ffn_up_exps.weight" dims:"experts,xffn,hidden"`
	Down     *kernels.Matrix `tensor:"ffn_down_exps.weight" dims:"experts,hidden,xffn"`
}

// Forward computes x += O·attention(rope(norm(Q·n)), rope(norm(K·n)), V·n) with n = norm(x), then adds for the chosen
// experts w * Down·(silu(Gate·m) * Up·m) with m = norm(x) and w of the softmax of Router·m.
func (l *qwen3moe) Forward(s *Step) {
	s.Norm(l.AttnNorm)
	q, k, v := s.QKV(l.Q, l.K, l.V)
	s.HeadNorm(q, l.QNorm)
	s.HeadNorm(k, l.KNorm)
	s.Rope(q, k, nil, kernels.Halves)
	s.Residual(l.O, s.Attend(q, k, v))

	s.Norm(l.FFNNorm)
	s.Mix(&Mixture{Router: l.Router, Gate: l.Gate, Up: l.Up, Down: l.Down, Weigh: softmaxChosen, Act: kernels.SiluMul})
}

// mixtureNumbers reads the numbers of a mixture of experts.
func mixtureNumbers(r *reader, p *Params) {
	p.Experts = r.count("expert_count", maxExperts, 0)
	p.Chosen = r.count("expert_used_count", maxExperts, 0)
	p.ExpertFFN = r.count("expert_feed_forward_length", maxFFN, 0)
}
