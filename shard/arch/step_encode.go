package arch

import "lamina/kernels"

// Pooling is how an encoder makes one row of a text's rows, with the numbers of GGUF.
type Pooling uint8

// The poolings.
const (
	PoolMean  Pooling = 1 // the mean of all rows
	PoolFirst Pooling = 2 // the first row, whose token stands for the whole
)

// Pool writes the rows of one text, rows x Hidden, pooled to one.
func (p Params) Pool(out, x []float32) {
	h := p.Hidden
	copy(out, x[:h])
	if p.Pooling == PoolFirst {
		return
	}
	rows := len(x) / h
	for r := 1; r < rows; r++ {
		kernels.Add(out, x[r*h:(r+1)*h])
	}
	kernels.Scale(out, 1/float32(rows))
}

// Input makes X itself the input of the next products.
func (s *Step) Input() { s.acts.Quantize(s.w, s.X, s.rows, s.p.Hidden) }

// LayerNorm norms X in place (Ba et al., 2016).
func (s *Step) LayerNorm(weight, bias []float32) {
	n := s.p.Hidden
	if s.rows < splitRows {
		kernels.LayerNorm(s.X, s.X, weight, bias, s.rows, n, s.p.Eps)
		return
	}
	s.split(func(from, to int) {
		x := s.X[from*n : to*n]
		kernels.LayerNorm(x, x, weight, bias, to-from, n, s.p.Eps)
	})
}

// GELU returns gelu(up·input + bias).
func (s *Step) GELU(up *kernels.Matrix, bias []float32) []float32 {
	s.up = grow(s.up, s.rows*up.Rows)
	s.product(s.up, up)
	s.Bias(s.up, bias)
	if s.rows < splitRows {
		kernels.GELU(s.up)
	} else {
		s.split(func(from, to int) { kernels.GELU(s.up[from*up.Rows : to*up.Rows]) })
	}
	return s.up
}
