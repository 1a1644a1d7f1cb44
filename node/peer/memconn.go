package peer

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// halfBuffer is how many bytes a direction of a connection holds before writers wait.
const halfBuffer = 256 << 10

// half is one direction of a connection in a Memory.
type half struct {
	net      *Memory
	from, to string

	mu       sync.Mutex
	cond     *sync.Cond
	segments []segment
	size     int
	eof      bool // the writing side was closed
	readErr  error
	writeErr error
	read     deadline
	write    deadline
}

// segment is what one Write brought, and when it arrives.
type segment struct {
	data []byte
	at   time.Time
}

func newHalf(m *Memory, from, to string) *half {
	h := &half{net: m, from: from, to: to}
	h.cond = sync.NewCond(&h.mu)
	h.read.half, h.write.half = h, h
	return h
}

func (h *half) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cond.Broadcast()
}

// failRead ends reading at once; what was on its way is lost.
func (h *half) failRead(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readErr == nil {
		h.readErr = err
	}
	h.segments, h.size = nil, 0
	h.cond.Broadcast()
}

// failWrite ends writing at once.
func (h *half) failWrite(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writeErr == nil {
		h.writeErr = err
	}
	h.cond.Broadcast()
}

func (h *half) closeWrite() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.eof = true
	h.cond.Broadcast()
}

func (h *half) readInto(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.readErr != nil:
			return 0, h.readErr
		case h.read.over():
			return 0, os.ErrDeadlineExceeded
		case h.net.isCut(h.from, h.to):
		case len(h.segments) > 0 && !h.segments[0].at.After(time.Now()):
			return h.takeInto(b), nil
		case len(h.segments) == 0 && h.eof:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (h *half) takeInto(b []byte) int {
	s := &h.segments[0]
	n := copy(b, s.data)
	s.data = s.data[n:]
	h.size -= n
	if len(s.data) == 0 {
		h.segments = h.segments[1:]
	}
	h.cond.Broadcast()
	return n
}

func (h *half) writeFrom(b []byte, wait bool) (n int, err error) {
	delay := h.net.latency()
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.writeErr != nil:
			return n, h.writeErr
		case h.eof:
			return n, errClosedPipe
		case h.write.over():
			return n, os.ErrDeadlineExceeded
		case len(b) == 0:
			return n, nil
		}
		room := halfBuffer - h.size
		if room <= 0 && !wait {
			return n, nil
		}
		if room <= 0 {
			h.cond.Wait()
			continue
		}
		part := b[:min(room, len(b))]
		b = b[len(part):]
		n += len(part)
		h.size += len(part)
		h.segments = append(h.segments, segment{append([]byte(nil), part...), time.Now().Add(delay)})
		if delay > 0 {
			time.AfterFunc(delay, h.wakeAll)
		}
		h.cond.Broadcast()
	}
}

func (m *Memory) latency() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.delay
}

// deadline wakes those who wait in a half when it is over.
type deadline struct {
	half  *half
	at    time.Time
	timer *time.Timer
}

func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) set(at time.Time) {
	d.half.mu.Lock()
	defer d.half.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = at
	if !at.IsZero() {
		d.timer = time.AfterFunc(time.Until(at), d.half.wakeAll)
	}
	d.half.cond.Broadcast()
}

// memConn is one end of a connection in a Memory.
type memConn struct {
	net           *Memory
	local, remote string
	la, ra        netip.AddrPort
	in, out       *half
}

var _ net.Conn = (*memConn)(nil)

func (c *memConn) Read(b []byte) (int, error)  { return c.in.readInto(b) }
func (c *memConn) Write(b []byte) (int, error) { return c.out.writeFrom(b, true) }

// write implements rawConn.
func (c *memConn) write(b []byte, wait bool) (int, error) { return c.out.writeFrom(b, wait) }

func (c *memConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.la) }
func (c *memConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.ra) }

// Close ends this side: the other one reads what is on its way and then EOF; its writes fail.
func (c *memConn) Close() error {
	c.forget()
	c.out.closeWrite()
	c.in.failRead(net.ErrClosed)
	if !c.net.isCut(c.local, c.remote) {
		c.in.failWrite(errClosedPipe)
	}
	c.stopTimers()
	return nil
}

// kill is the end of a process: both directions fail at once, at the other side only if the news can get there.
func (c *memConn) kill() {
	c.forget()
	c.stopTimers()
	c.in.failRead(errReset)
	c.out.failWrite(errReset)
	if !c.net.isCut(c.local, c.remote) {
		c.out.failRead(errReset)
		c.in.failWrite(errReset)
	}
}

func (c *memConn) forget() {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	delete(c.net.mu.conns, c)
}

func (c *memConn) stopTimers() {
	c.in.read.set(time.Time{})
	c.out.write.set(time.Time{})
}

func (c *memConn) SetDeadline(t time.Time) error {
	c.in.read.set(t)
	c.out.write.set(t)
	return nil
}

func (c *memConn) SetReadDeadline(t time.Time) error  { c.in.read.set(t); return nil }
func (c *memConn) SetWriteDeadline(t time.Time) error { c.out.write.set(t); return nil }
