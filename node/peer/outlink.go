package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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

// keepBuffer is how much of an emptied queue's memory is kept.
const keepBuffer = 1 << 20

// outLink is the link to one node. Its goroutine (run) connects, writes, and connects again.
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
		pending []byte // encoded frames
		frames  int    // in pending
		writing int    // bytes being written
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

func (o *outLink) send(f *pipeline.Frame) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	cfg := &o.l.cfg
	switch o.mu.state {
	case linkDown, linkGone:
		return fmt.Errorf("%w: node %s: %w", ErrLinkDown, o.node, o.mu.err)
	}
	if o.mu.frames >= cfg.QueueFrames {
		return fmt.Errorf("%w: %d frames wait for node %s", ErrQueueFull, o.mu.frames, o.node)
	}
	before := len(o.mu.pending)
	b, err := AppendFrame(o.mu.pending, f)
	if err != nil {
		return fmt.Errorf("frame for node %s: %w", o.node, err)
	}
	if before > 0 && len(b)+o.mu.writing > cfg.QueueBytes { // one frame always goes
		o.mu.pending = b[:before]
		return fmt.Errorf("%w: %d bytes wait for node %s", ErrQueueFull, before+o.mu.writing, o.node)
	}
	o.mu.pending = b
	o.mu.frames++
	o.mu.total++
	signal(o.wake)
	return nil
}

func (o *outLink) describe() Link {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Link{Node: o.node, Up: o.mu.state == linkUp, Err: o.mu.err, Queued: len(o.mu.pending) + o.mu.writing, Sent: o.mu.sent, Frames: o.mu.total}
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

func (o *outLink) connect() (*Conn, error) {
	addr, ok := o.l.cfg.Addr(o.node)
	if !ok {
		return nil, fmt.Errorf("node %s: %w", o.node, ErrUnknownNode)
	}
	ctx, cancel := context.WithTimeout(o.l.ctx, o.l.cfg.DialTimeout)
	defer cancel()
	conn, err := o.l.mux.Dial(ctx, ProtoStage, o.node, addr)
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
	return conn, nil
}

// down refuses frames from now on, drops those that wait, and tells PeerDown if any may have been lost.
func (o *outLink) down(err error, gone bool) {
	o.mu.Lock()
	was := o.mu.state
	tell := was == linkUp || was == linkNew && o.mu.frames > 0
	if gone {
		o.become(linkGone, err)
	} else {
		o.become(linkDown, err)
	}
	o.mu.pending, o.mu.frames, o.mu.writing = nil, 0, 0
	o.mu.Unlock()
	if was == linkUp || was == linkNew {
		o.l.log.Warn("link down", "node", o.node, "err", err)
	}
	if tell {
		o.l.peerDown(o.node, err)
		o.l.hangUp(o.node)
	}
}

// pump writes what is queued, and heartbeats when there is nothing, until the connection breaks. It returns why.
func (o *outLink) pump(conn *Conn) error {
	stop := context.AfterFunc(o.l.ctx, func() { _ = conn.Close() })
	defer stop()
	heard := make(chan struct{})
	var listenErr error
	o.l.wg.Go(func() {
		defer close(heard)
		listenErr = o.listen(conn)
		_ = conn.Close()
	})
	o.mu.Lock()
	o.become(linkUp, nil)
	o.mu.Unlock()
	err := o.write(conn, heard)
	_ = conn.Close()
	<-heard
	if err == nil || !errors.Is(listenErr, net.ErrClosed) { // the listener knows better, unless it was our Close that ended it
		err = listenErr
	}
	return err
}

// listen reads the other side's signs of life, the only thing it may send.
func (o *outLink) listen(conn *Conn) error {
	r := NewFrameReader(bufio.NewReaderSize(silenceReader{conn, o.l.cfg.Silence}, 4*FrameHeader), 1)
	for {
		switch f, err := r.Read(); {
		case err != nil:
			return err
		case f != nil:
			return fmt.Errorf("%w: the accepting side of a link sends frames", ErrProtocol)
		}
	}
}

// write returns nil when the listener has ended, else why writing ended.
func (o *outLink) write(conn *Conn, heard <-chan struct{}) error {
	tick := time.NewTicker(o.l.cfg.Heartbeat)
	defer tick.Stop()
	var spare []byte
	busy := false // something was written since the last tick
	for {
		buf := o.take(spare)
		if len(buf) == 0 {
			select {
			case <-o.wake:
				continue
			case <-heard:
				return nil
			case <-tick.C:
				if busy {
					busy = false
					continue
				}
				buf = AppendBeat(buf)
			}
		} else {
			busy = true
		}
		if _, err := conn.Write(buf); err != nil {
			return err
		}
		spare = o.written(buf)
	}
}

// take returns what waits, to be written, and leaves the spare buffer for what comes meanwhile. If nothing waits it returns the spare, empty.
func (o *outLink) take(spare []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.mu.pending) == 0 {
		return spare
	}
	b := o.mu.pending
	o.mu.pending, o.mu.frames, o.mu.writing = spare, 0, len(b)
	return b
}

// written counts, and returns the buffer to be the next spare.
func (o *outLink) written(b []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.writing = 0
	o.mu.sent += uint64(len(b))
	if cap(b) > keepBuffer {
		return nil
	}
	return b[:0]
}
