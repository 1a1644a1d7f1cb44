package peer

import (
	"net"

	"golang.org/x/sys/unix"
)

// unsentBytes is how much the kernel holds of a link before it has been sent: what comes after cannot overtake it.
const unsentBytes = 64 << 10

// tuneSocket bounds what waits in the kernel where nothing can overtake it. A system that refuses keeps its default.
func tuneSocket(c net.Conn) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentBytes)
	})
}
