package shard

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size of a huge page on amd64 and arm64 with 4 KiB pages.
const hugePage = 2 << 20

// area is anonymous memory, zero until it is written to.
type area struct {
	mem []byte
	raw []byte // the mapping
}

// mapArea maps n bytes, in huge pages where whole ones fit.
func mapArea(n int) (area, error) {
	total := n
	if n >= hugePage {
		total += hugePage // room to begin at a huge page's boundary; never touched, so it costs no memory
	}
	raw, err := unix.Mmap(-1, 0, total, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return area{}, err
	}
	skip := 0
	if n >= hugePage {
		if rest := int(uintptr(unsafe.Pointer(&raw[0])) % hugePage); rest != 0 {
			skip = hugePage - rest
		}
		_ = unix.Madvise(raw[skip:skip+n/hugePage*hugePage], unix.MADV_HUGEPAGE) // a wish
	}
	return area{mem: raw[skip : skip+n : skip+n], raw: raw}, nil
}

// giveBack empties the memory of bytes from to to-1, as far as it is whole pages. It reads as zero or as before.
func (a area) giveBack(from, to int) {
	page := os.Getpagesize()
	from, to = (from+page-1)/page*page, to/page*page // mem begins at a page
	if from < to {
		_ = unix.Madvise(a.mem[from:to], unix.MADV_DONTNEED) // what is not given back is used again
	}
}

func (a area) unmap() {
	_ = unix.Munmap(a.raw) // fails only for what was not mapped
}
