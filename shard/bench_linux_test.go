package shard_test

import (
	"runtime"
	"testing"
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

// pin keeps the goroutine on a core; its thread ends with it.
func pin(core int) {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(core)
	_ = unix.SchedSetaffinity(0, &set) // without it the figures only mean less
}
