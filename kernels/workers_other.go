//go:build !linux

package kernels

import "runtime"

// yieldThread gives the processor to another goroutine; giving it to another program is left to the
// system.
func yieldThread() { runtime.Gosched() }

// usableCores counts the CPUs that this process may use.
func usableCores() int { return runtime.NumCPU() }
