package arch

import "lamina/kernels"

// bert is a layer of BERT (Devlin et al., 2019), an encoder: every position sees all, norms come after the sums,
// positions are part of the embedding.
type bert struct {
	Q            *kernels.Matrix `tensor:"attn_q.weight" dims:"q,hidden"`
	QBias        []float32       `tensor:"attn_q.bias" dims:"q"`
	K            *kernels.Matrix `tensor:"attn_k.weight" dims:"kv,hidden"`
	KBias        []float32       `tensor:"attn_k.bias" dims:"kv"`
	V            *kernels.Matrix `tensor:"attn_v.weight" dims:"kv,hidden"`
	VBias        []float32       `tensor:"attn_v.bias" dims:"kv"`
	O            *kernels.Matrix `tensor:"attn_output.weight" dims:"hidden,q"`
	OBias        []float32       `tensor:"attn_output.bias" dims:"hidden"`
	AttnNorm     []float32       `tensor:"attn_output_norm.weight" dims:"hidden"`
	AttnNormBias []float32       `tensor:"attn_output_norm.bias" dims:"hidden"`
	Up           *kernels.Matrix `tensor:"ffn_up.weight" dims:"ffn,hidden"`
	UpBias       []float32       `tensor:"ffn_up.bias" dims:"ffn"`
	Down         *kernels.Matrix `tensor:"ffn_down.weight" dims:"hidden,ffn"`
	DownBias     []float32       `tensor:"ffn_down.bias" dims:"hidden"`
	Norm         []float32       `tensor:"layer_output_norm.weight" dims:"hidden"`
	NormBias     []float32       `tensor:"layer_output_norm.bias" dims:"hidden"`
}

// Forward computes x = norm(x + O·attention(Q·x+b, K·x+b, V·x+b)+b), then x = norm(x + Down·gelu(Up·x+b)+b).
func (l *bert) Forward(s *Step) {
	s.Input()
	q, k, v := s.QKV(l.Q, l.K, l.V)
	s.Bias(q, l.QBias)
	s.Bias(k, l.KBias)
	s.Bias(v, l.VBias)
	s.ResidualBias(l.O, s.Attend(q, k, v), l.OBias)
	s.LayerNorm(l.AttnNorm, l.AttnNormBias)

	s.Input()
	s.ResidualBias(l.Down, s.GELU(l.Up, l.UpBias), l.DownBias)
	s.LayerNorm(l.Norm, l.NormBias)
}
