package peer

import (
	"syscall"
	"unsafe"
)

// sysRead and sysWrite are system calls on a socket that does not block; b is not empty. See tcpRaw.
func sysRead(fd uintptr, b []byte) (int, syscall.Errno) { return sysCall(syscall.SYS_READ, fd, b) }

func sysWrite(fd uintptr, b []byte) (int, syscall.Errno) { return sysCall(syscall.SYS_WRITE, fd, b) }

func sysCall(call, fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, err := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch err {
		case 0:
			return int(n), 0
		case syscall.EINTR:
			continue
		}
		return 0, err
	}
}
