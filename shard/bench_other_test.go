//go:build !linux

package shard_test

import "testing"

// hugeBytes returns n bytes in pages of the usual size.
func hugeBytes(_ testing.TB, n int) []byte { return make([]byte, n) }

// pin does nothing here.
func pin(int) {}
