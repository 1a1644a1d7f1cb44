package kernels

import (
	"encoding/binary"
	"math"
)

// sub is a sub-block: 32 consecutive weights of one row. Weight k is scale[k/16]*w[k] + min[k/16], and
// all products of it are exact in float32.
type sub struct {
	w          [32]int8
	scale, min [2]float32
	ints       intScales
}

// intScales are the scales of a type whose halves are scaled in integers: those of half h are d*sc[h]
// and -m*mn[h].
type intScales struct {
	sc, mn [2]int32
	d, m   float32
}

// value writes the 32 weights as float32.
func (b *sub) value(dst []float32) {
	for k := range b.w {
		dst[k] = float32(b.scale[k/16]*float32(b.w[k])) + b.min[k/16]
	}
}

// blockScales are the bytes of a GGUF block that scale sub-block i: two f16 of the block and, in
// super-blocks, two bytes of the sub-block (Q2_K: each a scale and, above it, a minimum). MXFP4: one byte.
type blockScales struct {
	d, m   uint16
	sc, mn uint8
}

// set fills in the scales of a sub-block from their stored form.
func (f *form) set(b *sub, s blockScales) {
	none := math.Float32frombits(1 << 31) // -0 changes nothing that it is added to, not even -0
	d := f16(s.d)
	b.min = [2]float32{none, none}
	switch {
	case f.ints():
		f.setInts(b, s)
	case f.half:
		b.scale = [2]float32{d * float32(int8(s.sc)), d * float32(int8(s.mn))}
	case f.super && f.mins:
		d *= float32(s.sc)
		b.scale = [2]float32{d, d}
		min := -(f16(s.m) * float32(s.mn))
		b.min = [2]float32{min, min}
	case f.super:
		d *= float32(int8(s.sc))
		b.scale = [2]float32{d, d}
	case f.exp:
		d = half2(s.sc)
		b.scale = [2]float32{d, d}
	default:
		b.scale = [2]float32{d, d}
		if f.mins {
			b.min = [2]float32{f16(s.m), f16(s.m)}
		}
	}
}

// setInts fills in the scales of a type with two bits in the low plane.
func (f *form) setInts(b *sub, s blockScales) {
	i := &b.ints
	i.d, i.m = f16(s.d), f16(s.m)
	for h, v := range [2]uint8{s.sc, s.mn} {
		if !f.mins {
			i.sc[h], i.mn[h] = int32(int8(v)), 0
		} else {
			i.sc[h], i.mn[h] = int32(v&15), int32(v>>4)
			b.min[h] = -(i.m * float32(i.mn[h]))
		}
		b.scale[h] = i.d * float32(i.sc[h])
	}
}

// half2 is half of the power of two that a byte of E8M0 stands for, 2^(e-128); the weights of MXFP4 are
// doubled. Kernels make it in the same way. 255, which stands for NaN, becomes infinite.
func half2(e uint8) float32 { return math.Float32frombits(max(uint32(e)<<23, 1<<22)) * 0.5 }

