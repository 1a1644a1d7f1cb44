package peer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"lamina/shard/pipeline"
)

// The layout of what travels on a stage link; PROTOCOL.md, section Frames, is the specification.
const (
	headerSize = 28 // bytes in front of every payload

	offLength = 0  // u32, of the payload
	offKind   = 4  // u8
	offFlags  = 5  // u8
	offType   = 6  // u8, of the payload
	offForm   = 7  // u8: the payload follows, or comes in parts
	offID     = 8  // u32: slot u16, generation u16
	offPos    = 12 // u32
	offCount  = 16 // u32
	offSpent  = 20 // u32
	offCRC    = 24 // u32, CRC-32C of the header up to here and of the bytes that follow it
)

// The kinds of the link itself. Those of the pipeline count from 1.
const (
	kindBeat = 0   // a sign of life
	kindPart = 254 // a part of the payload of the frame that is under way
	kindBind = 255 // what an id stands for from here on
)

// What a payload is. The numbers are on the wire: never renumbered or used again.
const (
	typeNone   = 0
	typeI32    = 1 // Count tokens
	typeF32    = 2 // Count rows of activations
	typeMap    = 3 // msgpack: OpenRequest or Failure
	typeScores = 4 // Count tokens with log probabilities
	typeBind   = 5 // an address
	typePart   = 6 // bytes of another payload
	typeKeys   = 7 // Count names of blocks
	typeGuess  = 8 // Count rows of activations, then Count-1 tokens
)

// How a payload travels.
const (
	formWhole = 0
	formParts = 1 // behind the header come parts, and whole frames of other sequences between them
)

