package text

import "unicode/utf8"

// Byte-level BPE writes its tokens with one printable character for each byte: bytes that print in
// Latin-1 stand for themselves, the other 68 are moved to U+0100 and up, in order (GPT-2, encoder.py).

// byteRunes gives the character of each byte.
func byteRunes() (runes [256]rune) {
	moved := rune(0x100)
	for b := range runes {
		if (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae {
			runes[b] = rune(b)
			continue
		}
		runes[b] = moved
		moved++
	}
	return runes
}

// byteDecoder maps characters back to bytes; no character is above U+0143.
type byteDecoder [0x144]int16

func newByteDecoder() *byteDecoder {
	var d byteDecoder
	for i := range d {
		d[i] = -1
	}
	for b, r := range byteRunes() {
		d[r] = int16(b)
	}
	return &d
}

// decode appends the bytes that a token's text stands for. A text with any other character, such as an
// added token, stands for itself.
func (d *byteDecoder) decode(dst []byte, text string) []byte {
	start := len(dst)
	for _, r := range text {
		if r >= rune(len(d)) || d[r] < 0 {
			return append(dst[:start], text...)
		}
		dst = append(dst, byte(d[r]))
	}
	return dst
}

// hexByte reads a SentencePiece byte token, <0x0A>.
func hexByte(text string) (byte, bool) {
	if len(text) != 6 || text[:3] != "<0x" || text[5] != '>' {
		return 0, false
	}
	v := 0
	for _, c := range []byte(text[3:5]) {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | int(c-'0')
		case c >= 'A' && c <= 'F':
			v = v<<4 | int(c-'A'+10)
		case c >= 'a' && c <= 'f':
			v = v<<4 | int(c-'a'+10)
		default:
			return 0, false
		}
	}
	return byte(v), true
}

// cut gives how many bytes of s, at most limit, end at the boundary of a character.
func cut(s string, limit int) int {
	if len(s) <= limit {
		return len(s)
	}
	for n := limit; n > limit-utf8.UTFMax && n > 0; n-- {
		if utf8.RuneStart(s[n]) {
			return n
		}
	}
	return limit
}