// scales reads what scales sub-block i of a GGUF block.
func (f *form) scales(blk []byte, i int) blockScales {
	le := binary.LittleEndian
	switch {
	case f.ints() && f.mins:
		return blockScales{d: le.Uint16(blk[80:]), m: le.Uint16(blk[82:]), sc: blk[2*i], mn: blk[2*i+1]}
	case f.ints():
		s := (*[12]byte)(blk[96:])
		return blockScales{d: le.Uint16(blk[108:]), sc: scale3(s, 2*i), mn: scale3(s, 2*i+1)}
	case f.half:
		return blockScales{d: le.Uint16(blk[208:]), sc: blk[192+2*i], mn: blk[193+2*i]}
	case f.exp:
		return blockScales{sc: blk[0]}
	case f.super && f.book != nil:
		sc := blk[4+i/2]>>(i%2*4)&15 | uint8(le.Uint16(blk[2:])>>(2*i)&3)<<4
		return blockScales{d: le.Uint16(blk), sc: sc - 32}
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

// scale3 reads scale i of the 16 of Q3_K, a signed byte: its low nibble lies in byte i modulo 8, its two
// high bits in byte 8 + i modulo 4.
func scale3(b *[12]byte, i int) uint8 {
	return (b[i%8]>>(i/8*4)&15 | b[8+i%4]>>(i/4*2)&3<<4) - 32
}

// codes are the 32 weights of a sub-block as they are stored: byte c of word j belongs to weight 4j+c
// (little endian), which is the code less the type's zero, or what the type's book has for the code. Signed weights are
// their own codes.
type codes [8]uint32

const (
	nibbles = 0x0f0f0f0f
	lowBits = 0x01010101
	lowTwos = 0x03030303
)

// weights subtracts zero from the codes, or looks them up.
func (f *form) weights(w *[32]int8, c *codes) {
	if f.book != nil {
		for j, v := range c {
			for b := range 4 {
				w[4*j+b] = f.book[v>>(8*b)&15]
			}
		}
		return
	}
	for j, v := range c {
		for b := range 4 {
			w[4*j+b] = int8(v>>(8*b)) - int8(f.zero)
		}
	}
}

// read decodes sub-block i of a GGUF block.
func (f *form) read(b *sub, blk []byte, i int) {
	var c codes
	f.readCodes(&c, blk, i)
	f.weights(&b.w, &c)
	f.set(b, f.scales(blk, i))
}

// readCodes reads the weights of sub-block i of a GGUF block.
func (f *form) readCodes(c *codes, blk []byte, i int) {
	switch {
	case f.low == 8:
		q := (*[32]byte)(blk[2:])
		for j := range c {
			c[j] = binary.LittleEndian.Uint32(q[4*j:])
		}
	case f.ints():
		f.readQ23K(c, blk, i)
	case f.half:
		readQ6K(c, (*[210]byte)(blk), i)
	case f.super && f.book != nil:
		readNibbles(c, (*[16]byte)(blk[8+16*i:]))
	case f.super:
		f.readQ45K(c, blk, i)
	default:
		f.readSmall(c, blk)
	}
}

// readSmall reads Q4_0, Q4_1, Q5_0 and Q5_1: nibbles of weights k and 16+k share a byte, fifth bits
// stand ahead of them, bit k for weight k. So do IQ4_NL and MXFP4.
func (f *form) readSmall(c *codes, blk []byte) {
	at := 2
	switch {
	case f.mins:
		at = 4
	case f.exp:
		at = 1
	}
	var high uint32
	if f.high != 0 {
		high = binary.LittleEndian.Uint32(blk[at:])
		at += 4
	}
	readNibbles(c, (*[16]byte)(blk[at:]))
	if f.high == 0 {
		return
	}
	for j := range c {
		// Four copies of four bits, 7 places apart, put one bit into each byte.
		c[j] |= (high >> (4 * j) & 15) * 0x00204081 & lowBits << 4
	}
}

// readNibbles reads 32 nibbles, the second half above the first.
func readNibbles(c *codes, q *[16]byte) {
	for j := range 4 {
		v := binary.LittleEndian.Uint32(q[4*j:])
		c[j], c[4+j] = v&nibbles, v>>4&nibbles
	}
}

// readQ23K reads Q2_K and Q3_K: 128 weights share 32 bytes of bit pairs, and the third bits of all
// eight sub-blocks share 32 bytes.
func (f *form) readQ23K(c *codes, blk []byte, i int) {
	at := 16
	if f.high != 0 {
		at = 32
	}
	q := (*[32]byte)(blk[at+i/4*32:])
	for j := range c {
		c[j] = binary.LittleEndian.Uint32(q[4*j:]) >> (i % 4 * 2) & lowTwos
	}
	if f.high == 0 {
		return
	}
	for j := range c {
		c[j] |= binary.LittleEndian.Uint32(blk[4*j:]) >> i & lowBits << 2
	}
}

// readQ45K reads Q4_K and Q5_K: two sub-blocks share 32 bytes of nibbles, and the fifth bits of all
// eight share 32 bytes.
func (f *form) readQ45K(c *codes, blk []byte, i int) {
	at := 16 + 32*f.high
	q := (*[32]byte)(blk[at+i/2*32:])
	for j := range c {
		c[j] = binary.LittleEndian.Uint32(q[4*j:]) >> (i % 2 * 4) & nibbles
	}
	if f.high == 0 {
		return
	}
	h := (*[32]byte)(blk[16:])
	for j := range c {
		c[j] |= binary.LittleEndian.Uint32(h[4*j:]) >> i & lowBits << 4
	}
}

// readQ6K reads Q6_K: 128 weights share 64 bytes of nibbles (sub-blocks 0 and 1 low, 2 and 3 high) and
// 32 bytes of upper bit pairs.
func readQ6K(c *codes, blk *[210]byte, i int) {
	n := i % 4
	q, h := blk[i/4*64+n%2*32:], blk[128+i/4*32:]
	for j := range c {
		c[j] = binary.LittleEndian.Uint32(q[4*j:])>>(n/2*4)&nibbles |
			binary.LittleEndian.Uint32(h[4*j:])>>(2*n)&lowTwos<<4
	}
}

// readPanel decodes sub-block i of row r from a block of a packed panel.
func (f *form) readPanel(b *sub, blk []byte, i, r int) {
	var c codes
	f.getCodes(&c, blk[f.headBytes()+i*f.subBytes()+4*r:])
	f.weights(&b.w, &c)
	f.set(b, f.panelScales(blk, i, r))
}

// getCodes reads the weights of one row from the planes of a panel's sub-block, which start 4 bytes
// times the row ahead of p.
func (f *form) getCodes(c *codes, p []byte) {
	word := func(n int) uint32 { return binary.LittleEndian.Uint32(p[64*n:]) }
	switch f.low {
	case 8:
		for j := range c {
			c[j] = word(j)
		}
		return
	case 2:
		f.getTwos(word, c)
		return
	}
	for j := range 4 {
		v := word(j)
		c[j], c[4+j] = v&nibbles, v>>4&nibbles
	}
	switch f.high {
	case 1:
		h := word(4)
		for j := range c {
			c[j] |= h >> j & lowBits << 4
		}
	case 2:
		h0, h1 := word(4), word(5)
		for j := range 4 {
			c[j] |= h0 >> (2 * j) & lowTwos << 4
			c[4+j] |= h1 >> (2 * j) & lowTwos << 4
		}
	}
}

// putCodes writes what getCodes reads.
func (f *form) putCodes(p []byte, c *codes) {
	put := func(n int, v uint32) { binary.LittleEndian.PutUint32(p[64*n:], v) }
	switch f.low {
	case 8:
		for j, v := range c {
			put(j, v)
		}
		return
	case 2:
		f.putTwos(put, c)
		return
	}
	var h0, h1 uint32
	for j := range 4 {
		lo, hi := c[j], c[4+j]
		put(j, lo&nibbles|hi&nibbles<<4)
		if f.high == 1 {
			h0 |= lo>>4&lowBits<<j | hi>>4&lowBits<<(4+j)
		} else {
			h0 |= lo >> 4 & lowTwos << (2 * j)
			h1 |= hi >> 4 & lowTwos << (2 * j)
		}
	}
	if f.high >= 1 {
		put(4, h0)
	}
	if f.high == 2 {
		put(5, h1)
	}
}

// getTwos reads the planes of a type with two bits in the low plane. Q2_K: word n holds the columns 16n
// ... 16n+15. Q3_K, whose planes are one: word n holds the codes of words 2n and 2n+1; above these, the
// first and second have the low bits of words 6 and 7, whose high bits are the highest of the third.
func (f *form) getTwos(word func(n int) uint32, c *codes) {
	if f.high == 0 {
		for j := range c {
			c[j] = word(j/4) >> (j % 4 * 2) & lowTwos
		}
		return
	}
	for j := range 6 {
		c[j] = word(j/2) >> (j % 2 * 3) & (7 * lowBits)
	}
	for j := range 2 {
		c[6+j] = word(j)>>6&lowTwos | word(2)>>(6+j)&lowBits<<2
	}
}

// putTwos writes what getTwos reads.
func (f *form) putTwos(put func(n int, v uint32), c *codes) {
	if f.high == 0 {
		for n := range 2 {
			q := c[4*n:]
			put(n, q[0]|q[1]<<2|q[2]<<4|q[3]<<6)
		}
		return
	}
	const low, high = lowTwos, 4 * lowBits
	put(0, c[0]|c[1]<<3|c[6]&low<<6)
	put(1, c[2]|c[3]<<3|c[7]&low<<6)
	put(2, c[4]|c[5]<<3|c[6]&high<<4|c[7]&high<<5)
}

// panelScales reads what scales sub-block i of row r of a panel's block.
func (f *form) panelScales(blk []byte, i, r int) (s blockScales) {
	le := binary.LittleEndian
	p := blk[f.headBytes()+i*f.subBytes()+64*f.low+64*f.high:]
	if f.exp {
		s.sc = p[r]
		return s
	}
	if f.super {
		s.d, s.sc = le.Uint16(blk[2*r:]), p[r]
		if f.scaleBytes() > panelRows {
			s.mn = p[panelRows+r]
		}
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
