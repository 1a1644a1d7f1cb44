package arch

import "lamina/kernels"

// gptoss is a layer of gpt-oss (OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card", 2025): a mixture of experts with
// biases everywhere, attention sinks, and every other layer sees a window.
type gptoss struct {
	AttnNorm   []float32       `tensor:"attn_norm.weight" dims:"hidden"`
	Q          *kernels.Matrix `tensor:"attn_q.weight" dims:"q,hidden"`
	QBias      []float32       `tensor:"attn_q.bias" dims:"q"`
	K          *kernels.Matrix `tensor:"attn_k.weight" dims:"kv,hidden"`
	KBias      []float32       `tensor:"attn_k.bias" dims:"kv"`
	V          *kernels.Matrix `tensor:"attn_v.weight" dims:"kv,hidden"`
	VBias      []float32       `tensor:"attn_v.bias" dims:"kv"`
	Sinks      []float32       `tensor:"attn_sinks.weight" dims:"heads"`
	O          *kernels.Matrix `tensor:"attn_output.weight" dims:"hidden,q"`
	OBias      []float32       `tensor:"attn_output.bias" dims:"hidden"`
	FFNNorm    []float32       `tensor:"post_attention_norm.weight" dims:"hidden"`
	Router     *kernels.Matrix `tensor:"ffn_gate_inp.weight" dims:"experts,hidden"`
	RouterBias []float32       `tensor:"ffn_gate_inp.bias" dims:"experts"`
	Gate       *kernels.Matrix `tensor:"ffn_gate_exps.weight" dims:"experts,xffn,hidden"`
	GateBias   []float32       `tensor:"ffn_gate_exps.bias" dims:"experts,xffn"`
	Up         *kernels.Matrix `tensor:"ffn_up_exps.weight" dims:"experts,xffn,hidden"`
	UpBias     []float32       `tensor:"ffn_up_exps.bias" dims:"experts,xffn"`
	Down       *kernels.Matrix `tensor:"ffn_down_exps.weight" dims:"experts,hidden,xffn"`
	DownBias   []float32       `tensor:"ffn_down_exps.bias" dims:"experts,hidden"`
}

// Forward computes x += O·attention(rope(Q·n+b), rope(K·n+b), V·n+b)+b with n = norm(x), then adds for the chosen
// experts w * (Down·glu(Gate·m+b, Up·m+b)+b) with m = norm(x) and w of Router·m+b.
func (l *gptoss) Forward(s *Step) {
	s.Norm(l.AttnNorm)
	q, k, v := s.QKV(l.Q, l.K, l.V)
	s.Bias(q, l.QBias)
	s.Bias(k, l.KBias)
	s.Bias(v, l.VBias)
	s.Rope(q, k, nil, kernels.Halves)
	s.ResidualBias(l.O, s.attend(q, k, v, l.Sinks), l.OBias)

	s.Norm(l.FFNNorm)
	s.Mix(&Mixture{Router: l.Router, RouterBias: l.RouterBias, Gate: l.Gate, GateBias: l.GateBias, Up: l.Up, UpBias: l.UpBias,
		Down: l.Down, DownBias: l.DownBias, Weigh: softmaxAmong, Act: clampedGLU})
}

// clampedGLU writes gate/(1+exp(-1.702*gate)) * (up+1), with gate at most 7 and up within 7 of 0.
func clampedGLU(y, gate, up []float32) { kernels.ClampedGLU(y, gate, up, 1.702, 7) }

// softmaxAmong weighs the chosen by the softmax over them.
func softmaxAmong(logits []float32, chosen []int) {
	var few [maxExperts]float32
	w := few[:len(chosen)]
	for i, x := range chosen {
		w[i] = logits[x]
	}
	kernels.Softmax(w)
	for i, x := range chosen {
		logits[x] = w[i]
	}
}

func gptossNumbers(r *reader, p *Params) {
	mixtureNumbers(r, p)
	p.Window = r.count("attention.sliding_window", maxContext, 128)
	p.Every = 2
	p.Scaling.Exact = true
}
