package arch

import (
	"math"
	"slices"

	"lamina/kernels"
)

// splitRows is the number of rows from which work on single rows is spread over the workers; below it
// the hand-over costs more than it gains.
const splitRows = 16

// Run is the rows of one sequence in a step.
type Run struct {
	KV    []kernels.KV // its cache, one for each layer of the span
	First int          // position of its first row
	Rows  int
}

// Step carries rows through layers. It holds the batch and every buffer that a forward pass needs, and
// is used again and again: in the steady state it allocates nothing. Its methods are the bricks of which
// an architecture's Forward is made; the slices they return hold a row for each row of the batch and are
// good until the brick is used again.
type Step struct {
	X []float32 // the residual stream, rows x Hidden; owned by the caller of Begin

	p     Params
	w     *kernels.Workers
	first int // layer of the span
	rows  int
	layer int // within the span
	runs  []Run
	pos   []int // of each row
	scale float32

	ropes [2]rope // of layers that see everything, and of sliding ones if theirs differs

	acts                             kernels.Acts // the input of the next products
	norm, q, k, v, attn, gate, up, y []float32
	outs                             [3][]float32
	mats                             [3]*kernels.Matrix
	views                            [3]kernels.Matrix // what mats point to if it is parts of a matrix
	seqs                             []kernels.AttnSeq
	moe                              mixing
}

// rope is a table and the factors that it was made with.
type rope struct {
	*kernels.RopeTable
	freqs []float32
}

// NewStep returns a Step for a span of a model of p that begins with layer first. The workers stay the caller's.
func NewStep(p Params, first int, w *kernels.Workers) *Step {
	s := &Step{p: p, first: first, w: w, scale: p.QueryScale}
	if s.scale == 0 {
		s.scale = float32(1 / math.Sqrt(float64(p.HeadDim)))
	}
	return s
}

// Begin takes up a batch: x is rows x Hidden, the rows of the runs one after another.
func (s *Step) Begin(x []float32, runs []Run) {
	s.X, s.runs, s.layer, s.pos = x, runs, 0, s.pos[:0]
	for _, r := range runs {
		for i := range r.Rows {
			s.pos = append(s.pos, r.First+i)
		}
	}
	s.rows = len(s.pos)
}

// Layers carries the batch through the layers of a span.
func (s *Step) Layers(layers []Layer) {
	for i, l := range layers {
		s.layer = i
		l.Forward(s)
	}
}

// Layer is the number of the layer under way in the model, from 0.
func (s *Step) Layer() int { return s.first + s.layer }

// Logits writes the logits of rows rows of x, which it norms in place: rows x Vocab.
func (s *Step) Logits(logits, x []float32, rows int, h *Head) {
	kernels.RMSNorm(x, x, h.Norm, rows, s.p.Hidden, s.p.Eps)
	s.acts.Quantize(s.w, x, rows, s.p.Hidden)
	s.product(logits, h.Output)
	if s.p.LogitCap > 0 {
		kernels.SoftCap(logits, s.p.LogitCap)
	}
}

// Norm makes RMSNorm(X) * weight (Zhang and Sennrich, 2019) the input of the next products.
func (s *Step) Norm(weight []float32) {
	s.norm = grow(s.norm, s.rows*s.p.Hidden)
	if s.rows < splitRows {
		s.normRows(weight, 0, s.rows)
	} else {
		s.split(func(from, to int) { s.normRows(weight, from, to) })
	}
	s.acts.Quantize(s.w, s.norm, s.rows, s.p.Hidden)
}

func (s *Step) normRows(weight []float32, from, to int) {
	n := s.p.Hidden
	kernels.RMSNorm(s.norm[from*n:to*n], s.X[from*n:to*n], weight, to-from, n, s.p.Eps)
}

// QKV multiplies the input with the three matrices of attention.
func (s *Step) QKV(mq, mk, mv *kernels.Matrix) (q, k, v []float32) {
	s.q = grow(s.q, s.rows*mq.Rows)
	s.k = grow(s.k, s.rows*mk.Rows)
	s.v = grow(s.v, s.rows*mv.Rows)
	s.outs = [3][]float32{s.q, s.k, s.v}
	s.mats = [3]*kernels.Matrix{mq, mk, mv}
	kernels.MatMul(s.w, s.outs[:], &s.acts, s.mats[:]...)
	return s.q, s.k, s.v
}

// Bias adds a bias to every row.
func (s *Step) Bias(y, bias []float32) { kernels.AddBias(y, bias, s.rows) }

