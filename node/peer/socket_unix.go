//go:build unix

package peer

import (
	"io"
	"net"
	"os"
	"syscall"
)

// tcpRaw reads and writes a TCP socket by system calls of its own. They never wait in the kernel, for the socket does not block, so on
// Linux they are made without a word to Go's scheduler: the first call with a word that follows an idle moment wakes the runtime's
// monitor, which then looks around every 20 us for some milliseconds. On a node with one core that is a tenth of a step. One reader
// and one writer at a time.
type tcpRaw struct {
	conn   syscall.RawConn
	in     rawCall
	out    rawCall
	once   func(fd uintptr) bool // these are made once: they would be allocated for every call
	until  func(fd uintptr) bool
	readIn func(fd uintptr) bool
}

// rawCall is a system call and its result.
type rawCall struct {
	b   []byte
	n   int
	err syscall.Errno
}

// rawTCP returns nil for a connection that is no TCP socket.
func rawTCP(c net.Conn) rawConn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	conn, err := t.SyscallConn()
	if err != nil {
		return nil
	}
	r := &tcpRaw{conn: conn}
	r.readIn = func(fd uintptr) bool {
		r.in.n, r.in.err = sysRead(fd, r.in.b)
		return r.in.err != syscall.EAGAIN
	}
	r.once = func(fd uintptr) bool {
		r.out.n, r.out.err = sysWrite(fd, r.out.b)
		return true
	}
	r.until = func(fd uintptr) bool {
		for r.out.n < len(r.out.b) {
			n, err := sysWrite(fd, r.out.b[r.out.n:])
			r.out.n, r.out.err = r.out.n+n, err
			if err != 0 {
				return err != syscall.EAGAIN
			}
		}
		return true
	}
	return r
}

// Read is net.Conn's.
func (r *tcpRaw) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	r.in = rawCall{b: b}
	err := r.conn.Read(r.readIn)
	r.in.b = nil
	switch {
	case err != nil:
		return 0, err
	case r.in.err != 0:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", r.in.err)}
	case r.in.n == 0:
		return 0, io.EOF
	}
	return r.in.n, nil
}

// write writes all of b or, without waiting, what goes.
func (r *tcpRaw) write(b []byte, wait bool) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	call := r.once
	if wait {
		call = r.until
	}
	r.out = rawCall{b: b}
	err := r.conn.Write(call)
	r.out.b = nil
	if err == nil && r.out.err != 0 && r.out.err != syscall.EAGAIN {
		err = &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", r.out.err)}
	}
	return r.out.n, err
}
