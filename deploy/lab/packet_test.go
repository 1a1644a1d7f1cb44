package lab

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// checksum is that of TCP or UDP over a whole packet, 0xffff if it is right.
func checksum(p packet) uint16 {
	h := p.header()
	var s uint32
	add := func(b []byte) {
		for i := 0; i < len(b); i += 2 {
			w := uint32(b[i]) << 8
			if i+1 < len(b) {
				w |= uint32(b[i+1])
			}
			s += w
		}
	}
	add(p[12:20])
	s += uint32(p[9]) + uint32(len(p)-h)
	add(p[h:])
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

func segment(proto byte, data []byte) packet {
	head := 8
	if proto == protoTCP {
		head = 20
	}
	p := make(packet, 20+head+len(data))
	p[0], p[8], p[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], []byte{10, 77, 1, 1, 10, 77, 2, 1})
	copy(p[20+head:], data)
	sum := 20 + 6
	if proto == protoTCP {
		p[20+12] = 5 << 4
		sum = 20 + 16
	} else {
		binary.BigEndian.PutUint16(p[24:], uint16(8+len(data)))
	}
	binary.BigEndian.PutUint16(p[sum:], ^checksum(p))
	return p
}

// A flipped packet differs in one bit of its data and has a right checksum.
func TestFlip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		data := make([]byte, 1+rng.IntN(50))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		p := segment([]byte{protoTCP, protoUDP}[rng.IntN(2)], data)
		if checksum(p) != 0xffff {
			t.Fatal("the test's own checksum is wrong")
		}
		before := append(packet{}, p...)
		if !p.flip(rng.IntN(100), rng.IntN(8)) {
			t.Fatal("not flipped")
		}
		from, sum, _ := p.payload()
		bits := 0
		for i := range p {
			if i == sum || i == sum+1 {
				continue
			}
			for d := p[i] ^ before[i]; d != 0; d &= d - 1 {
				bits++
				if i < from {
					t.Fatalf("byte %d of the headers was changed", i)
				}
			}
		}
		if bits != 1 || checksum(p) != 0xffff {
			t.Fatalf("%d bits differ, checksum %#x", bits, checksum(p))
		}
	}
}

func TestNoData(t *testing.T) {
	for _, p := range []packet{nil, {0x45}, segment(protoTCP, nil), make(packet, 40), {0x65, 19: 0}} {
		if p.valid() && p.flip(0, 0) {
			t.Errorf("%v was flipped", p)
		}
	}
}
