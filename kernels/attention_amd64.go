//go:build amd64 && !purego

package kernels

// The methods here do their work by assembly and return true, or false at the generic level. They check the lengths
// of what the assembly touches.

func (t *attnTile) scoresFast(keys []uint16) bool {
	if active == generic || t.dim == 0 {
		return false
	}
	q, k, s := &t.queries()[:t.dim*t.rows][0], &keys[:t.dim*pageLen][0], &t.score[:t.rows][0][0]
	if active.zmm() {
		attnScoresAVX512(q, k, s, t.rows, t.dim)
	} else {
		attnScoresAVX2(q, k, s, t.rows, t.dim)
	}
	return true
}

func (t *attnTile) weighFast(from, to int) bool {
	if active == generic || from >= to {
		return false
	}
	s, sum, high, alpha := &t.score[from:to][0][0], &t.sum[from:to][0][0], &t.high[from:to][0], &t.alpha[from:to][0]
	if active.zmm() {
		attnWeighAVX512(s, sum, high, alpha, to-from)
	} else {
		attnWeighAVX2(s, sum, high, alpha, to-from)
	}
	return true
}

func (t *attnTile) mixFast(values []uint16, from, to, first, last int) bool {
	if active == generic || from >= to || t.dim == 0 {
		return false
	}
	v := values[first*t.width:]
	_, _ = v[:(last-first)*t.width], t.row(to-1)
	p, out, alpha := &t.score[from:to][0][first%pageLen], &t.row(from)[0], &t.alpha[from:to][0]
	if active.zmm() {
		attnMixAVX512(p, &v[0], out, alpha, to-from, t.width, last-first)
	} else {
		attnMixAVX2(p, &v[0], out, alpha, to-from, t.width, last-first)
	}
	return true
}
