package lab

import "encoding/binary"

// These are the few facts about IPv4, TCP and UDP that the router of wire.go needs (RFC 791, 9293, 768, 1624).

const (
	protoTCP = 6
	protoUDP = 17
)

// packet is an IPv4 packet as it was read.
type packet []byte

// valid tells whether the headers can be read.
func (p packet) valid() bool {
	return len(p) >= 20 && p[0]>>4 == 4 && p.header() >= 20 && len(p) >= p.header()
}

func (p packet) header() int { return int(p[0]&15) * 4 }

// ends are the addresses.
func (p packet) ends() (from, to [4]byte) {
	copy(from[:], p[12:16])
	copy(to[:], p[16:20])
	return from, to
}

// payload is where the data of TCP or UDP begin, and where their checksum is; ok is false if there are none.
func (p packet) payload() (data, sum int, ok bool) {
	h := p.header()
	if binary.BigEndian.Uint16(p[6:])&0x1fff != 0 { // a later fragment
		return 0, 0, false
	}
	switch {
	case p[9] == protoTCP && len(p) >= h+20:
		data, sum = h+int(p[h+12]>>4)*4, h+16
	case p[9] == protoUDP && len(p) >= h+8:
		data, sum = h+8, h+6
	default:
		return 0, 0, false
	}
	return data, sum, data < len(p)
}

// flip inverts a bit of the data and mends the checksum, so that the receiver's kernel takes the packet and what is above it must
// notice. It reports whether there were data.
func (p packet) flip(at, bit int) bool {
	data, sum, ok := p.payload()
	if !ok {
		return false
	}
	i := data + at%(len(p)-data)
	word := i - (i-p.header())%2 // the sum is of words from the header's end on
	get := func() uint16 {
		if word+1 == len(p) {
			return uint16(p[word]) << 8
		}
		return binary.BigEndian.Uint16(p[word:])
	}
	before := get()
	p[i] ^= 1 << (bit % 8)
	old := binary.BigEndian.Uint16(p[sum:])
	if p[9] == protoUDP && old == 0 {
		return true // no checksum
	}
	// RFC 1624: ~(~old + ~before + after)
	s := uint32(^old) + uint32(^before) + uint32(get())
	s = s&0xffff + s>>16
	s = s&0xffff + s>>16
	binary.BigEndian.PutUint16(p[sum:], ^uint16(s))
	return true
}
