//go:build !linux

package kernels

import (
	"runtime"
	"time"
)

// usableCores counts the CPUs that this process may use.
func usableCores() int { return runtime.NumCPU() }

// runDelay returns nothing: how long a thread has been kept from running is not known here.
func runDelay() (thread int, sum time.Duration) { return 0, 0 }
