package kernels

import (
	"math"
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

func TestKV(t *testing.T) { eachImpl(t, testKV) }

func testKV(t *testing.T) {
	const heads, dim = 3, 20
	k, v := normals(21, 200*heads*dim), normals(22, 200*heads*dim)
	kv := NewKV(heads, dim)
	kv.Append(k, v, 130)
	if kv.Len() != 130 || kv.Bytes() != KVBytes(heads, dim, 130) || kv.Bytes() != 3*2*64*3*(20+32) {
		t.Errorf("Len %d, Bytes %d", kv.Len(), kv.Bytes())
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
	for _, c := range []struct{ n, length, pages int }{{500, 130, 3}, {128, 128, 2}, {70, 70, 2}, {-1, 0, 0}} {
		kv.Truncate(c.n)
		if kv.Len() != c.length || kv.Bytes() != KVBytes(heads, dim, 64*c.pages) {
			t.Errorf("Truncate(%d): Len %d, Bytes %d", c.n, kv.Len(), kv.Bytes())
		}
	}
}
