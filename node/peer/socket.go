package peer

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// rawConn is what a socket needs of a connection. A write that does not wait may write less than len(b).
type rawConn interface {
	Read(b []byte) (n int, err error)
	write(b []byte, wait bool) (n int, err error)
}

// socket is the connection under the TLS of a stream. On a stage link what TLS writes is held until it is flushed, so that
// frames that go together leave in one system call, and a flush need not wait for the other side. It knows since when its
// reader has been waiting.
type socket struct {
	net.Conn
	raw  rawConn
	fast bool // the raw connection is in use; set by hold, before the reader of the link begins
	born time.Time

	waiting atomic.Int64 // since when a Read has been waiting, after born; 0: none is
	cause   atomic.Pointer[error]

	looked int64         // at the last look,
	spell  int64         // what was waited for since when,
	silent time.Duration // and for how long while somebody looked
	ended  time.Duration // the longest silence since the last call of over that has ended

	mu struct {
		sync.Mutex
		hold bool
		buf  []byte // held
	}
	out   []byte // being flushed; out and spare belong to whoever flushes
	spare []byte
}

func newSocket(c net.Conn) *socket {
	s := &socket{Conn: c, born: time.Now()}
	var ok bool
	if s.raw, ok = c.(rawConn); ok {
		return s
	}
	if s.raw = rawTCP(c); s.raw == nil {
		s.raw = waits{c}
	}
	return s
}

// waits stands in where a connection can do no better: its writes may wait.
type waits struct{ net.Conn }

func (w waits) write(b []byte, _ bool) (int, error) { return w.Write(b) }

// clock is a time that is never 0.
func (s *socket) clock() int64 { return int64(time.Since(s.born)) + 1 }

// Read implements net.Conn.
func (s *socket) Read(b []byte) (int, error) {
	s.waiting.Store(s.clock())
	var n int
	var err error
	if s.fast {
		n, err = s.raw.Read(b)
	} else {
		n, err = s.Conn.Read(b)
	}
	s.waiting.Store(0)
	if err != nil {
		if c := s.cause.Load(); c != nil {
			err = *c
		}
	}
	return n, err
}

// look is called now and then, after at most so long, and returns for how long the reader has been waiting while somebody looked.
// A process that was stopped or starved was not looking: what came meanwhile is not read yet. Called by one goroutine.
func (s *socket) look(most time.Duration) time.Duration {
	at, now := s.waiting.Load(), s.clock()
	since := min(time.Duration(now-s.looked), most)
	s.looked = now
	if at != s.spell {
		s.ended = max(s.ended, s.silent)
	}
	switch {
	case at == 0:
		s.silent = 0
	case at != s.spell:
		s.silent = min(time.Duration(now-at), since)
	default:
		s.silent += since
	}
	s.spell = at
	return s.silent
}

// over returns the longest silence that ended since the last call. Called by the goroutine that looks.
func (s *socket) over() time.Duration {
	d := s.ended
	s.ended = 0
	return d
}

// fail ends the connection for a reason, which the reader is told.
func (s *socket) fail(err error) {
	s.cause.CompareAndSwap(nil, &err)
	_ = s.Close()
}

// hold makes writes wait for a flush from now on. The reader of the link must not have begun.
func (s *socket) hold() {
	s.fast = true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.hold = true
}

// Write implements net.Conn.
func (s *socket) Write(b []byte) (int, error) {
	s.mu.Lock()
	if !s.mu.hold {
		s.mu.Unlock()
		return s.Conn.Write(b)
	}
	defer s.mu.Unlock()
	s.mu.buf = append(s.mu.buf, b...)
	return len(b), nil
}

// flush writes what is held, or as much as goes without waiting, and tells whether that was all. One goroutine at a time.
func (s *socket) flush(wait bool) (done bool, err error) {
	for {
		if len(s.out) == 0 {
			s.mu.Lock()
			if len(s.mu.buf) == 0 {
				s.mu.Unlock()
				return true, nil
			}
			s.out, s.mu.buf = s.mu.buf, s.spare[:0]
			s.mu.Unlock()
			if s.spare = s.out[:0]; cap(s.out) > keepBuffer {
				s.spare = nil
			}
		}
		var n int
		n, err = s.raw.write(s.out, wait)
		s.out = s.out[n:]
		if err != nil || len(s.out) > 0 {
			return false, err
		}
	}
}
