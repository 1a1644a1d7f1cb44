package kernels

import (
	"fmt"
)

// LSTM is the recurrent part of a long short-term memory (Hochreiter and Schmidhuber, 1997; Gers et al., "Learning Precise
// Timing with LSTM Recurrent Networks", 2002) with sigmoids and tanh, in ONNX's order of gates: i, o, f, c. It is never changed.
type LSTM struct {
	hidden int
	r      *Matrix
	peep   []float32
}

// NewLSTM packs the recurrent weights r, [4*hidden][hidden]; peep is nil or the peepholes of i, o and f, [3*hidden]. It fails
// with ErrShape.
func NewLSTM(hidden int, r, peep []float32) (*LSTM, error) {
	if hidden < 1 || hidden > 1<<14 || len(r) != 4*hidden*hidden || peep != nil && len(peep) != 3*hidden {
		return nil, fmt.Errorf("%w: %d recurrent weights and %d peepholes for an LSTM of %d", ErrShape, len(r), len(peep), hidden)
	}
	return &LSTM{hidden: hidden, r: PackFloats(nil, nil, r, hidden, 4*hidden, hidden, false), peep: peep}, nil
}

// Step takes batch rows one step on. gates is [batch][4*hidden], which holds the products with the step's inputs, and all
// biases; it is overwritten. h and c, [batch][hidden], are the state before and after it. For each element
//
//	g = gates + products with h, one FMA for each column in order
//	i = sigmoid(fma(peep i, c, g i)); f = sigmoid(fma(peep f, c, g f)); n = tanh(g c)
//	c = fma(f, c, i*n); o = sigmoid(fma(peep o, c, g o)); h = o*tanh(c)
//
// where without peepholes the gates are taken as they are. It panics when a slice is too short.
func (l *LSTM) Step(w *Workers, h, c, gates []float32, batch int) {
	n := l.hidden
	if len(h) < batch*n || len(c) < batch*n || len(gates) < 4*batch*n {
		panic(fmt.Sprintf("kernels: LSTM of %d, batch of %d: state of %d and %d, gates of %d", n, batch, len(h), len(c), len(gates)))
	}
	GEMM(w, gates, 4*n, h, n, batch, l.r, Fuse{Add: true})
	eachRow(w, batch, n, func(b int) {
		lstmCell(h[b*n:(b+1)*n], c[b*n:(b+1)*n], gates[4*b*n:4*(b+1)*n], l.peep)
	})
}

// eachRow calls f for each row of a batch whose cells have some elements, on the workers if that pays.
func eachRow(w *Workers, batch, elements int, f func(row int)) {
	if batch*elements < 1<<12 {
		for b := range batch {
			f(b)
			safepoint()
		}
		return
	}
	w.Do(batch, f)
}

func lstmCell(h, c, gates, peep []float32) {
	n := len(h)
	for k := lstmFast(h, c, gates, peep); k < n; k++ {
		gi, gout, gf, gc := gates[k], gates[n+k], gates[2*n+k], gates[3*n+k]
		if peep != nil {
			gi, gf = fma32(peep[k], c[k], gi), fma32(peep[2*n+k], c[k], gf)
		}
		i, f := sigmoid32(gi), sigmoid32(gf)
		c[k] = fma32(f, c[k], float32(i*tanh32(gc)))
		if peep != nil {
			gout = fma32(peep[n+k], c[k], gout)
		}
		h[k] = sigmoid32(gout) * tanh32(c[k])
	}
}

// GRU is the recurrent part of a gated recurrent unit (Cho et al., 2014) with sigmoids and tanh, in ONNX's order of gates:
// z, r, h. It is never changed.
type GRU struct {
	hidden int
	zr, h  *Matrix
	bias   []float32
	before bool
}

// NewGRU packs the recurrent weights r, [3*hidden][hidden]. With linearBefore (ONNX's linear_before_reset) the reset gate
// multiplies the product of the hidden gate, to which bias, [hidden] or nil, is added before; otherwise it multiplies the state
// and bias must be nil. It fails with ErrShape.
func NewGRU(hidden int, r, bias []float32, linearBefore bool) (*GRU, error) {
	if hidden < 1 || hidden > 1<<14 || len(r) != 3*hidden*hidden || bias != nil && (!linearBefore || len(bias) != hidden) {
		return nil, fmt.Errorf("%w: %d recurrent weights and a bias of %d for a GRU of %d", ErrShape, len(r), len(bias), hidden)
	}
	g := &GRU{hidden: hidden, bias: bias, before: linearBefore}
	g.zr = PackFloats(nil, nil, r, hidden, 2*hidden, hidden, false)
	g.h = PackFloats(nil, nil, r[2*hidden*hidden:], hidden, hidden, hidden, false)
	return g, nil
}

// Step takes batch rows one step on. gates is [batch][3*hidden], which holds the products with the step's inputs, and all
// biases but that of NewGRU; it is overwritten. h, [batch][hidden], is the state before and after it; scratch is
// [batch][hidden]. For each element, with products of one FMA for each column in order,
//
//	z = sigmoid(gates z + products with h); r = sigmoid(gates r + products with h)
//	n = tanh(gates h + products with r*h), or with linearBefore tanh(fma(r, bias + products with h, gates h))
//	h = fma(z, h-n, n)
//
// It panics when a slice is too short.
func (g *GRU) Step(w *Workers, h, gates, scratch []float32, batch int) {
	n := g.hidden
	if len(h) < batch*n || len(scratch) < batch*n || len(gates) < 3*batch*n {
		panic(fmt.Sprintf("kernels: GRU of %d, batch of %d: state of %d, gates of %d, scratch of %d", n, batch, len(h), len(gates), len(scratch)))
	}
	row := func(x []float32, width, b int) []float32 { return x[b*width : (b+1)*width] }
	GEMM(w, gates, 3*n, h, n, batch, g.zr, Fuse{Add: true})
	if g.before {
		GEMM(w, scratch, n, h, n, batch, g.h, Fuse{Bias: g.bias})
		eachRow(w, batch, n, func(b int) {
			all := row(gates, 3*n, b)
			gruCell(row(h, n, b), all[:n], all[n:2*n], all[2*n:], row(scratch, n, b))
		})
		return
	}
	eachRow(w, batch, n, func(b int) {
		sigmoidMul(row(scratch, n, b), row(gates, 3*n, b)[n:2*n], row(h, n, b))
	})
	if batch > 0 {
		GEMM(w, gates[2*n:], 3*n, scratch, n, batch, g.h, Fuse{Add: true})
	}
	eachRow(w, batch, n, func(b int) {
		all := row(gates, 3*n, b)
		gruBlend(row(h, n, b), all[:n], all[2*n:])
	})
}

// sigmoidMul writes y = sigmoid(gate)*h.
func sigmoidMul(y, gate, h []float32) {
	for i := sigmoidMulFast(y, gate, h); i < len(y); i++ {
		y[i] = sigmoid32(gate[i]) * h[i]
	}
}

func gruBlend(h, z, x []float32) {
	for i := gruBlendFast(h, z, x); i < len(h); i++ {
		h[i] = blend32(h[i], z[i], tanh32(x[i]))
	}
}

func gruCell(h, z, r, x, u []float32) {
	for i := gruCellFast(h, z, r, x, u); i < len(h); i++ {
		h[i] = blend32(h[i], z[i], tanh32(fma32(sigmoid32(r[i]), u[i], x[i])))
	}
}

// blend32 is sigmoid(z)*h + (1-sigmoid(z))*n.
func blend32(h, z, n float32) float32 { return fma32(sigmoid32(z), h-n, n) }
