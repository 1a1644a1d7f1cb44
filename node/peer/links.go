package peer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"lamina/shard/pipeline"
)

// LinksConfig says how stage links behave. Zero durations and sizes stand for the defaults.
type LinksConfig struct {
	// Addr finds where a node is. A link to a node that has no address is given up.
	Addr func(node string) (addr string, ok bool)
	// Deliver takes a frame from another node; the frame belongs to it. It is called in the order of sending, from one goroutine
	// per node, and holds up that node's frames while it runs.
	Deliver func(from string, f *pipeline.Frame)
	// PeerDown tells that frames to or from a node may have been lost. It is called once for each link that broke or could
	// not be made while frames waited, after the last Deliver of a broken link and before the first of the next.
	PeerDown func(node string, err error)
	// MaxPayload bounds the frames that are taken, in bytes. Default DefaultMaxPayload.
	MaxPayload int

	// Busy tells whether a sequence needs the node just now; it is asked only when the node has been silent for a while. Nil: always.
	Busy func(node string) bool
	// Heartbeat is how often a link is heard of that has nothing to say. Default 100 ms.
	Heartbeat time.Duration
	// Suspicion is how long a link may bring nothing before it is down while the node is needed: this, or twice the longest silence
	// that was no death of late, up to Silence. Default 300 ms.
	Suspicion time.Duration
	// Silence is how long it may bring nothing while the node is not needed. Default 1 s.
	Silence time.Duration
	// DialTimeout bounds an attempt to connect, with TLS and hello. Default 2 s.
	DialTimeout time.Duration
	// RetryMin and RetryMax bound the pause between attempts, which doubles. Default 100 ms and 2 s.
	RetryMin, RetryMax time.Duration
	// QueueBytes and QueueFrames bound what waits for a node. Default 64 MiB and 8192.
	QueueBytes, QueueFrames int
}

func (c LinksConfig) withDefaults() LinksConfig {
	def := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.Heartbeat, 100*time.Millisecond)
	def(&c.Suspicion, 300*time.Millisecond)
	def(&c.Silence, max(time.Second, c.Suspicion))
	def(&c.DialTimeout, 2*time.Second)
	def(&c.RetryMin, 100*time.Millisecond)
	def(&c.RetryMax, 2*time.Second)
	if c.QueueBytes <= 0 {
		c.QueueBytes = 64 << 20
	}
	if c.QueueFrames <= 0 {
		c.QueueFrames = 8192
	}
	return c
}

// Links are the stage links of a node. Each direction between two nodes has a connection of its own, made by the side
// that sends, so a frame never meets one that comes the other way and there is no tie to break. It is a pipeline.Sender.
type Links struct {
	mux    *Mux
	cfg    LinksConfig
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	some   chan struct{} // there may be links to watch

	mu struct {
		sync.Mutex
		out    map[string]*outLink
		in     map[string]*inLink
		closed bool
	}
}

var (
	_ pipeline.Sender   = (*Links)(nil)
	_ pipeline.Gatherer = (*Links)(nil)
)

// NewLinks registers the stage protocol.
func NewLinks(m *Mux, cfg LinksConfig) *Links {
	l := &Links{mux: m, cfg: cfg.withDefaults(), log: m.cfg.Log, some: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.mu.out = map[string]*outLink{}
	l.mu.in = map[string]*inLink{}
	l.wg.Go(l.keep)
	m.Handle(ProtoStage, l.serve)
	m.onClose(func() { _ = l.Close() })
	return l
}

// Send implements pipeline.Sender: it copies the frame into the queue of the node's link, which is made if there is none yet, and
// writes it if nobody else is writing. It never waits for the network. Errors wrap ErrLinkDown (no link just now), ErrQueueFull or ErrClosed; the
// node's link to this one then ends too, so that it does not wait for what this one cannot send.
func (l *Links) Send(to string, f *pipeline.Frame) error { return l.send(to, f, false) }

// SendMore implements pipeline.Gatherer.
func (l *Links) SendMore(to string, f *pipeline.Frame) error { return l.send(to, f, true) }

func (l *Links) send(to string, f *pipeline.Frame, more bool) error {
	o, err := l.link(to)
	if err != nil {
		return err
	}
	if err = o.send(f, more); errors.Is(err, ErrLinkDown) || errors.Is(err, ErrQueueFull) {
		l.hangUp(to)
	}
	return err
}

// Await makes links to the nodes and returns when all are up: what a node cannot send here from then on, it tells by
// ending that link. An error is of the first that is not to be had; it wraps ErrLinkDown or is ctx's.
func (l *Links) Await(ctx context.Context, nodes ...string) (node string, err error) {
	links := make([]*outLink, len(nodes))
	for i, n := range nodes {
		if links[i], err = l.link(n); err != nil {
			return n, err
		}
	}
	for i, o := range links {
		if err := o.await(ctx); err != nil {
			o.kick()
			return nodes[i], err
		}
	}
	return "", nil
}

// Connect makes links to nodes ahead of the first frame, and tries again at once where the last attempt failed.
func (l *Links) Connect(nodes ...string) {
	for _, n := range nodes {
		if o, err := l.link(n); err == nil {
			o.kick()
		}
	}
}

func (l *Links) link(node string) (*outLink, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return nil, ErrClosed
	}
	o := l.mu.out[node]
	if o == nil {
		o = newOutLink(l, node)
		l.mu.out[node] = o
		l.wg.Go(o.run)
	}
	return o, nil
}

// drop forgets an outgoing link whose goroutine ends.
func (l *Links) drop(o *outLink) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.out[o.node] == o {
		delete(l.mu.out, o.node)
	}
}

// hangUp ends the link that a node has made to this one. A link in one direction alone would leave the node waiting for
// answers that cannot be sent.
func (l *Links) hangUp(node string) {
	l.mu.Lock()
	in := l.mu.in[node]
	l.mu.Unlock()
	if in != nil {
		_ = in.conn.Close()
	}
}

// peerDown tells the owner, unless the links are being closed.
func (l *Links) peerDown(node string, err error) {
	if l.ctx.Err() == nil {
		l.cfg.PeerDown(node, err)
	}
}

// Link describes the outgoing link to a node.
type Link struct {
	Node   string
	Up     bool
	Err    error // why it is down
	Queued int   // bytes that wait
	Sent   uint64
	Frames uint64
}

// Links returns the outgoing links, in no order.
func (l *Links) Links() []Link {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Link, 0, len(l.mu.out))
	for _, o := range l.mu.out {
		out = append(out, o.describe())
	}
	return out
}

// Close closes all links and waits for their goroutines. PeerDown is not called for it.
func (l *Links) Close() error {
	l.cancel()
	l.mu.Lock()
	l.mu.closed = true
	for _, in := range l.mu.in {
		_ = in.conn.Close()
	}
	l.mu.Unlock()
	l.wg.Wait()
	return nil
}

// errReplaced is why a link ends when its node makes a new one.
var errReplaced = errors.New("the node has made a new link")