const (
	// partBytes is how much of a payload goes into a part: two TLS records with its header.
	partBytes = 32<<10 - headerSize
	// maxPart is how large a part may be that is taken.
	maxPart = 64 << 10
	// maxIDs bounds the ids of a link.
	maxIDs  = 4096
	keySize = len(pipeline.Key{})
	// bindSize is an address: sequence, epoch, attempt, stage and two bytes of zero.
	bindSize = 24
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// address is what an id of a link stands for.
type address struct {
	seq, epoch uint64
	attempt    uint32
	stage      uint16
}

func addressOf(f *pipeline.Frame) address { return address{f.Seq, f.Epoch, f.Attempt, f.Stage} }

// makeID puts an id together. The generation counts how often the slot was bound before.
func makeID(slot, generation uint16) uint32 { return uint32(slot) | uint32(generation)<<16 }

// appendBeat appends a sign of life to dst.
func appendBeat(dst []byte) []byte {
	start := len(dst)
	return seal(appendHeader(dst, kindBeat, typeNone, 0), start)
}

// appendBind appends what an id stands for.
func appendBind(dst []byte, id uint32, a address) []byte {
	start, le := len(dst), binary.LittleEndian
	dst = appendHeader(dst, kindBind, typeBind, id)
	dst = le.AppendUint64(dst, a.seq)
	dst = le.AppendUint64(dst, a.epoch)
	dst = le.AppendUint32(dst, a.attempt)
	dst = le.AppendUint32(dst, uint32(a.stage))
	return seal(dst, start)
}

func appendHeader(dst []byte, kind, typ byte, id uint32) []byte {
	var h [headerSize]byte
	h[offKind], h[offType] = kind, typ
	binary.LittleEndian.PutUint32(h[offID:], id)
	return append(dst, h[:]...)
}

// seal fills in length and checksum of the record that begins at start and ends dst.
func seal(dst []byte, start int) []byte {
	b := dst[start:]
	binary.LittleEndian.PutUint32(b[offLength:], uint32(len(b)-headerSize))
	return sum(dst, start)
}

// sum fills in the checksum of the record that begins at start and ends dst.
func sum(dst []byte, start int) []byte {
	b := dst[start:]
	binary.LittleEndian.PutUint32(b[offCRC:], crc32.Update(crc32.Checksum(b[:offCRC], castagnoli), castagnoli, b[headerSize:]))
	return dst
}

// recordSize is how many bytes of the stream belong to the header h.
func recordSize(h []byte) int {
	if h[offForm] == formParts {
		return headerSize
	}
	return headerSize + int(binary.LittleEndian.Uint32(h[offLength:]))
}

// payloads says which types of payload a kind of the pipeline may have, as a set of bits.
var payloads = [...]uint16{
	pipeline.KindOpen:   1 << typeMap,
	pipeline.KindStep:   1<<typeI32 | 1<<typeF32 | 1<<typeGuess,
	pipeline.KindToken:  1<<typeNone | 1<<typeI32 | 1<<typeScores,
	pipeline.KindCredit: 1 << typeNone,
	pipeline.KindClose:  1<<typeNone | 1<<typeKeys,
	pipeline.KindFail:   1 << typeMap,
	pipeline.KindReady:  1 << typeNone,
}

// checkHeader refuses a header that cannot be right, before anything is taken for its payload of at most most bytes.
func checkHeader(h []byte, most uint32) error {
	le := binary.LittleEndian
	length, count, pos := le.Uint32(h[offLength:]), le.Uint32(h[offCount:]), le.Uint32(h[offPos:])
	kind, typ := h[offKind], h[offType]
	switch kind {
	case kindBeat, kindBind, kindPart:
		return checkOwn(h)
	}
	switch {
	case int(kind) >= len(payloads) || typ > typeGuess || payloads[kind]&(1<<typ) == 0:
		return fmt.Errorf("%w: a frame of kind %d with a payload of type %d", ErrProtocol, kind, typ)
	case !pipeline.Flags(h[offFlags]).Valid() || h[offForm] > formParts || h[offForm] == formParts && length == 0:
		return fmt.Errorf("%w: flags %#x or form %d are not of this version", ErrProtocol, h[offFlags], h[offForm])
	case length > most:
		return fmt.Errorf("%w: a payload of %d bytes, at most %d are taken", ErrProtocol, length, most)
	case pos > pipeline.MaxContext || count > pipeline.MaxContext:
		return fmt.Errorf("%w: position %d, count %d, at most %d are taken", ErrProtocol, pos, count, pipeline.MaxContext)
	}
	return checkLength(typ, length, count)
}

// checkOwn refuses a header of the link's own kinds that cannot be right.
func checkOwn(h []byte) error {
	le := binary.LittleEndian
	length, id := le.Uint32(h[offLength:]), le.Uint32(h[offID:])
	ok := h[offFlags] == 0 && h[offForm] == 0 && le.Uint32(h[offPos:])|le.Uint32(h[offCount:])|le.Uint32(h[offSpent:]) == 0
	switch h[offKind] {
	case kindBeat:
		ok = ok && h[offType] == typeNone && length == 0 && id == 0
	case kindBind:
		ok = ok && h[offType] == typeBind && length == bindSize && id&0xFFFF < maxIDs
	case kindPart:
		ok = ok && h[offType] == typePart && length > 0 && length <= maxPart && id == 0
	}
	if !ok {
		return fmt.Errorf("%w: a record of kind %d, type %d, %d bytes and id %#x", ErrProtocol, h[offKind], h[offType], length, id)
	}
	return nil
}

// checkLength refuses a payload that is not Count of what its type says.
func checkLength(typ byte, length, count uint32) error {
	ok := true
	switch typ {
	case typeNone:
		ok = length == 0
	case typeI32:
		ok = count > 0 && uint64(length) == 4*uint64(count)
	case typeF32:
		ok = count > 0 && length > 0 && uint64(length)%(4*uint64(count)) == 0
	case typeKeys:
		ok = count > 0 && uint64(length) == uint64(keySize)*uint64(count)
	case typeGuess:
		tokens := 4 * (uint64(count) - 1)
		ok = count > 1 && uint64(length) > tokens && (uint64(length)-tokens)%(4*uint64(count)) == 0
	case typeScores:
		ok = count > 0 && length%4 == 0 && uint64(length) >= 12*uint64(count)
	case typeMap:
		ok = length <= maxMapPayload
	}
	if !ok {
		return fmt.Errorf("%w: a payload of %d bytes and type %d for a count of %d", ErrProtocol, length, typ, count)
	}
	return nil
}
