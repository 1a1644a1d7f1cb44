package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"lamina/cluster/internal/quiet"
)

// Config says who this node is and how it talks. It is copied by New.
type Config struct {
	// Name is the node's name, unique in the cluster.
	Name string
	// Advertise is the host:port at which peers reach this node; empty: what the transport is bound to.
	Advertise string
	// Key encrypts and authenticates: 16, 24 or 32 bytes for AES-GCM. Needed.
	Key []byte
	// ClusterID keeps clusters apart that can reach each other. At most 255 bytes.
	ClusterID string
	// Transport carries packets and streams, and is shut down by Leave and Close. Needed.
	Transport memberlist.Transport
	// Meta is what is told at first; SetMeta changes it.
	Meta Meta
	// Retry is about how often peers that were named to Join and are not here are tried again; 0 means 2 s.
	Retry time.Duration
	// Log takes memberlist's messages; nil discards them.
	Log *slog.Logger
}

// Peer is a node as this one sees it.
type Peer struct {
	ID   string
	Addr string // host:port for peers
	Meta
	Alive bool
	// Since is when Alive last changed here, LastContact when this node last heard of the peer directly.
	Since, LastContact time.Time
}

// Gossip takes part until Leave or Close. Safe for concurrent use.
type Gossip struct {
	cfg  Config
	list *memberlist.Memberlist
	addr string // of this node, as the others see it
	view view
	ctx  context.Context // ends the retry loop; not a request's
	stop context.CancelFunc
	wake chan struct{}
	wg   sync.WaitGroup
	once sync.Once
	err  error

	mu struct {
		sync.Mutex
		meta  Meta
		known []string // addresses that Join was told
	}
}

