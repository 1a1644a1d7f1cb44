package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"lamina/cluster"
	"lamina/cluster/consensus"
	"lamina/cluster/gossip"
	"lamina/kernels"
	"lamina/node/auth"
	"lamina/node/blobs"
	"lamina/node/infer"
	"lamina/node/peer"
	"lamina/node/server"
	"lamina/node/trace"
	"lamina/shard/pipeline"
)

// openIdentity loads who this node is; a new node joins by its join string, or makes a cluster of its own.
func (n *Node) openIdentity(ctx context.Context) (err error) {
	if n.cfg.Join == "" {
		n.id, err = auth.Open(n.cfg.Data, n.cfg.Name)
		if errors.Is(err, auth.ErrNoIdentity) {
			n.id, err = auth.Init(n.cfg.Data, n.cfg.Name)
		}
	} else {
		var join auth.JoinString
		if join, err = auth.ParseJoinString(n.cfg.Join); err != nil {
			return err
		}
		n.id, err = auth.Rejoin(n.cfg.Data, n.cfg.Name, join)
		if errors.Is(err, auth.ErrNoIdentity) {
			n.id, err = peer.Join(ctx, n.network, n.cfg.Data, n.cfg.Name, join)
		}
	}
	if err != nil {
		return err
	}
	n.wg.Go(func() { n.id.KeepFresh(n.run, n.out) })
	return nil
}

func (n *Node) openTracer(ctx context.Context) (err error) {
	n.tracer, err = trace.New(ctx, trace.Config{Endpoint: n.cfg.OTLP, Node: n.cfg.Name, Version: n.cfg.Version, Log: n.out})
	if err == nil {
		n.onClose(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if err := n.tracer.Close(ctx); err != nil {
				n.out.Warn("traces", "err", err) // a collector that is away is no failure of the node
			}
			return nil
		})
	}
	return err
}

func (n *Node) openCompute(context.Context) error {
	n.workers = kernels.NewWorkers(n.cfg.Threads)
	n.onClose(func() error { n.workers.Close(); return nil })
	tuneRuntime(n.workers.N())
	n.budget = newBudget(memoryLimit(n.cfg.Memory))
	n.meter = newMeter()
	n.rates, n.layer = measureSpeed(n.workers)
	n.out.Info("compute", "kernels", kernels.Impl(), "threads", n.workers.N(), "memory", n.budget.total, "speed", n.rates.One)
	return nil
}

func (n *Node) openStore(context.Context) (err error) {
	if n.store, err = blobs.Open(filepath.Join(n.cfg.Data, "blobs"), blobs.Config{Log: n.out}); err != nil {
		return err
	}
	n.onClose(n.store.Close)
	n.wg.Go(func() { warmUp(n.run, n.cfg.Data, n.store) })
	return nil
}

// openPeers binds the peer port and registers what comes over it. Nothing is accepted before openConsensus has something to answer with.
func (n *Node) openPeers(context.Context) (err error) {
	if n.mux, err = peer.Bind(peer.Config{Identity: n.id, Network: n.network, Addr: n.cfg.Peer, Log: n.out}); err != nil {
		return fmt.Errorf("%w; is another node or program using it? --peer gives another", err)
	}
	n.onClose(n.mux.Close)
	n.links = peer.NewLinks(n.mux, peer.LinksConfig{
		Addr:     n.address,
		Deliver:  func(from string, f *pipeline.Frame) { n.host.Deliver(from, f) },
		PeerDown: func(node string, err error) { n.host.PeerDown(node, err) },
		Busy:     func(node string) bool { return n.host.Needs(node) },
	})
	n.onClose(n.links.Close)
	events := n.tracer.Events()
	events.Panicked = func(at pipeline.StageInfo, value any, stack []byte) {
		n.out.Error("a step panicked; the sequences of the stage have failed", "model", at.Model, "stage", at.Index, "panic", value, "stack", string(stack))
	}
	n.host = pipeline.NewHost(pipeline.HostConfig{Self: n.cfg.Name, Send: n.links, Events: events})
	n.onClose(n.host.Close)
	n.client = n.mux.HTTPClient(n.address)
	return nil
}

func (n *Node) openConsensus(context.Context) (err error) {
	n.raft = n.mux.Raft(peer.RaftConfig{Member: n.mayVote})
	n.log, err = consensus.Open(consensus.Config{ID: n.cfg.Name, Dir: filepath.Join(n.cfg.Data, "raft"), Transport: n.raft, Log: n.out})
	if err != nil {
		return err
	}
	n.onClose(n.closeConsensus)
	if len(n.id.Seeds()) == 0 {
		if err := n.log.Bootstrap(n.cfg.Peer); err != nil {
			return err
		}
	}
	n.prop = &proposer{self: n.cfg.Name, log: n.log, client: n.client, others: n.others}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+proposePath, n.prop.servePropose)
	mux.Handle("/blobs/", n.store.Handler())
	n.shadows = &shadows{self: n.cfg.Name, store: server.NewRecords(), client: n.client, others: n.peers, out: n.out}
	mux.Handle(recordsPath, n.shadows)
	mux.HandleFunc("/v1/responses/", n.peerResponses)
	mux.HandleFunc("GET "+probePath, serveProbe)
	n.mux.HandleHTTP(mux)
	n.mux.HandleJoin(n.admit)
	return nil
}

// closeConsensus hands leadership over, so that the others need no election, and closes the log.
func (n *Node) closeConsensus() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := n.log.StepDown(ctx); err != nil {
		n.out.Debug("nobody takes over the lead", "err", err)
	}
	return n.log.Close()
}

