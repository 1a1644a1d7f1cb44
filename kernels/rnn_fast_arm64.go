//go:build arm64 && !purego

package kernels

func sigmoidFast(x []float32) int {
	n := fast(len(x))
	if n != 0 {
		sigmoidNEON(&x[0], n/lanes)
	}
	return n
}

func tanhFast(x []float32) int {
	n := fast(len(x))
	if n != 0 {
		tanhNEON(&x[0], n/lanes)
	}
	return n
}

func sigmoidMulFast(y, gate, h []float32) int {
	n := fast(min(len(y), len(gate), len(h)))
	if n != 0 {
		sigmoidMulNEON(&y[0], &gate[0], &h[0], n/lanes)
	}
	return n
}

func lstmFast(h, c, gates, peep []float32) int {
	n := fast(len(h))
	var p *float32
	if peep != nil {
		p = &peep[0]
	}
	if n != 0 {
		lstmNEON(&h[0], &c[0], &gates[0], p, len(h), n/lanes)
	}
	return n
}

func gruBlendFast(h, z, x []float32) int {
	n := fast(min(len(h), len(z), len(x)))
	if n != 0 {
		gruBlendNEON(&h[0], &z[0], &x[0], n/lanes)
	}
	return n
}

func gruCellFast(h, z, r, x, u []float32) int {
	n := fast(min(len(h), len(z), len(r), len(x), len(u)))
	if n != 0 {
		gruCellNEON(&h[0], &z[0], &r[0], &x[0], &u[0], n/lanes)
	}
	return n
}
