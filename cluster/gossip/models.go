package gossip

import (
	"encoding/hex"
	"math"
	"strings"
)

// ModelRates is what a node measured of a model that it runs.
type ModelRates struct {
	// Model is the beginning of the model's digest: "sha256:" and 12 hex digits.
	Model string
	// One and Eight are bytes of weights a nanosecond in steps of so many rows, Many bytes x rows a nanosecond in long steps.
	// 0: not known.
	One, Eight, Many float64
	Sequences        int // open now; at most 255 are told
}

const (
	// maxModels is how many models are told of: 10 bytes each.
	maxModels   = 16
	prefixBytes = 6
	modelBytes  = prefixBytes + 4
	digestKind  = "sha256:"
)

// ModelName is how gossip names the model of a digest: see ModelRates.Model.
func ModelName(digest string) string {
	return digest[:min(len(digest), len(digestKind)+2*prefixBytes)]
}

// PackModels encodes the rates of the first 16 models in ten bytes each, for Meta.Models. Rates are kept to 3 %; a digest
// of another form is left out.
func PackModels(list []ModelRates) string {
	var b []byte
	for _, m := range list {
		id, ok := strings.CutPrefix(m.Model, digestKind)
		prefix, err := hex.DecodeString(id[:min(len(id), 2*prefixBytes)])
		if !ok || err != nil || len(prefix) != prefixBytes || len(b) == maxModels*modelBytes {
			continue
		}
		b = append(b, prefix...)
		b = append(b, packRate(m.One), packRate(m.Eight), packRate(m.Many), byte(max(0, min(m.Sequences, 255))))
	}
	return string(b)
}

// ModelRates decodes Models.
func (m Meta) ModelRates() []ModelRates {
	var out []ModelRates
	for b := []byte(m.Models); len(b) >= modelBytes; b = b[modelBytes:] {
		r := b[prefixBytes:modelBytes]
		out = append(out, ModelRates{digestKind + hex.EncodeToString(b[:prefixBytes]), unpackRate(r[0]), unpackRate(r[1]), unpackRate(r[2]), int(r[3])})
	}
	return out
}

// Rates are told in twelfths of an octave above least; 0 stands for not known.
const (
	least  = 1.0 / 64
	octave = 12
)

func packRate(v float64) byte {
	if !(v > 0) {
		return 0
	}
	return byte(1 + max(0, min(254, math.Round(octave*math.Log2(v/least)))))
}

func unpackRate(b byte) float64 {
	if b == 0 {
		return 0
	}
	return least * math.Exp2(float64(b-1)/octave)
}
