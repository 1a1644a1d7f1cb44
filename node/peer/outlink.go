package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"lamina/shard/pipeline"
)

// linkState says whether frames may be queued.
type linkState uint8

const (
	linkNew  linkState = iota // the first attempt is under way: frames wait for it
	linkUp                    // frames flow
	linkDown                  // the last attempt failed or the link broke: frames are refused
	linkGone                  // the goroutine has ended; another link takes over
)

// turn says who writes to the connection.
type turn uint8

const (
	turnNobody turn = iota
	turnSender      // a goroutine in Send, or the one that shows life
	turnPump        // the link's goroutine, or it is to take over
)

// directBytes is the most that a sender writes itself.
const directBytes = 256 << 10

// outLink is the link to one node. Its goroutine (run) connects, writes what senders do not write themselves, and connects again.
type outLink struct {
	l    *Links
	node string
	wake chan struct{} // frames wait
	now  chan struct{} // try to connect at once

	mu struct {
		sync.Mutex
		state   linkState
		changed chan struct{} // closed when the state changes
		revived bool          // the node has shown that it lives since the attempt to connect began
		err     error
		lanes   lanes
		live    *liveConn // while the link is up
		turn    turn
		spare   []byte // for lanes.takeSmall
		writing int    // bytes being written
		handed  bool   // the link's goroutine has taken the turn over
		quiet   bool   // nothing was written since the last look
		sent    uint64
		total   uint64
	}
}

func newOutLink(l *Links, node string) *outLink {
	o := &outLink{l: l, node: node, wake: make(chan struct{}, 1), now: make(chan struct{}, 1)}
	o.mu.changed = make(chan struct{})
	return o
}

// become changes the state; o.mu is held.
func (o *outLink) become(s linkState, err error) {
	o.mu.state, o.mu.err = s, err
	close(o.mu.changed)
	o.mu.changed = make(chan struct{})
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// kick ends the pause between attempts.
func (o *outLink) kick() { signal(o.now) }

// revive is called when the node has shown that it lives: frames are taken again, and wait for an attempt that begins now.
func (o *outLink) revive() {
	o.mu.Lock()
	o.mu.revived = true
	if o.mu.state == linkDown {
		o.become(linkNew, nil)
	}
	o.mu.Unlock()
	o.kick()
}

// again reports, once, whether the node has shown life since the failed attempt began: then that attempt says nothing.
func (o *outLink) again() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.mu.revived
	o.mu.revived = false
	return was
}

