package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Meta is what a node tells the others about itself.
type Meta struct {
	HTTP    string // host:port for clients
	Version string
	// MemoryTotal is the room the node gives to weights and KV caches, MemoryFree what is left of it, in bytes.
	MemoryFree, MemoryTotal int64
	Load                    float64 // sequences in progress
	// Speed is how fast weights are read and multiplied in a step of one row, Eight in a step of eight rows, in bytes of
	// weights a nanosecond (GB/s); Many is bytes x rows a nanosecond in long steps. Measured at the start, on no model. 0: not known.
	Speed, Eight, Many float64
	LayerCost          time.Duration // what a layer costs a step beside its bytes
	Net                float64       // bytes a nanosecond that the node takes in from others; 0: not known
	Models             string        // what was measured on models: see PackModels
	// Where is the node's place: the round trip to another is the distance of the first three, and the sum of both fourths, in
	// nanoseconds. Gossip finds it out; what SetMeta is given is not looked at.
	Where [4]float64
}

// MaxMeta is the most bytes of encoded metadata, a limit of memberlist.
const MaxMeta = 512

// errMeta wraps what is wrong with metadata from outside.
var errMeta = errors.New("unreadable node metadata")

// wireMeta is Meta as MessagePack: a map with short keys. Keys are only ever added; a reader skips what it does
// not know, so that nodes of different versions see each other.
type wireMeta struct {
	HTTP    string  `msgpack:"h,omitempty"`
	Version string  `msgpack:"v,omitempty"`
	Free    int64   `msgpack:"f"`
	Total   int64   `msgpack:"t"`
	Load    float64 `msgpack:"l"`
	Speed   float64 `msgpack:"s"`
	Eight   float32 `msgpack:"e,omitempty"`
	Many    float32 `msgpack:"m,omitempty"`
	Layer   int64   `msgpack:"o,omitempty"`
	Net     float32 `msgpack:"n,omitempty"`
	Models  []byte  `msgpack:"r,omitempty"`
	Where   []byte  `msgpack:"w,omitempty"`
}

// encode returns at most limit bytes. What does not fit is left out, the least needed first: the version, then
// the HTTP address (the agreed state has both), then what was measured on models.
func (m Meta) encode(limit int) []byte {
	w := wireMeta{m.HTTP, m.Version, m.MemoryFree, m.MemoryTotal, m.Load, m.Speed, float32(m.Eight), float32(m.Many), int64(m.LayerCost), float32(m.Net), []byte(m.Models), nil}
	if m.Where != [4]float64{} {
		w.Where = place{at: [3]float64(m.Where[:3]), height: m.Where[3]}.append(nil)
	}
	for _, shorten := range []func(){func() {}, func() { w.Version = "" }, func() { w.HTTP = "" }, func() { w.Models = nil }} {
		shorten()
		if data, err := msgpack.Marshal(w); err == nil && len(data) <= limit {
			return data
		}
	}
	return nil
}

// decodeMeta reads what another node sent. Nothing is allocated for what the bytes only claim to hold.
func decodeMeta(data []byte) (Meta, error) {
	if len(data) > MaxMeta {
		return Meta{}, fmt.Errorf("%w: %d bytes, at most %d", errMeta, len(data), MaxMeta)
	}
	if rest, err := scan(data, 0); err != nil || len(rest) != 0 || !isMap(data) {
		return Meta{}, fmt.Errorf("%w: not one flat map", errMeta)
	}
	var w wireMeta
	if err := msgpack.Unmarshal(data, &w); err != nil {
		return Meta{}, fmt.Errorf("%w: %w", errMeta, err)
	}
	bad := w.Free < 0 || w.Total < 0 || w.Free > w.Total || w.Layer < 0 || len(w.Models)%modelBytes != 0
	for _, f := range []float64{w.Load, w.Speed, float64(w.Eight), float64(w.Many), float64(w.Net)} {
		bad = bad || math.IsNaN(f) || math.IsInf(f, 0) || f < 0
	}
	var where [4]float64
	if len(w.Where) > 0 {
		p, ok := readPlace(w.Where)
		where, bad = p.where(), bad || !ok
	}
	if bad || !printable(w.HTTP) || !printable(w.Version) {
		return Meta{}, fmt.Errorf("%w: a value is out of range", errMeta)
	}
	return Meta{
		HTTP: w.HTTP, Version: w.Version, MemoryFree: w.Free, MemoryTotal: w.Total, Load: w.Load, Speed: w.Speed,
		Eight: float64(w.Eight), Many: float64(w.Many), LayerCost: time.Duration(w.Layer), Net: float64(w.Net), Models: string(w.Models), Where: where,
	}, nil
}

// printable keeps control characters of a stranger out of logs and terminals.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func isMap(data []byte) bool {
	return len(data) > 0 && (data[0]&0xf0 == 0x80 || data[0] == 0xde || data[0] == 0xdf)
}

// maxDepth is the deepest nesting of metadata: a map of values, and room for one list in it.
const maxDepth = 2

var errScan = errors.New("truncated, too deep or not MessagePack")

// scan checks one MessagePack value against the bytes that are there, without allocating, and returns the rest.
// Every element takes a byte at least, so counts are bounded by what is left. The formats are those of the
// MessagePack specification.
func scan(b []byte, depth int) ([]byte, error) {
	if len(b) == 0 || depth > maxDepth {
		return nil, errScan
	}
	c := b[0]
	switch {
	case c <= 0x7f, c >= 0xe0: // small integers
		return b[1:], nil
	case c <= 0x8f:
		return scanMany(b[1:], 2*int(c&0x0f), depth)
	case c <= 0x9f:
		return scanMany(b[1:], int(c&0x0f), depth)
	case c <= 0xbf:
		return skip(b[1:], uint64(c&0x1f))
	}
	switch c {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		return b[1:], nil
	case 0xcc, 0xd0:
		return skip(b[1:], 1)
	case 0xcd, 0xd1:
		return skip(b[1:], 2)
	case 0xca, 0xce, 0xd2:
		return skip(b[1:], 4)
	case 0xcb, 0xcf, 0xd3:
		return skip(b[1:], 8)
	case 0xc4, 0xd9, 0xc5, 0xda, 0xc6, 0xdb: // bin and str with a length of 1, 2, 4 bytes
		n, rest, err := length(b[1:], lengthBytes(c))
		if err != nil {
			return nil, err
		}
		return skip(rest, n)
	case 0xdc, 0xdd, 0xde, 0xdf: // arrays and maps with a count of 2, 4 bytes
		n, rest, err := length(b[1:], lengthBytes(c))
		if err != nil || n > uint64(len(rest)) {
			return nil, errScan
		}
		if c >= 0xde {
			n *= 2
		}
		return scanMany(rest, int(n), depth)
	}
	return nil, errScan // extensions and 0xc1: not in metadata
}

// lengthBytes is the size of the length field behind a type byte.
func lengthBytes(c byte) int {
	switch c {
	case 0xc4, 0xd9:
		return 1
	case 0xc5, 0xda, 0xdc, 0xde:
		return 2
	}
	return 4
}

func length(b []byte, size int) (uint64, []byte, error) {
	if len(b) < size {
		return 0, nil, errScan
	}
	var buf [8]byte
	copy(buf[8-size:], b)
	return binary.BigEndian.Uint64(buf[:]), b[size:], nil
}

func skip(b []byte, n uint64) ([]byte, error) {
	if n > uint64(len(b)) {
		return nil, errScan
	}
	return b[n:], nil
}

func scanMany(b []byte, n, depth int) ([]byte, error) {
	var err error
	for range n {
		if b, err = scan(b, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}
