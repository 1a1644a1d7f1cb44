package arch

import "lamina/kernels"

// SwiGLU returns silu(gate·input) * up·input (Shazeer, "GLU Variants Improve Transformer", 2020).
func (s *Step) SwiGLU(gate, up *kernels.Matrix) []float32 { return s.gated(gate, up, kernels.SiluMul) }

// GeGLU returns gelu(gate·input) * up·input, from the same paper.
func (s *Step) GeGLU(gate, up *kernels.Matrix) []float32 { return s.gated(gate, up, kernels.GeluMul) }

func (s *Step) gated(gate, up *kernels.Matrix, act func(y, gate, up []float32)) []float32 {
	n := s.rows * gate.Rows
	s.gate, s.up = grow(s.gate, n), grow(s.up, n)
	s.outs[0], s.outs[1] = s.gate, s.up
	s.mats[0], s.mats[1] = gate, up
	kernels.MatMul(s.w, s.outs[:2], &s.acts, s.mats[:2]...)
	if s.rows < splitRows {
		act(s.gate, s.gate, s.up)
	} else {
		s.split(func(from, to int) {
			g := s.gate[from*gate.Rows : to*gate.Rows]
			act(g, g, s.up[from*gate.Rows:to*gate.Rows])
		})
	}
	return s.gate
}

// Residual adds m·in to X.
func (s *Step) Residual(m *kernels.Matrix, in []float32) {
	s.project(m, in)
	s.addRows(s.y)
}

// ResidualNorm adds RMSNorm(m·in) * weight to X.
func (s *Step) ResidualNorm(m *kernels.Matrix, in, weight []float32) {
	s.project(m, in)
	s.HeadNorm(s.y, weight)
	s.addRows(s.y)
}

// project leaves m·in in y.
func (s *Step) project(m *kernels.Matrix, in []float32) {
	s.acts.Quantize(s.w, in, s.rows, m.Cols)
	s.y = grow(s.y, s.rows*m.Rows)
	s.product(s.y, m)
}

// addRows adds y to X.
func (s *Step) addRows(y []float32) {
	if s.rows < splitRows {
		kernels.Add(s.X, y)
		return
	}
	n := s.p.Hidden
	s.split(func(from, to int) { kernels.Add(s.X[from*n:to*n], y[from*n:to*n]) })
}

// ResidualBias adds m·in + bias to X.
func (s *Step) ResidualBias(m *kernels.Matrix, in, bias []float32) {
	s.project(m, in)
	s.Bias(s.y, bias)
	s.addRows(s.y)
}
