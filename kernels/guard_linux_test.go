package kernels

import (
	"math/rand/v2"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guarded returns n elements that end where the process's memory ends: what reads past them crashes.
func guarded[T any](tb testing.TB, n int) []T {
	tb.Helper()
	var zero T
	page := os.Getpagesize()
	size := n * int(unsafe.Sizeof(zero))
	whole := (size + page - 1) / page * page
	m, err := unix.Mmap(-1, 0, whole+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = unix.Munmap(m) })
	if err := unix.Mprotect(m[whole:], unix.PROT_NONE); err != nil {
		tb.Fatal(err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&m[whole-size])), n)
}

// TestProductsInside multiplies one panel and one tile that end at forbidden memory, for every type and
// number of rows, with unpacked panels too.
func TestProductsInside(t *testing.T) {
	eachImpl(t, func(t *testing.T) {
		impl := active.quant()
		for _, typ := range allTypes {
			rng := rand.New(rand.NewPCG(6, uint64(typ)))
			for rows := 1; rows <= impl.tile; rows++ {
				productInside(t, rng, typ, rows, nil)
			}
			if impl.wide == nil || !formOf(typ).quantised() || !impl.wide.takes(formOf(typ)) {
				continue
			}
			least := impl.wide.rows / ((impl.wide.rows + impl.wide.tile - 1) / impl.wide.tile)
			for rows := least; rows <= impl.wide.tile; rows++ {
				productInside(t, rng, typ, rows, impl.wide)
			}
		}
	})
}

func productInside(t *testing.T, rng *rand.Rand, typ Type, rows int, wide *wideImpl) {
	t.Helper()
	f := formOf(typ)
	cols := 2 * max(32, f.block)
	m, _ := randomMatrix(t, rng, typ, panelRows, cols)
	x := guarded[float32](t, rows*cols)
	copy(x, randomActs(rng, len(x)))
	a := guardedTile(t, x, rows, cols)
	w := guarded[byte](t, len(m.Data))
	copy(w, m.Data)
	y := guarded[float32](t, rows*panelRows)
	if wide == nil {
		active.quant().panel(typ, w, a, y, panelRows)
	} else {
		dst := guarded[byte](t, cols/32*wide.bytes(f))
		wide.widen(typ, dst, w)
		if wide.pair != nil {
			wide.pair(a.q, rows, cols)
		}
		wide.panel(typ, dst, a, y, panelRows)
	}
	want := make([]float32, len(y))
	panelGeneric(typ, m.Data, emulatedTile(x, rows, cols), want, panelRows)
	if i := differ(y, want); i >= 0 {
		t.Errorf("%s, %d rows, unpacked %v: element %d is %v, want %v", typ, rows, wide != nil, i, y[i], want[i])
	}
}

// guardedTile quantises a tile as the level in use does.
func guardedTile(tb testing.TB, x []float32, rows, cols int) *tile {
	b := cols / 32
	a := &tile{rows: rows, cols: cols, x: x, q: guarded[int8](tb, rows*cols), f: guarded[float32](tb, 2*rows*b),
		n: guarded[int32](tb, rows*b), h: guarded[int32](tb, 2*rows*b)}
	for r := range rows {
		active.quant().quantize(x[r*cols:(r+1)*cols], a.q[32*r:], a.f[r:], a.n[r:], a.h[r:], rows)
	}
	return a
}

// TestAttentionInside does the same for tiles of attention whose page ends at forbidden memory.
func TestAttentionInside(t *testing.T) {
	eachImpl(t, func(t *testing.T) {
		for rows := 1; rows <= tileRows; rows++ {
			for _, dim := range []int{16, 48, 64, 80} {
				tile := new(attnTile)
				tile.setDim(dim)
				tile.rows = rows
				for r := range rows {
					tile.begin(r, make([]float32, dim), 1)
				}
				tile.scores(guarded[uint16](t, dim*pageLen))
				tile.weigh(0, rows, 0, pageLen)
				tile.mix(guarded[uint16](t, pageLen*dim), 0, rows, 0, pageLen)
				for r := range rows {
					if got := laneSum(&tile.sum[r]); got != pageLen {
						t.Errorf("%d rows of %d: weights add up to %v, want %d", rows, dim, got, pageLen)
					}
				}
			}
		}
	})
}
