package tiny

import (
	"encoding/binary"
	"math"
)

// The weights that the codes of IQ4_NL and IQ4_XS stand for, and those of MXFP4.
var (
	bookIQ4 = [16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
	bookMX4 = [16]float32{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}
)

// nearest returns for each of w the code of the closest weight of a book times d.
func nearest(w []float32, d float32, book *[16]float32) []int {
	q := make([]int, len(w))
	for i, x := range w {
		least := float32(math.Inf(1))
		for c, v := range book {
			if off := max(x-d*v, d*v-x); off < least {
				q[i], least = c, off
			}
		}
	}
	return q
}

func peak(w []float32) (top float32) {
	for _, x := range w {
		top = max(top, x, -x)
	}
	return top
}

// steps rounds the scales of a block to multiples 0 ... most of a common one.
func steps(d []float32, most int) (n []int, all float32) {
	all = peak(d) / float32(most)
	n = make([]int, len(d))
	for i, x := range d {
		if all > 0 {
			n[i] = int(math.RoundToEven(float64(x / all)))
		}
	}
	return n, all
}

// appendIQ4NL writes an IQ4_NL block.
func appendIQ4NL(b []byte, w []float32) []byte {
	d := peak(w) / 113
	return appendNibbles(appendHalf(b, d), nearest(w, d, &bookIQ4), false)
}

// appendMX4 writes an MXFP4 block: the scale is a power of two.
func appendMX4(b []byte, w []float32) []byte {
	e := 0
	if top := peak(w); top > 0 {
		e = max(0, int(math.Floor(math.Log2(float64(top))))-2+127)
	}
	d := float32(math.Ldexp(1, e-128))
	return appendNibbles(append(b, byte(e)), nearest(w, d, &bookMX4), false)
}

// appendIQ4XS writes an IQ4_XS block: eight runs of 32 with six-bit scales, whose low nibbles and high
// bit pairs stand apart.
func appendIQ4XS(b []byte, w []float32) []byte {
	d := make([]float32, 8)
	for i := range d {
		d[i] = peak(w[32*i:32*i+32]) / 113
	}
	n, all := steps(d, 31)
	var low [4]byte
	var high uint16
	for i, s := range n {
		low[i/2] |= byte((s + 32) & 15 << (i % 2 * 4))
		high |= uint16((s + 32) >> 4 << (2 * i))
	}
	b = binary.LittleEndian.AppendUint16(appendHalf(b, all), high)
	b = append(b, low[:]...)
	for i, s := range n {
		b = appendNibbles(b, nearest(w[32*i:32*i+32], all*float32(s), &bookIQ4), false)
	}
	return b
}

// appendK2 writes a Q2_K block: sixteen runs of 16 with four-bit scales and minima.
func appendK2(b []byte, w []float32) []byte {
	d, m := make([]float32, 16), make([]float32, 16)
	for i := range d {
		_, d[i], m[i] = asymmetric(w[16*i:16*i+16], 3)
		m[i] = -m[i]
	}
	ds, dAll := steps(d, 15)
	ms, mAll := steps(m, 15)
	q := make([]int, 256)
	for i := range q {
		if step := dAll * float32(ds[i/16]); step > 0 {
			v := math.RoundToEven(float64((w[i] + mAll*float32(ms[i/16])) / step))
			q[i] = max(0, min(3, int(v)))
		}
	}
	for i := range ds {
		b = append(b, byte(ds[i]|ms[i]<<4))
	}
	return appendHalf(appendHalf(appendTwos(b, q), dAll), mAll)
}

// appendK3 writes a Q3_K block: sixteen runs of 16 with six-bit scales.
func appendK3(b []byte, w []float32) []byte {
	d := make([]float32, 16)
	for i := range d {
		d[i] = peak(w[16*i:16*i+16]) / 3.5
	}
	s, all := steps(d, 31)
	q := make([]int, 256)
	var high [32]byte
	for i := range q {
		v := 0
		if step := all * float32(s[i/16]); step > 0 {
			v = int(math.RoundToEven(float64(w[i] / step)))
		}
		q[i] = max(-4, min(3, v)) + 4
		high[i%32] |= byte(q[i] >> 2 << (i / 32))
	}
	b = appendTwos(append(b, high[:]...), q)
	var packed [12]byte
	for i, n := range s {
		packed[i%8] |= byte((n + 32) & 15 << (i / 8 * 4))
		packed[8+i%4] |= byte((n + 32) >> 4 << (i / 4 * 2))
	}
	return appendHalf(append(b, packed[:]...), all)
}

// appendTwos writes the two low bits of 256 numbers: four runs of 32 share 32 bytes.
func appendTwos(b []byte, q []int) []byte {
	for n := 0; n < 256; n += 128 {
		for l := range 32 {
			p := q[n+l:]
			b = append(b, byte(p[0]&3|p[32]&3<<2|p[64]&3<<4|p[96]&3<<6))
		}
	}
	return b
}
