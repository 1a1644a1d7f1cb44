package kernels

import (
	"math"
	"slices"
	"testing"
)

func TestToHalf(t *testing.T) {
	for h := range 1 << 16 {
		v := f16(uint16(h))
		if got := toHalf(v); got != uint16(h) && v == v {
			t.Fatalf("toHalf(%g) is %#x, want %#x", v, got, h)
		}
		next := f16(uint16(h + 1))
		if h&0x7fff >= 0x7bff || v != v {
			continue
		}
		mid := float32((float64(v) + float64(next)) / 2) // exact: a float16 has 13 bits fewer
		even := uint16(h + h&1)
		away := math.Nextafter32(mid, next)
		back := math.Nextafter32(mid, v)
		if toHalf(mid) != even || toHalf(away) != uint16(h+1) || toHalf(back) != uint16(h) {
			t.Fatalf("around %g: %#x %#x %#x, want %#x %#x %#x", mid, toHalf(back), toHalf(mid), toHalf(away), h, even, h+1)
		}
	}
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		v    float32
		want uint16
	}{{65519.996, 0x7bff}, {65520, 0x7c00}, {-1e30, 0xfc00}, {inf, 0x7c00}, {-inf, 0xfc00}, {1e-10, 0}, {-1e-45, 0x8000}} {
		if got := toHalf(c.v); got != c.want {
			t.Errorf("toHalf(%g) is %#x, want %#x", c.v, got, c.want)
		}
	}
	if h := toHalf(float32(math.NaN())); f16(h) == f16(h) {
		t.Errorf("toHalf(NaN) is %#x", h)
	}
}

// newKV is a cache of one layer with memory of its own for some positions, between two other layers.
func newKV(heads, dim, positions int) *KV {
	const layers, layer = 3, 1
	blocks := make(KVBlocks, (positions+pageLen-1)/pageLen)
	for i := range blocks {
		blocks[i] = make([]uint16, layers*KVBlockSize(heads, dim))
	}
	kv := NewKV(&blocks, layer, heads, dim)
	return &kv
}

func TestKV(t *testing.T) { eachImpl(t, testKV) }

func testKV(t *testing.T) {
	const heads, dim = 3, 20
	k, v := normals(21, 200*heads*dim), normals(22, 200*heads*dim)
	kv := newKV(heads, dim, 130)
	kv.Append(k, v, 130)
	if kv.Len() != 130 || KVBytes(heads, dim, 130) != 3*2*64*3*(20+32) {
		t.Errorf("Len %d, %d bytes", kv.Len(), KVBytes(heads, dim, 130))
	}
	for pos := range 130 {
		for h := range heads {
			keys, values := kv.page(pos/pageLen, h)
			for d := range dim {
				at := (pos*heads+h)*dim + d
				if got, want := keys[d*pageLen+pos%pageLen], toHalf(k[at]); got != want {
					t.Fatalf("key %d,%d,%d is %#x, want %#x", pos, h, d, got, want)
				}
				if got, want := values[pos%pageLen*32+d], toHalf(v[at]); got != want {
					t.Fatalf("value %d,%d,%d is %#x, want %#x", pos, h, d, got, want)
				}
			}
		}
	}
	size := KVBlockSize(heads, dim)
	for i, b := range *kv.blocks {
		if slices.Max(b[:size]) != 0 || slices.Max(b[2*size:]) != 0 {
			t.Errorf("block %d: another layer was written to", i)
		}
	}
}

// A sequence that takes over blocks of another goes on as if it had computed them.
func TestKVTakenOver(t *testing.T) { eachImpl(t, testKVTakenOver) }

func testKVTakenOver(t *testing.T) {
	w := NewWorkers(1)
	defer w.Close()
	c := newAttnCase(23, 4, 2, 16, 150)
	want := c.run(w, 150)
	first := newKV(2, 16, 150)
	first.Append(c.k, c.v, 150)
	blocks := append(slices.Clone((*first.blocks)[:2]), make([]uint16, len((*first.blocks)[0])))
	kv := NewKV(&blocks, 1, 2, 16)
	kv.SetLen(128)
	kv.Append(c.k[128*32:], c.v[128*32:], 22)
	out := make([]float32, 22*64)
	Attention(w, out, c.q[128*64:], []AttnSeq{{&kv, 128, 22}}, 4, 16, c.scale())
	sameBits(t, "after 128 positions of another", out, want[128*64:])
}
