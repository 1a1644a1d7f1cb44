package kernels

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugeBytes returns n bytes in huge pages, where the system has them: as a node holds its weights.
func hugeBytes(tb testing.TB, n int) []byte {
	tb.Helper()
	const huge = 2 << 20
	m, err := unix.Mmap(-1, 0, n+2*huge, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = unix.Munmap(m) })
	skip := huge - int(uintptr(unsafe.Pointer(&m[0]))%huge)
	_ = unix.Madvise(m[skip:skip+(n+huge-1)/huge*huge], unix.MADV_HUGEPAGE) // a wish: kernels without it are slower
	return m[skip : skip+n : skip+n]
}

// BenchmarkIdle is the processor time that a team of two takes in a second in which there is nothing to do, and in one in which a part is handed
// out each 10 ms.
func BenchmarkIdle(b *testing.B) {
	w := NewWorkers(2)
	defer w.Close()
	spent := func(f func()) float64 {
		from := processTime(b)
		f()
		return (processTime(b) - from).Seconds() * 100
	}
	var idle, few []float64
	for b.Loop() {
		w.Do(2, func(int) {})
		time.Sleep(10 * time.Millisecond)
		idle = append(idle, spent(func() { time.Sleep(time.Second) }))
		few = append(few, spent(func() {
			for range 100 {
				w.Do(2, func(int) {})
				time.Sleep(10 * time.Millisecond)
			}
		}))
	}
	b.ReportMetric(middle(idle), "%CPU-idle")
	b.ReportMetric(middle(few), "%CPU-100-calls/s")
	b.ReportMetric(0, "ns/op")
}

// processTime is the processor time that this program has taken.
func processTime(tb testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ownSession makes a program start in a session of its own.
func ownSession(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
