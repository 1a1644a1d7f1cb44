package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"lamina/cluster"
	"lamina/cluster/consensus"
	"lamina/cluster/gossip"
	"lamina/cluster/plan"
	"lamina/kernels"
	"lamina/node/auth"
	"lamina/node/blobs"
	"lamina/node/infer"
	"lamina/node/peer"
	"lamina/node/server"
	"lamina/node/trace"
	"lamina/shard/pipeline"
)

// Node is one peer. New checks and wires; Start opens from the inside out; Close stops from the outside in and returns
// when every goroutine has ended. DESIGN.md lists the goroutines.
type Node struct {
	cfg         Config
	out         *slog.Logger
	network     peer.Network
	incarnation uint64
	budget      *budget

	id      *auth.Identity
	tracer  *trace.Tracer
	workers *kernels.Workers
	store   *blobs.Store
	mux     *peer.Mux
	links   *peer.Links
	raft    *peer.RaftLayer
	client  *http.Client
	log     *consensus.Log
	gossip  *gossip.Gossip
	host    *pipeline.Host
	prop    *proposer
	shadows *shadows
	source  *peerBlobs

	responses atomic.Pointer[http.Handler]
	keeper    *keeper
	lead      *leader
	catalog   *catalog
	routes    *routes
	service   *infer.Service
	server    *server.Server
	web       net.Listener
	rates     plan.Rates // as measured at the start
	layer     time.Duration
	meter     *meter

	stopping    atomic.Bool
	reappearing atomic.Bool
	run         context.Context // ends when the node closes; for its own goroutines only
	cancel      context.CancelFunc
	wg          sync.WaitGroup
	closers     []func() error // in the order of opening
	known       chan struct{}  // closed when the cluster knows this process
	once        sync.Once
	closeErr    error
}

// New checks the settings and returns a node that is not started.
func New(cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{cfg: cfg, out: slog.New(trace.LogHandler(cfg.Log.Handler())).With("node", cfg.Name), network: peer.TCP{}, incarnation: uint64(time.Now().UnixNano()), known: make(chan struct{})}
	if cfg.Network != nil {
		n.network = cfg.Network
	}
	n.run, n.cancel = context.WithCancel(context.Background())
	return n, nil
}

// Start opens the node and returns when it listens. ctx bounds the start only. On an error everything is closed again.
func (n *Node) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			_ = n.Close() // the error that stopped the start is the one to tell
		}
	}()
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"identity", n.openIdentity}, {"traces", n.openTracer}, {"compute", n.openCompute}, {"blob store", n.openStore},
		{"peer port", n.openPeers}, {"consensus", n.openConsensus}, {"gossip", n.openGossip}, {"stages", n.openStages}, {"API", n.openServer},
	}
	for _, s := range steps {
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	n.wg.Go(n.announce)
	n.wg.Go(n.follow)
	n.wg.Go(n.finishDrains)
	n.wg.Go(n.keepStandbys)
	n.wg.Go(n.scrub)
	n.wg.Go(func() { n.budget.rest(n.run) })
	n.wg.Go(n.probe)
	n.lead.start()
	n.onClose(func() error { n.lead.close(); return nil })
	return nil
}

// onClose puts a part on the stack of what Close closes, last first.
func (n *Node) onClose(f func() error) { n.closers = append(n.closers, f) }

// Close stops the node, from the outside in:
// the API refuses what is new and finishes what runs; the leader and the loops end; the stages stop; gossip leaves; consensus hands
// over and closes; the links and the peer port close; the blob store, the compute team and the traces are last.
func (n *Node) Close() error {
	n.once.Do(func() {
		n.stopping.Store(true)
		n.cancel()
		var errs []error
		for i := len(n.closers) - 1; i >= 0; i-- {
			if err := n.closers[i](); err != nil {
				errs = append(errs, err)
			}
		}
		n.wg.Wait()
		n.closeErr = errors.Join(errs...)
	})
	return n.closeErr
}

// Name of the node.
func (n *Node) Name() string { return n.cfg.Name }

