package peer

import "bufio"

// inLink is the link that a node has made to this one.
type inLink struct {
	conn *Conn
	sock *socket
	live bool          // the hello is answered; guarded by Links.mu
	done chan struct{} // closed after the last Deliver and PeerDown of this link
}

// serve runs an inbound stage link.
func (l *Links) serve(c *Conn) {
	defer c.Close()
	version, err := receiveHello(c, l.mux.Node(), l.mux.cfg.HandshakeTimeout)
	if err != nil {
		l.log.Warn("stage link refused", "node", c.Node, "err", err)
		return
	}
	in := &inLink{conn: c, sock: c.NetConn().(*socket), done: make(chan struct{})}
	if !l.enter(in) {
		return
	}
	defer l.wg.Done()
	// Before the other side may use the link: whatever cannot be sent to it from now on ends the link.
	l.revive(c.Node)
	if err = answerHello(c, version); err == nil {
		err = l.live(in)
	}
	_ = c.Close()
	l.peerDown(c.Node, err)
	l.leave(in)
}

// live receives until the link breaks, and returns why.
func (l *Links) live(in *inLink) error {
	in.sock.hold()
	l.mu.Lock()
	in.live = true
	l.mu.Unlock()
	l.watch()
	return l.receive(in.conn)
}

// enter makes in the node's inbound link. An older one, which may be half open, is closed first and has told PeerDown by then. False means that the
// Links are closed.
func (l *Links) enter(in *inLink) bool {
	for {
		l.mu.Lock()
		old := l.mu.in[in.conn.Node]
		if l.mu.closed {
			l.mu.Unlock()
			return false
		}
		if old == nil {
			l.mu.in[in.conn.Node] = in
			l.wg.Add(1)
			l.mu.Unlock()
			return true
		}
		l.mu.Unlock()
		l.log.Warn("link replaced", "node", in.conn.Node, "err", errReplaced)
		_ = old.conn.Close()
		<-old.done
	}
}

func (l *Links) leave(in *inLink) {
	l.mu.Lock()
	delete(l.mu.in, in.conn.Node)
	l.mu.Unlock()
	close(in.done)
}

// revive opens our own link to a node again when the node has just shown that it lives.
func (l *Links) revive(node string) {
	l.mu.Lock()
	o := l.mu.out[node]
	l.mu.Unlock()
	if o != nil {
		o.revive()
	}
}

// showLife tells the dialling side that this one lives. What does not go without waiting goes with the next one.
func (in *inLink) showLife() {
	if len(in.sock.out) == 0 {
		if _, err := in.conn.Write(appendBeat(nil)); err != nil {
			in.sock.fail(err)
			return
		}
	}
	if _, err := in.sock.flush(false); err != nil {
		in.sock.fail(err)
	}
}

// receive delivers frames until the link breaks or brings something that is none.
func (l *Links) receive(c *Conn) error {
	r := NewFrameReader(bufio.NewReaderSize(c, 64<<10), l.cfg.MaxPayload)
	defer r.Close()
	for {
		f, err := r.Read()
		if err != nil {
			return err
		}
		if f != nil { // else a sign of life
			l.cfg.Deliver(c.Node, f)
		}
	}
}
