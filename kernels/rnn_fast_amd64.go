//go:build amd64 && !purego

package kernels

func sigmoidFast(x []float32) int {
	n := fast(len(x))
	switch {
	case n == 0:
	case active.zmm():
		sigmoidAVX512(&x[0], n/lanes)
	default:
		sigmoidAVX2(&x[0], n/lanes)
	}
	return n
}

func tanhFast(x []float32) int {
	n := fast(len(x))
	switch {
	case n == 0:
	case active.zmm():
		tanhAVX512(&x[0], n/lanes)
	default:
		tanhAVX2(&x[0], n/lanes)
	}
	return n
}

func sigmoidMulFast(y, gate, h []float32) int {
	n := fast(min(len(y), len(gate), len(h)))
	switch {
	case n == 0:
	case active.zmm():
		sigmoidMulAVX512(&y[0], &gate[0], &h[0], n/lanes)
	default:
		sigmoidMulAVX2(&y[0], &gate[0], &h[0], n/lanes)
	}
	return n
}

func lstmFast(h, c, gates, peep []float32) int {
	n := fast(len(h))
	var p *float32
	if peep != nil {
		p = &peep[0]
	}
	switch {
	case n == 0:
	case active.zmm():
		lstmAVX512(&h[0], &c[0], &gates[0], p, len(h), n/lanes)
	default:
		lstmAVX2(&h[0], &c[0], &gates[0], p, len(h), n/lanes)
	}
	return n
}

func gruBlendFast(h, z, x []float32) int {
	n := fast(min(len(h), len(z), len(x)))
	switch {
	case n == 0:
	case active.zmm():
		gruBlendAVX512(&h[0], &z[0], &x[0], n/lanes)
	default:
		gruBlendAVX2(&h[0], &z[0], &x[0], n/lanes)
	}
	return n
}

func gruCellFast(h, z, r, x, u []float32) int {
	n := fast(min(len(h), len(z), len(r), len(x), len(u)))
	switch {
	case n == 0:
	case active.zmm():
		gruCellAVX512(&h[0], &z[0], &r[0], &x[0], &u[0], n/lanes)
	default:
		gruCellAVX2(&h[0], &z[0], &r[0], &x[0], &u[0], n/lanes)
	}
	return n
}
