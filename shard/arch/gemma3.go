package arch

import (
	"math"

	"lamina/kernels"
)

// gemma3 is a layer of Gemma 3 (Gemma Team, "Gemma 3 Technical Report", 2025): norms before and after attention and
// feed-forward, norms of the heads of query and key, GeGLU. Five of six layers see a window and rotate by a base of
// their own. The file's norms hold the 1 that the model adds to them.
type gemma3 struct {
	AttnNorm     []float32       `tensor:"attn_norm.weight" dims:"hidden"`
	Q            *kernels.Matrix `tensor:"attn_q.weight" dims:"q,hidden"`
	QNorm        []float32       `tensor:"attn_q_norm.weight" dims:"head"`
	K            *kernels.Matrix `tensor:"attn_k.weight" dims:"kv,hidden"`
	KNorm        []float32       `tensor:"attn_k_norm.weight" dims:"head"`
	V            *kernels.Matrix `tensor:"attn_v.weight" dims:"kv,hidden"`
	O            *kernels.Matrix `tensor:"attn_output.weight" dims:"hidden,q"`
	AttnPostNorm []float32       `tensor:"post_attention_norm.weight" dims:"hidden"`
	FFNNorm      []float32       `tensor:"ffn_norm.weight" dims:"hidden"`
	Gate         *kernels.Matrix `tensor:"ffn_gate.weight" dims:"ffn,hidden"`
	Up           *kernels.Matrix `tensor:"ffn_up.weight" dims:"ffn,hidden"`
	Down         *kernels.Matrix `tensor:"ffn_down.weight" dims:"hidden,ffn"`
	FFNPostNorm  []float32       `tensor:"post_ffw_norm.weight" dims:"hidden"`
}

// Forward computes x += norm(O·attention(rope(norm(Q·n)), rope(norm(K·n)), V·n)) with n = norm(x), then
// x += norm(Down·(gelu(Gate·m) * Up·m)) with m = norm(x).
func (l *gemma3) Forward(s *Step) {
	s.Norm(l.AttnNorm)
	q, k, v := s.QKV(l.Q, l.K, l.V)
	s.HeadNorm(q, l.QNorm)
	s.HeadNorm(k, l.KNorm)
	s.Rope(q, k, nil, kernels.Halves)
	s.ResidualNorm(l.O, s.Attend(q, k, v), l.AttnPostNorm)

	s.Norm(l.FFNNorm)
	s.ResidualNorm(l.Down, s.GeGLU(l.Gate, l.Up), l.FFNPostNorm)
}

// gemma3Numbers: files name the window and the base of global layers, the rest is the same in all models, but that the
// one of 62 layers scales queries by its width.
func gemma3Numbers(r *reader, p *Params) {
	p.EmbedScale = float32(math.Sqrt(float64(p.Hidden)))
	p.Window = r.count("attention.sliding_window", math.MaxInt32, 0)
	p.Every = r.count("attention.sliding_window_pattern", maxLayers, 6)
	p.LocalBase = r.number("rope.freq_base_swa", 1, 1e15, 10000)
	p.LogitCap = float32(r.number("final_logit_softcapping", 0, 1e6, 0))
	if p.Layers == 62 {
		p.QueryScale = widthScale(*p)
	}
}

// widthScale is the scale of queries by the width of the model for each head, instead of a head's own.
func widthScale(p Params) float32 { return float32(1 / math.Sqrt(float64(p.Hidden)/float64(p.Heads))) }
