package pipeline

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrCut is what the Memory network gives as the reason of a link that has been cut.
var ErrCut = errors.New("the link is cut")

// Memory is a network of Hosts in one process, for tests: every ordered pair of nodes has a link with a goroutine that
// delivers copies of the frames in order. Links can be cut, and a Hook can delay, drop and double frames. Close ends the
// goroutines.
type Memory struct {
	// Hook decides the fate of each frame before it is delivered; nil delivers all. Set it before the first Send; it is called from
	// the links' goroutines.
	Hook func(from, to string, f *Frame) Fate

	mu    sync.Mutex
	hosts map[string]*Host
	links map[[2]string]*memoryLink
	cut   map[[2]string]bool // both directions are entered
	ended chan struct{}
	wg    sync.WaitGroup
}

// Fate is what happens to a frame on its way. A delay holds up those behind it too.
type Fate struct {
	Drop, Twice bool
	Delay       time.Duration
}

// memoryLink is one direction between two nodes.
type memoryLink struct {
	m        *Memory
	from, to string
	pool     FramePool
	mu       sync.Mutex
	queue    []*Frame
	down     bool
	wake     chan struct{} // holds one token: the queue has grown or the link is down
}

// NewMemory returns a network without nodes.
func NewMemory() *Memory {
	return &Memory{
		hosts: make(map[string]*Host), links: make(map[[2]string]*memoryLink), cut: make(map[[2]string]bool),
		ended: make(chan struct{}),
	}
}

// Sender is node's side of the network, for its HostConfig.
func (m *Memory) Sender(node string) Sender { return memorySender{m, node} }

type memorySender struct {
	m    *Memory
	self string
}

// Send queues a copy of the frame.
func (s memorySender) Send(to string, f *Frame) error {
	l, err := s.m.link(s.self, to)
	if err != nil {
		return err
	}
	l.push(l.pool.Copy(f))
	return nil
}

// Attach lets frames for node arrive at h.
func (m *Memory) Attach(node string, h *Host) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hosts[node] = h
}

func (m *Memory) link(from, to string) (*memoryLink, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	pair := [2]string{from, to}
	if m.cut[pair] || m.hosts[to] == nil {
		return nil, fmt.Errorf("%w: %s to %s", ErrCut, from, to)
	}
	l := m.links[pair]
	if l == nil {
		l = &memoryLink{m: m, from: from, to: to, wake: make(chan struct{}, 1)}
		m.links[pair] = l
		m.wg.Go(l.run)
	}
	return l, nil
}

// Cut breaks the link of two nodes: what is on the way is lost, sends fail, and both are told that the other is down.
func (m *Memory) Cut(a, b string) {
	m.mu.Lock()
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		m.cut[pair] = true
		if l := m.links[pair]; l != nil {
			l.close()
			delete(m.links, pair)
		}
	}
	ha, hb := m.hosts[a], m.hosts[b]
	m.mu.Unlock()
	if ha != nil {
		ha.PeerDown(b, ErrCut)
	}
	if hb != nil {
		hb.PeerDown(a, ErrCut)
	}
}

// Heal lets two nodes reach each other again, over a new link.
func (m *Memory) Heal(a, b string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.cut, [2]string{a, b})
	delete(m.cut, [2]string{b, a})
}

// Kill takes a node off the network for good, as when its process dies; the others are told.
func (m *Memory) Kill(node string) {
	m.mu.Lock()
	delete(m.hosts, node)
	var others []string
	for n := range m.hosts {
		others = append(others, n)
	}
	m.mu.Unlock()
	for _, n := range others {
		m.Cut(node, n)
	}
}

// Close ends the links; frames on the way are lost. The Hosts are the caller's to close.
func (m *Memory) Close() {
	m.mu.Lock()
	for _, l := range m.links {
		l.close()
	}
	clear(m.links)
	clear(m.hosts)
	close(m.ended)
	m.mu.Unlock()
	m.wg.Wait()
}

func (l *memoryLink) push(f *Frame) {
	l.mu.Lock()
	l.queue = append(l.queue, f)
	l.mu.Unlock()
	l.signal()
}

func (l *memoryLink) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *memoryLink) close() {
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	l.signal()
}

// run delivers until the link is closed.
func (l *memoryLink) run() {
	var batch []*Frame
	for {
		l.mu.Lock()
		batch, l.queue = l.queue, batch[:0]
		down := l.down
		l.mu.Unlock()
		if down {
			return
		}
		for _, f := range batch {
			l.carry(f)
		}
		if len(batch) == 0 {
			<-l.wake
		}
	}
}

// carry delivers one frame as the hook wants it.
func (l *memoryLink) carry(f *Frame) {
	var fate Fate
	if l.m.Hook != nil {
		fate = l.m.Hook(l.from, l.to, f)
	}
	if fate.Delay > 0 {
		select {
		case <-time.After(fate.Delay):
		case <-l.m.ended:
		}
	}
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	l.m.mu.Lock()
	h := l.m.hosts[l.to]
	l.m.mu.Unlock()
	if fate.Drop || down || h == nil {
		f.Release()
		return
	}
	if fate.Twice {
		h.Deliver(l.from, l.pool.Copy(f))
	}
	h.Deliver(l.from, f)
}
