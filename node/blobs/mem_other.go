//go:build !linux

package blobs

import (
	"errors"
	"os"
)

// Elsewhere than on Linux blobs are read into ordinary memory, and a full disk shows when it is full.
const canMap = false

func allocate(n int) (*Data, error) {
	return &Data{b: make([]byte, n), free: func() error { return nil }}, nil
}

func protect([]byte) error { return nil }

func mapFile(*os.File, int) (*Data, error) { return nil, errors.ErrUnsupported }

func freeSpace(*os.Root) (int64, bool) { return 0, false }

// forgetPages does nothing where it cannot be asked for: then what memory holds is checked.
func forgetPages(*os.File) {}
