package gguf

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
)

// maxFile bounds the size of a file: far above any model, far below an overflow.
const maxFile = 1 << 44

// Open maps a file and parses it. Close it when its tensors are no longer needed. If the file may be
// changed by others meanwhile, touch its tensor data only inside Guard.
func Open(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	defer file.Close() // the mapping stays
	st, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, fmt.Errorf("%w: %s is not a regular file of a possible size", ErrFormat, path)
	}
	if st.Size() == 0 {
		return nil, fmt.Errorf("%w: %s is empty: fetch it again", ErrTruncated, path)
	}
	data, unmap, err := mapFile(file, st.Size())
	if err != nil {
		return nil, fmt.Errorf("gguf: mapping %s: %w", path, err)
	}
	var f *File
	err = Guard(func() (err error) {
		f, err = Parse(data)
		return err
	})
	if err != nil {
		unmap()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.unmap = unmap
	return f, nil
}

// Guard runs f and turns a memory fault in it into an error that wraps ErrTruncated. A mapped file that
// another program cuts short faults when it is read; without the guard that ends the process. It covers
// f's own goroutine only.
func Guard(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		r := recover()
		if r == nil {
			return
		}
		// The runtime's fault error is the only runtime.Error that carries an address.
		if _, ok := r.(interface {
			runtime.Error
			Addr() uintptr
		}); !ok {
			panic(r)
		}
		err = fmt.Errorf("%w: it was changed while it was read: do not write to a model in use", ErrTruncated)
	}()
	return f()
}
