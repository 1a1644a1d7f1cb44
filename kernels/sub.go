package kernels

import (
	"encoding/binary"
	"math"
)

// sub is a sub-block: 32 consecutive weights of one row. Weight k is scale[k/16]*w[k] + min, and all
// products of it are exact in float32.
type sub struct {
	w     [32]int8
	scale [2]float32
	min   float32
}

// value writes the 32 weights as float32.
func (b *sub) value(dst []float32) {
	for k := range b.w {
		dst[k] = float32(b.scale[k/16]*float32(b.w[k])) + b.min
	}
}

// blockScales are the bytes of a GGUF block that scale sub-block i: two f16 of the block and, in
// super-blocks, two small integers of the sub-block.
type blockScales struct {
	d, m   uint16
	sc, mn uint8
}

// set fills in the scales of a sub-block from their stored form.
func (f *form) set(b *sub, s blockScales) {
	d := f16(s.d)
	switch {
	case f.half:
		b.scale = [2]float32{d * float32(int8(s.sc)), d * float32(int8(s.mn))}
		b.min = 0
	case f.super:
		d *= float32(s.sc)
		b.scale = [2]float32{d, d}
		b.min = -(f16(s.m) * float32(s.mn))
	default:
		b.scale = [2]float32{d, d}
		b.min = 0
		if f.mins {
			b.min = f16(s.m)
		}
	}
}

// scales reads what scales sub-block i of a GGUF block.
func (f *form) scales(blk []byte, i int) blockScales {
	le := binary.LittleEndian
	switch {
	case f.half:
		return blockScales{d: le.Uint16(blk[208:]), sc: blk[192+2*i], mn: blk[193+2*i]}
	case f.super:
		s := blockScales{d: le.Uint16(blk), m: le.Uint16(blk[2:])}
		s.sc, s.mn = scaleMin(blk[4:16], i)
		return s
	case f.mins:
		return blockScales{d: le.Uint16(blk), m: le.Uint16(blk[2:])}
	}
	return blockScales{d: le.Uint16(blk)}
}

// scaleMin reads the 6-bit scale and minimum of sub-block i from the 12 bytes that Q4_K and Q5_K share:
// the first four pairs lie in the low 6 bits of bytes i and 4+i; of the other four pairs the low
// nibbles lie in byte 4+i, the two high bits above the first pairs.
func scaleMin(b []byte, i int) (sc, mn uint8) {
	if i < 4 {
		return b[i] & 63, b[4+i] & 63
	}
	return b[4+i]&15 | b[i-4]>>6<<4, b[4+i]>>4 | b[i]>>6<<4
}

// read decodes sub-block i of a GGUF block.
func (f *form) read(b *sub, blk []byte, i int) {
	f.set(b, f.scales(blk, i))
	switch {
	case f.low == 8:
		for k := range b.w {
			b.w[k] = int8(blk[2+k])
		}
	case f.half:
		f.readQ6K(b, blk, i)
	case f.super:
		f.readQ45K(b, blk, i)
	default:
		f.readSmall(b, blk)
	}
}

// readSmall decodes the weights of Q4_0, Q4_1, Q5_0 and Q5_1: nibbles of weights k and 16+k share a
// byte, fifth bits stand ahead of them.
func (f *form) readSmall(b *sub, blk []byte) {
	at := 2
	if f.mins {
		at = 4
	}
	var high uint32
	if f.high != 0 {
		high = binary.LittleEndian.Uint32(blk[at:])
		at += 4
	}
	qs := blk[at : at+16]
	for k, q := range qs {
		b.w[k] = int8(q&15|uint8(high>>k&1)<<4) - int8(f.zero)
		b.w[16+k] = int8(q>>4|uint8(high>>(16+k)&1)<<4) - int8(f.zero)
	}
}

// readQ45K decodes the weights of Q4_K and Q5_K: two sub-blocks share 32 bytes of nibbles, and the
// fifth bits of all eight share 32 bytes.
func (f *form) readQ45K(b *sub, blk []byte, i int) {
	at := 16
	var high []byte
	if f.high != 0 {
		high = blk[at : at+32]
		at += 32
	}
	qs := blk[at+i/2*32 : at+i/2*32+32]
	for k, q := range qs {
		c := q >> (i % 2 * 4) & 15
		if high != nil {
			c |= high[k] >> i & 1 << 4
		}
		b.w[k] = int8(c)
	}
}

// readQ6K decodes the weights of Q6_K: 128 weights share 64 bytes of nibbles (sub-blocks 0 and 1 low,
// 2 and 3 high) and 32 bytes of upper bit pairs.
func (f *form) readQ6K(b *sub, blk []byte, i int) {
	j := i % 4
	ql := blk[i/4*64+j%2*32:]
	qh := blk[128+i/4*32:]
	for k := range b.w {
		b.w[k] = int8(ql[k]>>(j/2*4)&15|qh[k]>>(2*j)&3<<4) - int8(f.zero)
	}
}

// readPanel decodes sub-block i of row r from a block of a packed panel.
func (f *form) readPanel(b *sub, blk []byte, i, r int) {
	s := f.panelScales(blk, i, r)
	f.set(b, s)
	p := blk[f.headBytes()+i*f.subBytes():]
	if f.low == 8 {
		for k := range b.w {
			b.w[k] = int8(p[k/4*64+4*r+k%4])
		}
		return
	}
	h := p[256:]
	for k := range 16 {
		j, c := k/4, 4*r+k%4
		q := p[64*j+c]
		lo, hi := q&15, q>>4
		switch f.high {
		case 1:
			lo |= h[c] >> j & 1 << 4
			hi |= h[c] >> (4 + j) & 1 << 4
		case 2:
			lo |= h[c] >> (2 * j) & 3 << 4
			hi |= h[64+c] >> (2 * j) & 3 << 4
		}
		b.w[k], b.w[16+k] = int8(lo)-int8(f.zero), int8(hi)-int8(f.zero)
	}
}

// panelScales reads what scales sub-block i of row r of a panel's block.
func (f *form) panelScales(blk []byte, i, r int) (s blockScales) {
	le := binary.LittleEndian
	p := blk[f.headBytes()+i*f.subBytes()+64*f.low+64*f.high:]
	if f.super {
		s.d, s.sc, s.mn = le.Uint16(blk[2*r:]), p[r], p[panelRows+r]
		if f.mins {
			s.m = le.Uint16(blk[2*panelRows+2*r:])
		}
		return s
	}
	s.d = le.Uint16(p[2*r:])
	if f.mins {
		s.m = le.Uint16(p[2*panelRows+2*r:])
	}
	return s
}

// float reads the element at i of a row of a float type.
func (f *form) float(src []byte, i int) float32 {
	if f.bytes == 4 {
		return math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
	h := binary.LittleEndian.Uint16(src[2*i:])
	if f.name == "BF16" {
		return bf16(h)
	}
	return f16(h)
}
