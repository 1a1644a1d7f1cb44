package kernels

import (
	"encoding/binary"
	"unsafe"
)

// The packers of this file write what packRow writes, 16 rows at a time and whole words at once: a sub-block's nibbles are
// mostly stored as they come. They check the lengths first and then go by address, which is twice as fast.

// packPanel writes up to 16 GGUF rows of rb bytes into a panel. False: a scale is not finite, or the type has no packer
// here; packRow tells.
func (f *form) packPanel(panel, src []byte, rb int) bool {
	rows := len(src) / rb
	if rows < 1 || rows > panelRows || rows*rb != len(src) || rb%f.bytes != 0 || len(panel) != rb/f.bytes*f.panelBlock() {
		return false
	}
	p, b, blocks := at(unsafe.SliceData(panel)), at(unsafe.SliceData(src)), rb/f.bytes
	switch {
	case f.bytes == 2:
		packHalves(p, b, rows, rb)
		return true
	case f.bytes == 4:
		packSingles(p, b, rows, rb)
		return true
	case f.low == 8:
		return packQ8(p, b, rows, blocks)
	case f.low == 4 && !f.super:
		return f.packSmall(p, b, rows, blocks)
	case f.low == 4 && f.half:
		return packQ6K(p, b, rows, blocks)
	case f.low == 4 && f.mins:
		return f.packQ45K(p, b, rows, blocks)
	case f.low == 4 && f.book != nil:
		return f.packIQ4XS(p, b, rows, blocks)
	}
	return false
}

// place is an address; the caller has checked that what is read and written from it on is there. The offset is a
// number apart, since a pointer that has walked past the end of its memory, if only for a moment, may be another's.
type place struct {
	p  unsafe.Pointer
	at int
}

func at(p *byte) place                   { return place{unsafe.Pointer(p), 0} }
func (a place) add(n int) place          { return place{a.p, a.at + n} }
func (a place) ptr(n int) unsafe.Pointer { return unsafe.Add(a.p, a.at+n) }
func (a place) u8(n int) *uint8          { return (*uint8)(a.ptr(n)) }
func (a place) u16(n int) uint16 {
	return binary.LittleEndian.Uint16((*[2]byte)(a.ptr(n))[:])
}
func (a place) u32(n int) uint32 {
	return binary.LittleEndian.Uint32((*[4]byte)(a.ptr(n))[:])
}
func (a place) u64(n int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(a.ptr(n))[:])
}
func (a place) put16(n int, v uint16) {
	binary.LittleEndian.PutUint16((*[2]byte)(a.ptr(n))[:], v)
}
func (a place) put32(n int, v uint32) {
	binary.LittleEndian.PutUint32((*[4]byte)(a.ptr(n))[:], v)
}
func (a place) put64(n int, v uint64) {
	binary.LittleEndian.PutUint64((*[8]byte)(a.ptr(n))[:], v)
}

// put2 writes two words of a plane, one vector apart.
func (a place) put2(n int, v uint64) {
	a.put32(n, uint32(v))
	a.put32(n+64, uint32(v>>32))
}

// packHalves transposes elements of two bytes, four rows by four columns at a time where there are so many.
func packHalves(p, src place, rows, rb int) {
	for r := 0; r < rows; {
		a, k, n := src.add(r*rb), 0, 1
		if r+4 <= rows {
			n = 4
			for ; k+8 <= rb; k += 8 {
				w, x, y, z := a.u64(k), a.u64(rb+k), a.u64(2*rb+k), a.u64(3*rb+k)
				q := p.add(k*panelRows + 2*r)
				q.put64(0, w&0xffff|x&0xffff<<16|y&0xffff<<32|z<<48)
				q.put64(32, w>>16&0xffff|x>>16&0xffff<<16|y>>16&0xffff<<32|z>>16<<48)
				q.put64(64, w>>32&0xffff|x>>32&0xffff<<16|y>>32&0xffff<<32|z>>32<<48)
				q.put64(96, w>>48|x>>48<<16|y>>48<<32|z>>48<<48)
			}
		}
		for ; n > 0; n-- {
			for i := k; i < rb; i += 2 {
				p.put16(i*panelRows+2*r, src.u16(r*rb+i))
			}
			r++
		}
	}
}

