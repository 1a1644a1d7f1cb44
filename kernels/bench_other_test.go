//go:build !linux

package kernels

import "testing"

// hugeBytes returns n bytes in pages of the usual size.
func hugeBytes(_ testing.TB, n int) []byte { return make([]byte, n) }