// New begins to talk. Alone at first: see Join.
func New(cfg Config) (*Gossip, error) {
	if cfg.Transport == nil || cfg.Name == "" {
		return nil, errors.New("gossip: name and transport are needed")
	}
	if n := len(cfg.Key); n != 16 && n != 24 && n != 32 {
		return nil, fmt.Errorf("gossip: key has %d bytes, use 16, 24 or 32", n)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Retry <= 0 {
		cfg.Retry = 2 * time.Second
	}
	g := &Gossip{cfg: cfg, wake: make(chan struct{}, 1)}
	g.mu.meta = cfg.Meta
	g.view.init(cfg.Name, cfg.Log)
	mc, err := g.memberlist()
	if err != nil {
		return nil, err
	}
	if g.list, err = memberlist.Create(mc); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	g.addr = g.list.LocalNode().Address() // later memberlist writes to what it points to, without a lock for readers
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.wg.Go(g.retry)
	return g, nil
}

// memberlist returns the library's settings: LAN defaults, tuned so that a join shows within half a second and
// a dead node within five in a cluster of up to about ten. DESIGN.md has the sum.
func (g *Gossip) memberlist() (*memberlist.Config, error) {
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.SecretKey, c.Transport = g.cfg.Name, g.cfg.ClusterID, g.cfg.Key, g.cfg.Transport
	if g.cfg.Advertise != "" {
		host, port, err := net.SplitHostPort(g.cfg.Advertise)
		if err != nil {
			return nil, fmt.Errorf("gossip: advertised address %q: %w", g.cfg.Advertise, err)
		}
		ip, err := lookup(context.Background(), host)
		if err != nil {
			return nil, fmt.Errorf("gossip: advertised address %q: %w", g.cfg.Advertise, err)
		}
		if net.ParseIP(ip).IsUnspecified() {
			return nil, fmt.Errorf("gossip: %s means every address of this machine; say at which one the other nodes reach it", g.cfg.Advertise)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("gossip: port of the advertised address %q: use 1 to 65535", g.cfg.Advertise)
		}
		c.AdvertiseAddr, c.AdvertisePort = ip, int(n)
	}
	c.ProbeInterval, c.ProbeTimeout = 500*time.Millisecond, 200*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 3, 2
	c.AwarenessMaxMultiplier = 3
	c.GossipInterval, c.GossipNodes = 100*time.Millisecond, 4
	c.PushPullInterval = 10 * time.Second
	c.TCPTimeout = 3 * time.Second
	c.DeadNodeReclaimTime = time.Second // a node may come back at another address
	c.EnableCompression = false         // packets are small, and decompressing is a risk
	c.Delegate, c.Events, c.Ping = delegate{g}, &g.view, &g.view
	c.Logger = log.New(logWriter{g.cfg.Log, quiet.New()}, "", 0)
	return c, nil
}

// Join names peers, one or more of which may be here, as host:port. They are tried at once and again, with
// jitter, whenever they are not among the living, until Leave; so a node that restarts, or a cluster that was
// parted, comes together again. Calls add to the list. It does not wait.
func (g *Gossip) Join(peers []string) {
	g.mu.Lock()
	for _, p := range peers {
		if !slices.Contains(g.mu.known, p) {
			g.mu.known = append(g.mu.known, p)
		}
	}
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Forget ends the search for a node that was removed from the cluster, and takes it out of Members if it is
// not alive.
func (g *Gossip) Forget(id, addr string) {
	g.view.forget(id)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.known = slices.DeleteFunc(g.mu.known, func(p string) bool { return p == addr })
}

// retry is the goroutine that joins; Close ends it.
func (g *Gossip) retry() {
	for {
		for _, addr := range g.missing() {
			if g.ctx.Err() != nil {
				return
			}
			g.contact(addr)
		}
		jitter := time.Duration(rand.Int64N(int64(g.cfg.Retry)))
		t := time.NewTimer(g.cfg.Retry/2 + jitter)
		select {
		case <-g.ctx.Done():
			t.Stop()
			return
		case <-g.wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// triesPerRound bounds how many addresses are tried in one round, so that many dead ones do not keep a living
// one waiting for long.
const triesPerRound = 5

// missing returns some of the known addresses at which nobody is alive, in random order.
func (g *Gossip) missing() []string {
	here := g.view.addrs()
	here[g.cfg.Advertise] = true
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for _, i := range rand.Perm(len(g.mu.known)) {
		if a := g.mu.known[i]; !here[a] && len(out) < triesPerRound {
			out = append(out, a)
		}
	}
	return out
}

// contact exchanges the full state with whoever answers at the address.
func (g *Gossip) contact(addr string) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		host, err = lookup(g.ctx, host)
	}
	if err != nil {
		g.cfg.Log.Warn("gossip: peer address cannot be used", "addr", addr, "err", err)
		return
	}
	resolved := net.JoinHostPort(host, port)
	if g.view.addrs()[resolved] || resolved == g.addr {
		return // a name of somebody who is here
	}
	if _, err := g.list.Join([]string{resolved}); err != nil {
		g.cfg.Log.Debug("gossip: no answer", "addr", addr, "err", err)
	}
}

// lookup turns a host into an IP address.
func lookup(ctx context.Context, host string) (string, error) {
	if net.ParseIP(host) != nil {
		return host, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return "", err
	}
	return ips[0], nil
}

// SetMeta changes what the others are told, if it differs, and does not wait until they are. They see it within
// about half a second.
func (g *Gossip) SetMeta(m Meta) {
	where, moved := g.view.where()
	m.Where = where
	g.mu.Lock()
	same := g.mu.meta == m
	g.mu.meta = m
	g.mu.Unlock()
	if same && !moved || g.ctx.Err() != nil {
		return
	}
	// The only error is that the news did not spread within the time given: none, for nobody waits for it.
	_ = g.list.UpdateNode(time.Nanosecond)
}

// Members returns the peers, this node among them, sorted by name. Those that died or left are among them, not
// alive, until they come back or are pushed out by more than a thousand others.
func (g *Gossip) Members() []Peer { return g.view.peers() }

// Watch sends the peers now and after each change, until ctx is done or the node leaves. A slow reader misses
// some, never the last. The slice is the reader's.
func (g *Gossip) Watch(ctx context.Context) <-chan []Peer { return g.view.watch(ctx) }

// Leave tells the others that this node goes on purpose, and closes. Later calls of Leave and Close do nothing.
func (g *Gossip) Leave() error { return g.end(true) }

// Close stops without a word: the others will find out. A probe of memberlist that is under way ends by itself
// within a second and a half.
func (g *Gossip) Close() error { return g.end(false) }

func (g *Gossip) end(polite bool) error {
	g.once.Do(func() {
		g.stop()
		g.wg.Wait()
		if polite {
			if err := g.list.Leave(time.Second); err != nil {
				g.cfg.Log.Debug("gossip: leaving unheard", "err", err) // they will find out
			}
		}
		g.err = g.list.Shutdown()
		g.view.close()
	})
	return g.err
}

// delegate hands the metadata to memberlist; the other ways to send something are not used.
type delegate struct{ g *Gossip }

var _ memberlist.Delegate = delegate{}

// NodeMeta implements memberlist.Delegate.
func (d delegate) NodeMeta(limit int) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	return d.g.mu.meta.encode(min(limit, MaxMeta))
}

// NotifyMsg implements memberlist.Delegate.
func (delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (delegate) MergeRemoteState([]byte, bool) {}
