package arch

import "lamina/kernels"

// smollm3 is a layer of SmolLM3 (Bakouch et al., 2025): Llama's, but every fourth layer has no rotary positions (Yang et
// al., "Rope to Nope and Back Again", 2025).
type smollm3 struct{ llama }

// Forward computes what llama's does, without rope in every fourth layer.
func (l *smollm3) Forward(s *Step) {
	s.Norm(l.AttnNorm)
	q, k, v := s.QKV(l.Q, l.K, l.V)
	if (s.Layer()+1)%4 != 0 {
		s.Rope(q, k, l.RopeFreqs, kernels.Interleaved)
	}
	s.Residual(l.O, s.Attend(q, k, v))

	s.Norm(l.FFNNorm)
	s.Residual(l.Down, s.SwiGLU(l.Gate, l.Up))
}