// await returns when the link is up, with the error that keeps it down, or when ctx ends.
func (o *outLink) await(ctx context.Context) error {
	for {
		o.mu.Lock()
		state, err, changed := o.mu.state, o.mu.err, o.mu.changed
		o.mu.Unlock()
		switch state {
		case linkUp:
			return nil
		case linkDown, linkGone:
			return fmt.Errorf("%w: node %s: %w", ErrLinkDown, o.node, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// send queues a frame. If nobody writes and the frame is small, the caller writes it, as far as that goes without waiting: no
// other goroutine has to be woken for a token. With more, another frame follows at once, and both go together.
func (o *outLink) send(f *pipeline.Frame, more bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.queue(f)
	if err == nil && more {
		return nil
	}
	if o.mu.turn == turnNobody && o.mu.lanes.count > 0 {
		if live := o.mu.live; live != nil && len(o.mu.lanes.large) == 0 && len(o.mu.lanes.small) <= directBytes {
			o.direct(live)
		} else {
			signal(o.wake)
		}
	}
	return err
}

// queue encodes a frame into its lane; o.mu is held.
func (o *outLink) queue(f *pipeline.Frame) error {
	cfg := &o.l.cfg
	switch o.mu.state {
	case linkDown, linkGone:
		return fmt.Errorf("%w: node %s: %w", ErrLinkDown, o.node, o.mu.err)
	}
	if o.mu.lanes.count >= cfg.QueueFrames {
		return o.mu.lanes.queueFull(o.node)
	}
	err := o.mu.lanes.add(f, cfg.QueueBytes-o.mu.lanes.size()-o.mu.writing)
	switch {
	case errors.Is(err, ErrQueueFull):
		return o.mu.lanes.queueFull(o.node)
	case err != nil:
		return fmt.Errorf("frame for node %s: %w", o.node, err)
	}
	o.mu.total++
	return nil
}

// direct writes the small frames from the caller's goroutine. o.mu is held, but not while it writes.
func (o *outLink) direct(live *liveConn) {
	buf := o.take(turnSender)
	o.mu.Unlock()
	done, err := live.write(buf, nil, false)
	if err != nil {
		live.sock.fail(err)
	}
	o.mu.Lock()
	if o.mu.live != live { // it broke meanwhile
		return
	}
	o.written(buf)
	o.mu.turn = turnNobody
	if !done || o.mu.lanes.count > 0 {
		o.mu.turn = turnPump
		signal(o.wake)
	}
}

// take gives the turn and returns the small frames; o.mu is held.
func (o *outLink) take(t turn) []byte {
	o.mu.turn, o.mu.quiet = t, false
	buf := o.mu.lanes.takeSmall(o.mu.spare)
	o.mu.spare = nil
	o.mu.writing = len(buf)
	return buf
}

// written accounts for what take returned; o.mu is held.
func (o *outLink) written(buf []byte) {
	o.mu.sent += uint64(o.mu.writing)
	o.mu.writing = 0
	if o.mu.spare = buf[:0]; cap(buf) > keepBuffer {
		o.mu.spare = nil
	}
}

func (o *outLink) describe() Link {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Link{Node: o.node, Up: o.mu.state == linkUp, Err: o.mu.err, Queued: o.mu.lanes.size() + o.mu.writing, Sent: o.mu.sent, Frames: o.mu.total}
}

// run keeps the link until the node has no address any more or the Links are closed.
func (o *outLink) run() {
	defer o.l.drop(o)
	pause := o.l.cfg.RetryMin
	for {
		began := time.Now()
		o.again() // what came before this attempt is answered by it
		conn, err := o.connect()
		if err != nil && o.again() && o.l.ctx.Err() == nil {
			continue
		}
		if err == nil {
			o.l.log.Info("link up", "node", o.node)
			err = o.pump(conn)
			if time.Since(began) > o.l.cfg.RetryMax { // it held for a while: begin with short pauses again
				pause = o.l.cfg.RetryMin
			}
		}
		gone := errors.Is(err, ErrUnknownNode) || o.l.ctx.Err() != nil
		o.down(err, gone)
		if gone || !o.wait(jitter(pause)) {
			o.down(ErrClosed, true)
			return
		}
		pause = min(2*pause, o.l.cfg.RetryMax)
	}
}

// jitter spreads the attempts of many nodes: three quarters to five quarters of d.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }

// wait pauses before the next attempt; false means that the Links are closed.
func (o *outLink) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-o.now:
	case <-o.l.ctx.Done():
		return false
	}
	return true
}

func (o *outLink) connect() (*liveConn, error) {
	addr, ok := o.l.cfg.Addr(o.node)
	if !ok {
		return nil, fmt.Errorf("node %s: %w", o.node, ErrUnknownNode)
	}
	ctx, cancel := context.WithTimeout(o.l.ctx, o.l.cfg.DialTimeout)
	defer cancel()
	conn, sock, err := o.l.mux.dial(ctx, ProtoStage, o.node, addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = greet(conn, o.l.mux.Node(), o.l.cfg.DialTimeout)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, dialError(o.node, addr, err)
	}
	sock.hold()
	tuneSocket(sock.Conn)
	return &liveConn{conn, sock}, nil
}

// down refuses frames from now on, drops those that wait, and tells PeerDown if any may have been lost.
func (o *outLink) down(err error, gone bool) {
	o.mu.Lock()
	was := o.mu.state
	tell := was == linkUp || was == linkNew && o.mu.lanes.count > 0
	if gone {
		o.become(linkGone, err)
	} else {
		o.become(linkDown, err)
	}
	o.mu.lanes, o.mu.live, o.mu.turn, o.mu.spare, o.mu.writing = lanes{}, nil, turnNobody, nil, 0 // ids die with the connection
	o.mu.Unlock()
	if was == linkUp || was == linkNew {
		o.l.log.Warn("link down", "node", o.node, "err", err)
	}
	if tell {
		o.l.peerDown(o.node, err)
		o.l.hangUp(o.node)
	}
}

// liveConn is the connection of a link that is up.
type liveConn struct {
	conn *Conn
	sock *socket
}

// write encrypts and writes, in one system call if there is room for it and it is no more than two quanta. Only the one whose turn
// it is may call it.
func (c *liveConn) write(small, part []byte, wait bool) (done bool, err error) {
	for _, b := range [...][]byte{small, part} {
		for len(b) > 0 {
			n := min(len(b), 2*quantum)
			if _, err := c.conn.Write(b[:n]); err != nil {
				return false, err
			}
			if b = b[n:]; len(b) > 0 {
				if _, err := c.sock.flush(wait); err != nil {
					return false, err
				}
			}
		}
	}
	return c.sock.flush(wait)
}

// pump writes what is queued until the connection breaks. It returns why.
func (o *outLink) pump(live *liveConn) error {
	stop := context.AfterFunc(o.l.ctx, func() { _ = live.conn.Close() })
	defer stop()
	heard := make(chan struct{})
	var listenErr error
	o.l.wg.Go(func() {
		defer close(heard)
		listenErr = listen(live.conn)
		_ = live.conn.Close()
	})
	o.mu.Lock()
	o.mu.live = live
	o.become(linkUp, nil)
	o.mu.Unlock()
	signal(o.wake)
	o.l.watch()
	err := o.write(live, heard)
	_ = live.conn.Close()
	<-heard
	if err == nil || !errors.Is(listenErr, net.ErrClosed) { // the listener knows better, unless it was our Close that ended it
		err = listenErr
	}
	return err
}

// listen reads the other side's signs of life, the only thing it may send.
func listen(conn *Conn) error {
	want := appendBeat(nil)
	got := make([]byte, len(want))
	for {
		if _, err := io.ReadFull(conn, got); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%w: the accepting side of a link sends more than signs of life", ErrProtocol)
		}
	}
}

// write returns nil when the listener has ended, else why writing ended.
func (o *outLink) write(live *liveConn, heard <-chan struct{}) error {
	for {
		small, part, mine := o.next()
		if !mine {
			select {
			case <-o.wake:
				continue
			case <-heard:
				return nil
			}
		}
		if _, err := live.write(small, part, true); err != nil {
			return err
		}
		o.mu.Lock()
		o.written(small)
		o.mu.lanes.donePart()
		o.mu.Unlock()
	}
}

// next gives the link's goroutine the turn if there is something to write: all of the first lane and a quantum of the second.
func (o *outLink) next() (small, part []byte, mine bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.mu.turn == turnSender: // it will hand over what it leaves
		return nil, nil, false
	case o.mu.lanes.count == 0 && (o.mu.turn == turnNobody || o.mu.handed):
		o.mu.turn, o.mu.handed = turnNobody, false
		return nil, nil, false
	}
	o.mu.handed = true
	small = o.take(turnPump)
	part = o.mu.lanes.takePart()
	o.mu.writing += len(part)
	return small, part, true
}

// up returns the connection, or nil.
func (o *outLink) up() *liveConn {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.live
}

// showLife sends a sign of life if nothing has been written since the last call.
func (o *outLink) showLife() {
	o.mu.Lock()
	defer o.mu.Unlock()
	live, quiet := o.mu.live, o.mu.quiet
	o.mu.quiet = true
	if live == nil || !quiet || o.mu.turn != turnNobody || o.mu.lanes.count > 0 {
		return
	}
	o.mu.lanes.small = appendBeat(o.mu.lanes.small)
	o.direct(live)
	o.mu.quiet = true
}
