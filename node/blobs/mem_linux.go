package blobs

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const canMap = true

// hugePage is the size of a huge page on amd64 and arm64 with 4 KiB pages.
const hugePage = 2 << 20

// allocate takes anonymous memory of n bytes, on huge pages as far as they fit inside. Weights in huge pages decode faster than from a
// file mapping; only whole pages inside the blob are asked for, so that nothing is wasted behind its end.
func allocate(n int) (*Data, error) {
	if n == 0 {
		return &Data{b: []byte{}, free: func() error { return nil }}, nil
	}
	total, skip := n, 0
	if n >= hugePage {
		total += hugePage // room to begin at a huge page's boundary; never touched, so it costs no memory
	}
	m, err := unix.Mmap(-1, 0, total, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, err
	}
	if n >= hugePage {
		if rest := int(uintptr(unsafe.Pointer(&m[0])) % hugePage); rest != 0 {
			skip = hugePage - rest
		}
		_ = unix.Madvise(m[skip:skip+n/hugePage*hugePage], unix.MADV_HUGEPAGE) // a wish; kernels without it are slower
	}
	return &Data{b: m[skip : skip+n : skip+n], free: func() error { return unix.Munmap(m) }}, nil
}

// protect makes memory read-only, so that a stray write is a fault where it happens and not a wrong token. b begins at a page.
func protect(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return unix.Mprotect(b, unix.PROT_READ)
}

func mapFile(f *os.File, n int) (*Data, error) {
	m, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map: %w", err)
	}
	_ = unix.Madvise(m, unix.MADV_WILLNEED) // a wish
	return &Data{b: m, mapped: true, free: func() error { return unix.Munmap(m) }}, nil
}

// freeSpace is what the file system of root has left for this user.
func freeSpace(root *os.Root) (int64, bool) {
	f, err := root.Open(".")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}

// forgetPages asks the kernel to drop what it holds of a file; pages that somebody has mapped stay.
func forgetPages(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