// packSingles transposes elements of four bytes, two rows by two columns at a time where there are so many.
func packSingles(p, src place, rows, rb int) {
	for r := 0; r < rows; {
		a, k, n := src.add(r*rb), 0, 1
		if r+2 <= rows {
			n = 2
			for ; k+8 <= rb; k += 8 {
				x, y := a.u64(k), a.u64(rb+k)
				q := p.add(k*panelRows + 4*r)
				q.put64(0, x&0xffffffff|y<<32)
				q.put64(64, x>>32|y>>32<<32)
			}
		}
		for ; n > 0; n-- {
			for i := k; i < rb; i += 4 {
				p.put32(i*panelRows+4*r, src.u32(r*rb+i))
			}
			r++
		}
	}
}

// packQ8 is of Q8_0.
func packQ8(p, src place, rows, blocks int) bool {
	const size, panel = 34, 544
	ok := true
	for n := range blocks {
		block := p.add(n * panel)
		for r := range rows {
			b, d := src.add((r*blocks+n)*size), block.add(4*r)
			d.put2(0, b.u64(2))
			d.put2(128, b.u64(10))
			d.put2(256, b.u64(18))
			d.put2(384, b.u64(26))
			s := b.u16(0)
			ok = ok && finite16(s)
			block.put16(512+2*r, s)
		}
	}
	return ok
}

// packSmall is of the types with nibbles in blocks of 32: the nibbles of a panel stand as in a block.
func (f *form) packSmall(p, src place, rows, blocks int) bool {
	size, panel, scales, high, mins, exp := f.bytes, f.panelBlock(), 64*f.low+64*f.high, f.high != 0, f.mins, f.exp
	codes := 2
	switch {
	case mins:
		codes = 4
	case exp:
		codes = 1
	}
	ok := true
	for n := range blocks {
		block := p.add(n * panel)
		for r := range rows {
			b, d := src.add((r*blocks+n)*size), block.add(4*r)
			q := b.add(codes)
			if high {
				d.put32(256, eighths(q.u32(0)))
				q = q.add(4)
			}
			d.put2(0, q.u64(0))
			d.put2(128, q.u64(8))
			if exp {
				ok = ok && *b.u8(0) != 255
				*block.u8(scales + r) = *b.u8(0)
				continue
			}
			s := b.u16(0)
			ok = ok && finite16(s)
			block.put16(scales+2*r, s)
			if mins {
				s = b.u16(2)
				ok = ok && finite16(s)
				block.put16(scales+2*panelRows+2*r, s)
			}
		}
	}
	return ok
}

// eighths brings bit 4j+c to bit j of byte c: in the five bits of a bit's number, the upper three change places with the lower
// two, by four exchanges of two of them (Knuth, "The Art of Computer Programming", 7.1.3: delta swaps).
func eighths(v uint32) uint32 {
	t := (v>>14 ^ v) & 0x0000cccc
	v ^= t ^ t<<14
	t = (v>>7 ^ v) & 0x00aa00aa
	v ^= t ^ t<<7
	t = (v>>2 ^ v) & 0x0c0c0c0c
	v ^= t ^ t<<2
	t = (v>>1 ^ v) & 0x22222222
	return v ^ t ^ t<<1
}

const (
	nibbles64 = nibbles<<32 | nibbles
	lowBits64 = lowBits<<32 | lowBits
	lowTwos64 = lowTwos<<32 | lowTwos
)