// Addrs are the addresses that peers and clients reach the node at.
func (n *Node) Addrs() (peerAddr, httpAddr string) {
	return n.mux.Addr().String(), n.web.Addr().String()
}

// JoinString makes a join string for one more node, good for an hour.
func (n *Node) JoinString(ctx context.Context) (string, error) {
	r, err := admin{n}.CreateToken(ctx, time.Hour)
	return r.Join, err
}

// Service answers requests at this node, as its API does.
func (n *Node) Service() *infer.Service { return n.service }

// State is what the cluster has agreed on, as far as this node knows.
func (n *Node) State() cluster.State { return n.log.State() }

// Memory tells how many bytes the weights of loaded spans and the KV caches of running sequences take here.
func (n *Node) Memory() (weights, caches int64) { return n.budget.used() }

// Ready says why the node cannot serve, or nil.
func (n *Node) Ready() error { return n.ready() }

// Known is closed when the cluster has taken up this process.
func (n *Node) Known() <-chan struct{} { return n.known }

// announce tells the cluster that this process is here, and, on the first node, who the cluster is and whose key manages it.
func (n *Node) announce() {
	m := n.member()
	n.met()
	first := true
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := n.introduce(m)
		if err == nil {
			close(n.known)
			n.out.Info("the cluster knows this node", "cluster", n.id.Cluster())
			return
		}
		if n.run.Err() != nil {
			return
		}
		if first || wait >= 2*time.Second {
			n.out.Warn("the cluster does not know this node yet; trying again", "err", err)
			first = false
		}
		select {
		case <-n.run.Done():
			return
		case <-time.After(wait):
		}
	}
}