// mayVote says whether a node's raft connection is taken: it must be a server of the configuration; a node that has
// none yet lets in whoever the cluster's certificate names.
func (n *Node) mayVote(node string) bool {
	servers := n.log.Configuration()
	for _, s := range servers {
		if s.ID == node {
			return true
		}
	}
	return len(servers) == 0
}

// openGossip begins to talk: the port is served from here on.
func (n *Node) openGossip(context.Context) (err error) {
	transport := n.mux.Gossip()
	n.mux.Serve()
	n.gossip, err = gossip.New(gossip.Config{
		Name: n.cfg.Name, Advertise: n.cfg.Peer, Key: n.id.GossipKey(), ClusterID: n.id.Cluster(), Transport: transport, Log: n.out,
		Meta: n.meta(),
	})
	if err != nil {
		return err
	}
	n.onClose(n.gossip.Leave)
	n.gossip.Join(n.seeds())
	return nil
}

// seeds are addresses to begin with: what the join answer named, and who was here when this node last ran.
func (n *Node) seeds() []string {
	out := n.id.Seeds()
	for _, m := range n.log.State().Members {
		if m.ID != n.cfg.Name {
			out = append(out, m.Peer)
		}
	}
	return out
}

func (n *Node) openStages(context.Context) error {
	src := &peerBlobs{store: n.store, client: n.client, others: n.others, self: n.cfg.Name, meter: n.meter, out: n.out}
	n.source = src
	n.keeper = newKeeper(n.cfg.Name, n.incarnation, n.host, src, n.prop.Propose, n.workers, n.budget, n.meter, n.out)
	n.keeper.dir = n.cfg.Data
	n.onClose(func() error { n.keeper.close(); return nil })
	n.catalog = newCatalog(n.log.State, n.behind, src)
	n.onClose(func() error { n.catalog.wait(); return nil })
	n.routes = newRoutes(routeSeed(n.id.Cluster()), n.log.State)
	n.service = infer.New(infer.Config{Catalog: n.catalog, Router: n.routes, Driver: driver{n.host, n.links, n.cfg.Name}, Tracer: n.tracer, Log: n.out})
	n.lead = &leader{self: n.cfg.Name, log: n.log, members: n.gossip.Members, dead: n.cfg.DeadAfter, drain: n.cfg.DrainAfter, out: n.out}
	return nil
}

func (n *Node) openServer(context.Context) (err error) {
	if n.web, err = n.listenWeb(); err != nil {
		return fmt.Errorf("%w; is another node or program using it? --http gives another", err)
	}
	addr := n.web.Addr().String()
	n.server, err = server.New(server.Config{
		Service: n.service, Admin: admin{n}, Blobs: admin{n}, Keys: admin{n}, Ready: n.ready, Behind: n.behind, Registry: registry(), Records: n.shadows, Peer: n.shadows.ask,
		Addr: addr, RequireKeys: !server.Loopback(addr), Wrap: n.tracer.Handler, Log: n.out,
	})
	if err != nil {
		_ = n.web.Close()
		return err
	}
	peers := n.server.PeerHandler()
	n.responses.Store(&peers)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.server.Serve(n.web); err != nil && !errors.Is(err, http.ErrServerClosed) {
			n.out.Error("the API has stopped", "err", err)
		}
	}()
	n.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), n.cfg.StopAfter)
		defer cancel()
		err := n.server.Shutdown(ctx)
		<-done
		return err
	})
	return nil
}

// registry is of the process itself: goroutines, memory, CPU, open files.
func registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})) // into an empty one: cannot clash
	return r
}

// listenWeb opens the API's port: on the operating system's network, or on the one that the settings give.
func (n *Node) listenWeb() (net.Listener, error) {
	if n.cfg.Network == nil {
		return net.Listen("tcp", n.cfg.HTTP)
	}
	ln, packets, err := n.network.Listen(n.cfg.HTTP)
	if err == nil {
		err = packets.Close()
	}
	return ln, err
}

// admit lets a new node into the cluster: the token is spent before anything is signed.
func (n *Node) admit(ctx context.Context, r auth.JoinRequest) (auth.JoinResponse, error) {
	if err := n.id.Check(r); err != nil {
		return auth.JoinResponse{}, err
	}
	if m, taken := n.log.State().Member(r.Name); taken {
		return auth.JoinResponse{}, &peer.JoinError{Kind: peer.RefusedName, Text: fmt.Sprintf("the cluster has a node %s at %s; choose another --name, or start that node with its own data folder", m.ID, m.Peer)}
	}
	err := n.prop.Propose(ctx, cluster.UseToken{Hash: auth.HashSecret(r.Token), Node: r.Name, At: time.Now()})
	switch {
	case errors.Is(err, cluster.ErrToken):
		return auth.JoinResponse{}, &peer.JoinError{Kind: peer.RefusedToken, Text: err.Error()}
	case errors.Is(err, server.ErrNoQuorum):
		return auth.JoinResponse{}, &peer.JoinError{Kind: peer.RefusedUnavailable, Text: err.Error()}
	case err != nil:
		return auth.JoinResponse{}, err
	}
	seeds := []string{n.cfg.Peer}
	for _, m := range n.log.State().Members {
		if m.ID != n.cfg.Name && len(seeds) < 8 {
			seeds = append(seeds, m.Peer)
		}
	}
	return n.id.Admit(r, seeds)
}
