package kernels

// quant returns the products at a level.
func (l level) quant() *quantImpl { return &quantImpls[l] }

// genericQuant is the truth that every other implementation equals bit for bit.
var genericQuant = quantImpl{tile: 8, quantize: quantizeRow, panel: panelGeneric}

// panelGeneric multiplies one panel with one tile. For each sub-block of 32 weights, in order, a
// result takes in
//
//	t = float32(integer dot) * weight scale     rounded
//	y = t * activation scale + y                fused
//	y = weight minimum * (d * sum(q)) + y       fused, only in types with minimums
//
// (Q6_K: twice the first two lines, for 16 weights each; Q2_K and Q3_K: the integer dots of the two
// halves are multiplied with their integer scales and added, and so are the sums of q with their integer
// minimums, so that t is made once for 32 weights); float weights: y = w*x + y, fused, for each
// column in order.
func panelGeneric(t Type, w []byte, a *tile, y []float32, stride int) {
	var acc [maxTile][panelRows]float32
	f := formOf(t)
	if f.quantised() {
		quantPanel(f, w, a, &acc)
	} else {
		floatPanel(f, w, a, &acc)
	}
	for r := range a.rows {
		copy(y[r*stride:r*stride+panelRows], acc[r][:])
	}
}

// quantPanel adds up the products of a quantised panel.
func quantPanel(f *form, w []byte, a *tile, acc *[maxTile][panelRows]float32) {
	var b sub
	n := f.panelBlock()
	for k := range a.cols / 32 {
		blk := w[k*32/f.block*n : (k*32/f.block+1)*n]
		scales := a.f[2*k*a.rows : 2*(k+1)*a.rows]
		for i := range panelRows {
			f.readPanel(&b, blk, k%f.subs(), i)
			for r := range a.rows {
				q := (*[32]int8)(a.q[32*(k*a.rows+r):])
				y, d := acc[r][i], scales[r]
				lo, hi := dot16(b.w[:16], q[:16]), dot16(b.w[16:], q[16:])
				if f.ints() {
					acc[r][i] = b.ints.add(y, d, lo, hi, q, f.mins)
					continue
				}
				if f.half {
					y = fma32(float32(float32(lo)*b.scale[0]), d, y)
					y = fma32(float32(float32(hi)*b.scale[1]), d, y)
				} else {
					y = fma32(float32(float32(lo+hi)*b.scale[0]), d, y)
				}
				if f.mins {
					y = fma32(b.min[0], scales[a.rows+r], y)
				}
				acc[r][i] = y
			}
		}
	}
}

// add adds to y what a sub-block of a type with integer scales gives: lo and hi are the dots of its
// halves with the activations q, whose scale is d.
func (s *intScales) add(y, d float32, lo, hi int32, q *[32]int8, mins bool) float32 {
	y = fma32(float32(float32(s.sc[0]*lo+s.sc[1]*hi)*s.d), d, y)
	if !mins {
		return y
	}
	var sum [2]int32
	for k, v := range q {
		sum[k/16] += int32(v)
	}
	return fma32(float32(float32(-s.mn[0]*sum[0]-s.mn[1]*sum[1])*s.m), d, y)
}

// dot16 is the exact dot product of 16 small integers.
func dot16(w, q []int8) (s int32) {
	q = q[:len(w)]
	for k, v := range w {
		s += int32(v) * int32(q[k])
	}
	return s
}

// floatPanel adds up the products of a panel of float weights.
func floatPanel(f *form, w []byte, a *tile, acc *[maxTile][panelRows]float32) {
	for k := range a.cols {
		for i := range panelRows {
			v := f.float(w, k*panelRows+i)
			for r := range a.rows {
				acc[r][i] = fma32(v, a.x[r*a.cols+k], acc[r][i])
			}
		}
	}
}