// met waits a moment for gossip to find somebody, so that a node is seen by the others when the cluster knows it.
func (n *Node) met() {
	if len(n.seeds()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(n.run, 2*time.Second)
	defer cancel()
	for peers := range n.gossip.Watch(ctx) {
		for _, p := range peers {
			if p.ID != n.cfg.Name && p.Alive {
				return
			}
		}
	}
}

func (n *Node) introduce(m cluster.Member) error {
	now := time.Now()
	set := cluster.Settings{ClusterID: n.id.Cluster(), CAPin: n.id.Pin()}
	if s := n.log.State().Settings; s.ClusterID == "" && len(n.id.Seeds()) == 0 {
		if err := n.prop.Propose(n.run, cluster.SetSettings{Settings: set, At: now}); err != nil {
			return err
		}
	}
	if err := n.prop.Propose(n.run, cluster.MemberUp{Member: m, At: now}); err != nil {
		return err
	}
	key, _, err := auth.AdminKey(n.cfg.Data)
	if err != nil {
		return err
	}
	return n.prop.Propose(n.run, cluster.AddKey{Key: cluster.Key{ID: key.ID, Hash: key.Hash(), Role: cluster.Admin, Note: "command line on node " + m.ID}, At: now})
}

// follow brings what the state and gossip say to the parts that live by it.
func (n *Node) follow() {
	states := n.log.Watch(n.run)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	var dead string
	for {
		select {
		case s, ok := <-states:
			if !ok {
				return
			}
			n.keeper.update(s)
			n.catalog.follow(s)
			n.routes.update(s, n.isDead)
		case <-sweep.C:
			n.sweep()
		case <-tick.C:
			n.raft.Recheck() // a server that was removed keeps no stream
			n.gossip.SetMeta(n.meta())
			n.reappear(n.log.State())
			if now := n.deadNames(); now != dead {
				dead = now
				n.routes.update(n.log.State(), n.isDead)
			}
		}
	}
}

// sweepEvery and sweepGrace say when parts of models that nobody names any more are removed from the disk. A client uploads
// parts before it names them, and a model that is removed and added again soon must not be fetched again.
const (
	sweepEvery = 10 * time.Minute
	sweepGrace = time.Hour
)

func (n *Node) sweep() {
	s := n.log.State()
	if m, ok := s.Member(n.cfg.Name); !ok || m.Incarnation != n.incarnation {
		return // this state is older than the process: models may be missing from it
	}
	named := map[string]bool{}
	for _, m := range s.Models {
		for _, b := range m.Blobs {
			named[b.Digest] = true
		}
	}
	files, bytes, err := n.store.GC(func(d blobs.Digest) bool { return named[d.String()] }, sweepGrace)
	if err != nil {
		n.out.Warn("blobs that are not needed could not all be removed", "err", err)
	}
	if files > 0 {
		n.out.Info("removed blobs that no model names", "files", files, "bytes", bytes)
	}
}

// reappear contradicts a cluster that took this process for lost: only the process itself can take that back. It is called by the
// clock only: a leader that does not see this node yet answers by declaring it lost again.
func (n *Node) reappear(s cluster.State) {
	m, ok := s.Member(n.cfg.Name)
	if !ok || m.Incarnation != n.incarnation || !m.Down || !n.reappearing.CompareAndSwap(false, true) {
		return
	}
	n.out.Warn("the cluster took this node for lost; it says that it is here")
	n.wg.Go(func() {
		defer n.reappearing.Store(false)
		if err := n.prop.Propose(n.run, cluster.MemberUp{Member: n.member(), At: time.Now()}); err != nil {
			n.out.Warn("the cluster does not hear it yet", "err", err) // the next change or tick tries again
		}
	})
}

func (n *Node) member() cluster.Member {
	return cluster.Member{ID: n.cfg.Name, Peer: n.cfg.Peer, HTTP: n.web.Addr().String(), Version: n.cfg.Version, Incarnation: n.incarnation}
}

// isDead reports whether gossip sees a node as gone. A node that gossip has never heard of is not: this node may be new.
func (n *Node) isDead(id cluster.NodeID) bool {
	for _, p := range n.gossip.Members() {
		if p.ID == id {
			return !p.Alive
		}
	}
	return false
}

func (n *Node) deadNames() (names string) {
	for _, p := range n.gossip.Members() {
		if !p.Alive {
			names += p.ID + " "
		}
	}
	return names
}

// meta is what this node tells others by gossip.
func (n *Node) meta() gossip.Meta {
	m := gossip.Meta{
		HTTP: n.cfg.HTTP, Version: n.cfg.Version, MemoryFree: n.budget.free(), MemoryTotal: n.budget.total,
		Speed: n.rates.One, Eight: n.rates.Eight, Many: n.rates.Many, LayerCost: n.layer,
	}
	if n.host != nil {
		m.Load = float64(n.host.Load().Sequences)
	}
	m.Models, m.Net = n.meter.report()
	return m
}

// address finds a node: in the agreed state, or, while this node is new, in gossip.
func (n *Node) address(id string) (string, bool) {
	if m, ok := n.log.State().Member(id); ok {
		return m.Peer, true
	}
	if n.gossip != nil {
		for _, p := range n.gossip.Members() {
			if p.ID == id {
				return p.Addr, true
			}
		}
	}
	return "", false
}

// others names the nodes that may be asked for something, living ones first.
func (n *Node) others() []cluster.NodeID {
	alive, rest := n.peers()
	return append(alive, rest...)
}

// alive names the nodes that live, this one among them.
func (n *Node) alive() []cluster.NodeID {
	others, _ := n.peers()
	return append(others, n.cfg.Name)
}

// peers names the other nodes: those that gossip sees alive, and the rest, which a node that has just started may not have met yet.
func (n *Node) peers() (alive, rest []cluster.NodeID) {
	known := map[cluster.NodeID]bool{n.cfg.Name: true}
	if n.gossip != nil {
		for _, p := range n.gossip.Members() {
			switch {
			case known[p.ID]:
			case p.Alive:
				alive = append(alive, p.ID)
			default:
				rest = append(rest, p.ID)
			}
			known[p.ID] = true
		}
	}
	for _, m := range n.log.State().Members {
		if !known[m.ID] {
			rest = append(rest, m.ID)
		}
	}
	return alive, rest
}
