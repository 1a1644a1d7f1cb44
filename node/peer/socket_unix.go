//go:build unix

package peer

import (
	"errors"
	"net"
	"syscall"
)

// tcpTry writes to a TCP socket without waiting for room. Not safe for concurrent use.
type tcpTry struct {
	raw   syscall.RawConn
	write func(fd uintptr) bool // made once: it would be allocated for every write
	b     []byte
	n     int
	err   error
}

// tryTCP returns nil for a connection that is no TCP socket.
func tryTCP(c net.Conn) tryWriter {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return nil
	}
	w := &tcpTry{raw: raw}
	w.write = w.once
	return w
}

func (w *tcpTry) once(fd uintptr) bool {
	for {
		w.n, w.err = syscall.Write(int(fd), w.b)
		if w.err != syscall.EINTR {
			return true
		}
	}
}

// TryWrite implements tryWriter.
func (w *tcpTry) TryWrite(b []byte) (int, error) {
	w.b, w.n, w.err = b, 0, nil
	err := w.raw.Write(w.write)
	w.b = nil
	if err == nil && !errors.Is(w.err, syscall.EAGAIN) {
		err = w.err
	}
	return max(w.n, 0), err
}