// HeadNorm makes RMSNorm(head) * weight of every head of x, in place (Henry et al., "Query-Key Normalization", 2020).
func (s *Step) HeadNorm(x, weight []float32) {
	n := len(weight)
	if s.rows < splitRows {
		kernels.RMSNorm(x, x, weight, len(x)/n, n, s.p.Eps)
		return
	}
	width := len(x) / s.rows
	s.split(func(from, to int) {
		y := x[from*width : to*width]
		kernels.RMSNorm(y, y, weight, len(y)/n, n, s.p.Eps)
	})
}

// Split sees a matrix as several, of the given numbers of rows; the numbers are multiples of 16. The result is good
// until the next Split.
func (s *Step) Split(m *kernels.Matrix, rows ...int) []kernels.Matrix {
	from := 0
	for i, n := range rows {
		s.views[i] = m.Part(from, n)
		from += n
	}
	return s.views[:len(rows)]
}

// Rope rotates the heads of q and k by their rows' positions (Su et al., "RoFormer", 2021), the
// frequencies divided by freqs if there are any.
func (s *Step) Rope(q, k, freqs []float32, style kernels.RopeStyle) {
	r := s.ropeTable(freqs)
	if s.rows < splitRows {
		s.ropeRows(r, q, k, style, 0, s.rows)
	} else {
		s.split(func(from, to int) { s.ropeRows(r, q, k, style, from, to) })
	}
}

// ropeTable returns the table of the layer under way; it is made anew only if the factors change.
func (s *Step) ropeTable(freqs []float32) *kernels.RopeTable {
	r, base, scaling := &s.ropes[0], s.p.Base, s.p.Scaling
	if s.p.LocalBase > 0 && s.p.Sliding(s.Layer()) {
		r, base, scaling = &s.ropes[1], s.p.LocalBase, kernels.RopeScaling{}
	}
	if r.RopeTable == nil || !slices.Equal(freqs, r.freqs) {
		scaling.Factors = freqs
		*r = rope{kernels.NewRopeTable(s.p.RopeDim, base, scaling), freqs}
	}
	return r.RopeTable
}

func (s *Step) ropeRows(r *kernels.RopeTable, q, k []float32, style kernels.RopeStyle, from, to int) {
	hd := s.p.HeadDim
	nq, nk := s.p.Heads*hd, s.p.KVHeads*hd
	for i := from; i < to; i++ {
		r.Apply(q[i*nq:(i+1)*nq], s.p.Heads, hd, s.pos[i], style)
		r.Apply(k[i*nk:(i+1)*nk], s.p.KVHeads, hd, s.pos[i], style)
	}
}

// Attend appends k and v to the caches of the rows' sequences and lets each row of q attend to what its
// sequence holds up to its position; in a sliding layer, to the last of it.
func (s *Step) Attend(q, k, v []float32) []float32 { return s.attend(q, k, v, nil) }

func (s *Step) attend(q, k, v, sinks []float32) []float32 {
	hd := s.p.HeadDim
	nk := s.p.KVHeads * hd
	s.seqs = s.seqs[:0]
	at := 0
	for _, r := range s.runs {
		kv := &r.KV[s.layer]
		kv.Append(k[at*nk:(at+r.Rows)*nk], v[at*nk:(at+r.Rows)*nk], r.Rows)
		s.seqs = append(s.seqs, kernels.AttnSeq{KV: kv, First: r.First, Rows: r.Rows})
		at += r.Rows
	}
	s.attn = grow(s.attn, len(q))
	opt := kernels.AttnOptions{Scale: s.scale, Cap: s.p.AttnCap, Sinks: sinks, Full: s.p.Pooling != 0}
	if s.p.Sliding(s.Layer()) {
		opt.Window = s.p.Window
	}
	kernels.AttentionWith(s.w, s.attn, q, s.seqs, s.p.Heads, hd, opt)
	return s.attn
}

// product multiplies the input with one matrix.
func (s *Step) product(y []float32, m *kernels.Matrix) {
	s.outs[0], s.mats[0] = y, m
	kernels.MatMul(s.w, s.outs[:1], &s.acts, s.mats[:1]...)
}

// split spreads the rows over the workers.
func (s *Step) split(f func(from, to int)) {
	parts := min(4*s.w.N(), s.rows)
	s.w.Do(parts, func(i int) { f(s.rows*i/parts, s.rows*(i+1)/parts) })
}

// grow returns a slice of n elements, of b's memory if that is large enough.
func grow(b []float32, n int) []float32 {
	if cap(b) < n {
		return make([]float32, n)
	}
	return b[:n]
}
