package kernels

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPanicInAPart: what a part panics with comes out of Do once, on whoever's part it was; the team goes on.
func TestPanicInAPart(t *testing.T) {
	w := NewWorkers(3)
	defer w.Close()
	for bad := range 8 {
		func() {
			defer func() {
				if p := recover(); p != "bad" {
					t.Errorf("part %d: Do panicked with %v", bad, p)
				}
			}()
			w.Do(8, func(part int) {
				if part == bad {
					panic("bad")
				}
			})
			t.Errorf("part %d: Do returned", bad)
		}()
		ran := make([]bool, 64)
		w.Do(len(ran), func(part int) { ran[part] = true })
		for part, ok := range ran {
			if !ok {
				t.Fatalf("after a panic part %d was not run", part)
			}
		}
	}
}

// TestMatMulOverALostFile: weights in a mapping whose file is cut short are a panic of MatMul in its caller, whichever member
// of the team meets them, and not the end of the process.
func TestMatMulOverALostFile(t *testing.T) {
	const rows, cols = 2048, 512
	eachImpl(t, func(t *testing.T) {
		for _, threads := range []int{1, 3} {
			w := NewWorkers(threads)
			m, done := lostFile(t, rows, cols)
			var acts Acts
			acts.Quantize(w, make([]float32, cols), 1, cols)
			for range 5 {
				fault := faultOf(func() { MatMul(w, [][]float32{make([]float32, rows)}, &acts, m) })
				if !strings.Contains(fault, "fault") && !strings.Contains(fault, "invalid memory address") {
					t.Errorf("%d threads: %q", threads, fault)
				}
			}
			runtime.GC()
			w.Close()
			done()
		}
	})
}

// lostFile maps a matrix of which all but the first 64 KiB are gone.
func lostFile(t *testing.T, rows, cols int) (m *Matrix, done func()) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	size, err := PackedSize(Q8_0, rows, cols)
	must(err)
	path := filepath.Join(t.TempDir(), "weights")
	must(os.WriteFile(path, make([]byte, size), 0o600))
	f, err := os.Open(path)
	must(err)
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	must(err)
	must(os.Truncate(path, 64<<10))
	m, err = NewMatrix(Q8_0, rows, cols, data)
	must(err)
	return m, func() { must(unix.Munmap(data)); must(f.Close()) }
}

// faultOf returns what f panics with.
func faultOf(f func()) (text string) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { text = fmt.Sprint(recover()) }()
	f()
	return ""
}