// packQ45K is of Q4_K and Q5_K.
func (f *form) packQ45K(p, src place, rows, blocks int) bool {
	const head, scales = 64, 256 // of the super-block; of a sub-block without a high plane
	size, panel, sub, high := f.bytes, f.panelBlock(), f.subBytes(), f.high != 0
	ok := true
	for n := range blocks {
		block := p.add(n * panel)
		for r := range rows {
			b := src.add((r*blocks + n) * size)
			d, m := b.u16(0), b.u16(2)
			ok = ok && finite16(d) && finite16(m)
			block.put16(2*r, d)
			block.put16(2*panelRows+2*r, m)
			q, factors := b.add(16), (*[12]byte)(b.ptr(4))
			if high {
				q = b.add(48)
			}
			even := block.add(head + 4*r)
			for i := 0; i < 128; i += 32 { // two sub-blocks share 32 bytes
				odd := even.add(sub)
				v, w := q.u64(i), q.u64(i+16)
				even.put2(0, v&nibbles64|w&nibbles64<<4)
				odd.put2(0, v>>4&nibbles64|w&(nibbles64<<4))
				v, w = q.u64(i+8), q.u64(i+24)
				even.put2(128, v&nibbles64|w&nibbles64<<4)
				odd.put2(128, v>>4&nibbles64|w&(nibbles64<<4))
				even = odd.add(sub)
			}
			s := block.add(head + scales + r)
			for i := range 8 {
				if high {
					h := b.add(16)
					x := h.u64(0)>>i&lowBits64 | h.u64(8)>>i&lowBits64<<2 | h.u64(16)>>i&lowBits64<<4 | h.u64(24)>>i&lowBits64<<6
					s.put32(3*r, uint32(x)|uint32(x>>32)<<1)
					*s.u8(64), *s.u8(64 + panelRows) = scaleMin(factors[:], i)
				} else {
					*s.u8(0), *s.u8(panelRows) = scaleMin(factors[:], i)
				}
				s = s.add(sub)
			}
		}
	}
	return ok
}

// packQ6K is of Q6_K.
func packQ6K(p, src place, rows, blocks int) bool {
	const size, head, sub = 210, 32, 416
	ok := true
	for n := range blocks {
		block := p.add(n * (head + 8*sub))
		for r := range rows {
			b := src.add((r*blocks + n) * size)
			d := b.u16(208)
			ok = ok && finite16(d)
			block.put16(2*r, d)
			for i := range 8 {
				k := i % 4
				s, q, h := block.add(head+i*sub), b.add(i/4*64+k%2*32), b.add(128+i/4*32)
				shift := k / 2 * 4
				s.put2(4*r, q.u64(0)>>shift&nibbles64|q.u64(16)>>shift&nibbles64<<4)
				s.put2(128+4*r, q.u64(8)>>shift&nibbles64|q.u64(24)>>shift&nibbles64<<4)
				x := h.u64(0)>>(2*k)&lowTwos64 | h.u64(8)>>(2*k)&lowTwos64<<4
				y := h.u64(16)>>(2*k)&lowTwos64 | h.u64(24)>>(2*k)&lowTwos64<<4
				s.put32(256+4*r, uint32(x)|uint32(x>>32)<<2)
				s.put32(320+4*r, uint32(y)|uint32(y>>32)<<2)
				*s.u8(384 + r), *s.u8(384 + panelRows + r) = *b.u8(192 + 2*i), *b.u8(193 + 2*i)
			}
		}
	}
	return ok
}

// packIQ4XS is of IQ4_XS.
func (f *form) packIQ4XS(p, src place, rows, blocks int) bool {
	const size, head, sub = 136, 32, 272
	ok := true
	for n := range blocks {
		block := p.add(n * (head + 8*sub))
		for r := range rows {
			b := src.add((r*blocks + n) * size)
			d := b.u16(0)
			ok = ok && finite16(d)
			block.put16(2*r, d)
			blk := (*[size]byte)(b.ptr(0))
			for i := range 8 {
				s := block.add(head + i*sub)
				s.put2(4*r, b.u64(8+16*i))
				s.put2(128+4*r, b.u64(16+16*i))
				*s.u8(256 + r) = f.scales(blk[:], i).sc
			}
		}
	}
	return ok
}
