package kernels

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"testing"
)

// exactly returns n values in [-scale, scale) that are the same on every CPU: integers over a power of two.
func exactly(seed uint32, n int, scale float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		seed = seed*1664525 + 1013904223
		x[i] = float32(int32(seed)>>8) * 0x1p-23 * scale
	}
	return x
}

func bitsOf(x []float32) uint64 {
	h := fnv.New64a()
	var b [4]byte
	for _, v := range x {
		binary.LittleEndian.PutUint32(b[:], math.Float32bits(v))
		h.Write(b[:])
	}
	return h.Sum64()
}

// The bits of every operation are written down here, so that a CPU, a compiler or a change that makes others is found
// even if it changes all implementations alike. A change of these numbers is a change of what every model answers: nodes
// of the old and the new version must not share one.
func TestVectorBits(t *testing.T) {
	want := map[string]uint64{
		"RMSNorm":     0xa96d32c6d99b5451,
		"SiluMul":     0x1a92422d0dc3eb67,
		"Softmax":     0x8e8591f42399af82,
		"LogSumExp":   0x79ffebe104996c6e,
		"Interleaved": 0x9279f2d5c117040a,
		"Halves":      0xb6df0051f0cbcd9a,
		"Llama3":      0xb9a571258d3c03c5,
		"Yarn":        0xf8f84951032d6a3b,
		"Attention":   0xac45ca46a3bba8d3,
	}
	eachImpl(t, func(t *testing.T) {
		w := NewWorkers(2)
		defer w.Close()
		for name, got := range vectorBits(w) {
			if bitsOf(got) != want[name] {
				t.Errorf("%s: bits %#x, want %#x", name, bitsOf(got), want[name])
			}
		}
	})
}

func vectorBits(w *Workers) map[string][]float32 {
	const n = 3 * 333
	x, y := exactly(1, n, 12), exactly(2, n, 3)
	out := map[string][]float32{}
	fresh := func(name string) []float32 {
		out[name] = append([]float32(nil), x...)
		return out[name]
	}
	RMSNorm(fresh("RMSNorm"), x, y, 3, n/3, 1e-5)
	SiluMul(fresh("SiluMul"), x, y)
	Softmax(fresh("Softmax"))
	out["LogSumExp"] = []float32{LogSumExp(x), LogSumExp(y)}
	for name, style := range map[string]RopeStyle{"Interleaved": Interleaved, "Halves": Halves} {
		r := fresh(name)
		table := NewRopeTable(46, 1e6, RopeScaling{})
		for pos := range 9 {
			table.Apply(r[pos*100:], 2, 50, pos*pos*pos*pos*31, style)
		}
	}
	for name, s := range map[string]RopeScaling{
		"Llama3": {Kind: RopeLlama3, Factor: 32, Original: 8192, Low: 1, High: 4}, "Yarn": {Kind: RopeYarn, Factor: 4, Original: 32768},
	} {
		NewRopeTable(128, 500000, s).Apply(fresh(name), 3, 128, 12345, Halves)
	}
	const heads, kvHeads, dim, positions = 6, 2, 40, 75
	q, kv := exactly(3, positions*heads*dim, 2), newKV(kvHeads, dim, positions)
	kv.Append(exactly(4, positions*kvHeads*dim, 2), exactly(5, positions*kvHeads*dim, 2), positions)
	out["Attention"] = make([]float32, len(q))
	Attention(w, out["Attention"], q, []AttnSeq{{kv, 0, positions}}, heads, dim, 0.15811388)
	return out
}
