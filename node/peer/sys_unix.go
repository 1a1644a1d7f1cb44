//go:build unix && !linux

package peer

import (
	"errors"
	"syscall"
)

// sysRead and sysWrite are system calls on a socket that does not block; b is not empty.
func sysRead(fd uintptr, b []byte) (int, syscall.Errno) { return sysCall(syscall.Read, fd, b) }

func sysWrite(fd uintptr, b []byte) (int, syscall.Errno) { return sysCall(syscall.Write, fd, b) }

func sysCall(call func(int, []byte) (int, error), fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, err := call(int(fd), b)
		var errno syscall.Errno
		switch {
		case err == nil:
			return n, 0
		case errors.As(err, &errno) && errno != syscall.EINTR:
			return 0, errno
		case errno == 0:
			return 0, syscall.EIO
		}
	}
}
