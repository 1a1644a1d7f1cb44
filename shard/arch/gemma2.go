package arch

import (
	"math"

	"lamina/kernels"
)

// gemma2 is a layer of Gemma 2 (Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024): norms
// before and after attention and feed-forward, GeGLU, soft caps on attention and logits; every other layer sees a
// window. The file's norms hold the 1 that the model adds to them.
type gemma2 struct {
	AttnNorm     []float32       `tensor:"attn_norm.weight" dims:"hidden"`
	Q            *kernels.Matrix `tensor:"attn_q.weight" dims:"q,hidden"`
	K            *kernels.Matrix `tensor:"attn_k.weight" dims:"kv,hidden"`
	V            *kernels.Matrix `tensor:"attn_v.weight" dims:"kv,hidden"`
	O            *kernels.Matrix `tensor:"attn_output.weight" dims:"hidden,q"`
	AttnPostNorm []float32       `tensor:"post_attention_norm.weight" dims:"hidden"`
	FFNNorm      []float32       `tensor:"ffn_norm.weight" dims:"hidden"`
	Gate         *kernels.Matrix `tensor:"ffn_gate.weight" dims:"ffn,hidden"`
	Up           *kernels.Matrix `tensor:"ffn_up.weight" dims:"ffn,hidden"`
	Down         *kernels.Matrix `tensor:"ffn_down.weight" dims:"hidden,ffn"`
	FFNPostNorm  []float32       `tensor:"post_ffw_norm.weight" dims:"hidden"`
}

// Forward computes x += norm(O·attention(rope(Q·n), rope(K·n), V·n)) with n = norm(x), then
// x += norm(Down·(gelu(Gate·m) * Up·m)) with m = norm(x).
func (l *gemma2) Forward(s *Step) {
	s.Norm(l.AttnNorm)
	q, k, v := s.QKV(l.Q, l.K, l.V)
	s.Rope(q, k, nil, kernels.Halves)
	s.ResidualNorm(l.O, s.Attend(q, k, v), l.AttnPostNorm)

	s.Norm(l.FFNNorm)
	s.ResidualNorm(l.Down, s.GeGLU(l.Gate, l.Up), l.FFNPostNorm)
}

// gemma2Numbers: the model of 46 layers scales queries by its width.
func gemma2Numbers(r *reader, p *Params) {
	p.EmbedScale = float32(math.Sqrt(float64(p.Hidden)))
	p.Window = r.count("attention.sliding_window", math.MaxInt32, 4096)
	p.Every = 2
	p.AttnCap = float32(r.number("attn_logit_softcapping", 0, 1e6, 50))
	p.LogitCap = float32(r.number("final_logit_softcapping", 0, 1e6, 30))
	if p.Layers == 46 {
		p.QueryScale = widthScale(*p)
	}
}
