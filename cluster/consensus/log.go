package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lamina/cluster"
)

// Config says where a log lives and how it talks. It is copied by Open.
type Config struct {
	// ID is the node's name.
	ID cluster.NodeID
	// Dir holds the log (raft.db) and the snapshots (snapshots/). It is made if it is not there.
	Dir string
	// Transport carries the connections of raft's peers; the Log closes it. Its Addr must be the address that
	// the peers dial, for followers learn the leader's from it. Whoever supplies it must make sure that the
	// other side is a server of this cluster's configuration: raft itself trusts every byte.
	Transport raft.StreamLayer
	// Log takes raft's messages; nil discards them.
	Log *slog.Logger
	// Heartbeat is how long a follower hears nothing before it asks for an election, and how long a leader
	// leads without hearing from a quorum; Election how long a candidate waits for votes. 0 means 500 ms:
	// shorter fails over sooner and elects falsely on busy cores.
	Heartbeat, Election time.Duration
	// SnapshotEvery is the number of entries after which a snapshot is written and older entries are
	// dropped; 0 means 1024. SnapshotCheck is how often that is looked at; 0 means a minute.
	SnapshotEvery uint64
	SnapshotCheck time.Duration
	// NoSync leaves out the fsync after each write. For tests: what was agreed may be lost with the machine.
	NoSync bool
}

// Errors of Propose, Barrier and the membership calls, besides NotLeader and what State.Apply refused.
var (
	// ErrClosed: the log was closed, or this node was removed from the cluster. A command under way then may
	// or may not be agreed on.
	ErrClosed = errors.New("consensus log is closed")
	// ErrUncertain: leadership was lost on the way; the command may or may not be agreed on. Look at the
	// state, then propose again at the new leader.
	ErrUncertain = errors.New("leadership was lost, the command may or may not have been agreed on")
	// ErrBusy: the leader did not take the command in time. Nothing was agreed on.
	ErrBusy = errors.New("the leader is busy")
)

// NotLeader says that only the leader can do this. Leader and Addr are empty while none is elected.
type NotLeader struct {
	Leader cluster.NodeID
	Addr   string
}

// Error implements error.
func (e *NotLeader) Error() string {
	if e.Leader == "" {
		return "no leader is elected; a majority of the voters must be reachable"
	}
	return "not the leader, ask " + e.Leader
}

// Log is the replicated log at this peer. Safe for concurrent use.
type Log struct {
	cfg       Config
	raft      *raft.Raft
	fsm       *fsm
	store     *store
	transport *raft.NetworkTransport
	leaders   hub[Leadership]
	observer  *raft.Observer
	done      chan struct{}
	wg        sync.WaitGroup // watchLeader
	once      sync.Once
	closeErr  error
}

// Open reads the log and joins the conversation of its peers. A new log knows no servers and waits until
// Bootstrap is called or a leader adds this node.
func Open(cfg Config) (_ *Log, err error) {
	if err := cluster.CheckNodeID(cfg.ID); err != nil {
		return nil, err
	}
	if cfg.Transport == nil || cfg.Dir == "" {
		return nil, errors.New("consensus: transport and directory are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var undo closers
	defer func() {
		if err != nil {
			_ = undo.close()
		}
	}()
	logger := newLogger(cfg.Log)
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	st, err := openStore(filepath.Join(cfg.Dir, "raft.db"), cfg.NoSync)
	if err != nil {
		return nil, err
	}
	undo.add(st)
	snaps, err := raft.NewFileSnapshotStoreWithLogger(cfg.Dir, 2, logger)
	if err != nil {
		return nil, fmt.Errorf("consensus: snapshots in %s: %w", cfg.Dir, err)
	}
	cache, err := raft.NewLogCache(256, st)
	if err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger: logger, Stream: newTracked(cfg.Transport), MaxPool: 3, Timeout: 5 * time.Second,
	})
	undo.add(trans)
	l := &Log{cfg: cfg, fsm: newFSM(cfg.Log), store: st, transport: trans, done: make(chan struct{})}
	l.raft, err = raft.NewRaft(cfg.raft(logger), l.fsm, cache, st, snaps, trans)
	if err != nil {
		return nil, fmt.Errorf("consensus: open the log in %s: %w", cfg.Dir, err)
	}
	l.observe()
	return l, nil
}

// raft returns the library's configuration.
func (c Config) raft(logger *logger) *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(c.ID)
	r.Logger = logger
	r.HeartbeatTimeout = or(c.Heartbeat, 500*time.Millisecond)
	r.ElectionTimeout = or(c.Election, 500*time.Millisecond)
	r.LeaderLeaseTimeout = r.HeartbeatTimeout
	r.SnapshotThreshold = or(c.SnapshotEvery, 1024)
	r.SnapshotInterval = or(c.SnapshotCheck, time.Minute)
	r.TrailingLogs = r.SnapshotThreshold / 2
	r.NoLegacyTelemetry = true
	return r
}

// or returns v, or the default where v is zero.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Close stops this peer: raft and its connections, then the store, and returns when that is done.
// What was proposed and not answered gets ErrClosed or ErrUncertain. Watch channels are closed.
func (l *Log) Close() error {
	l.once.Do(func() {
		stopped := l.raft.Shutdown()
		closed := l.transport.Close() // or raft would wait for the answers of peers that give none
		err := stopped.Error()
		close(l.done)
		l.wg.Wait()
		l.fsm.hub.close()
		l.leaders.close()
		l.closeErr = errors.Join(err, closed, l.store.Close())
	})
	return l.closeErr
}

// State returns the state as applied at this peer; a follower may be a moment behind.
func (l *Log) State() cluster.State { return l.fsm.state() }

// Watch sends the present state and then the latest after each change, until ctx is done or the log is
// closed; then the channel is closed. States come in order; a slow reader misses some, never the last.
func (l *Log) Watch(ctx context.Context) <-chan cluster.State { return l.fsm.hub.watch(ctx) }

// Propose adds a command to the log and returns its index once it is applied here. Errors: *NotLeader, what
// Validate or Apply refused (sentinels of package cluster; the state is unchanged), ErrUncertain, ErrBusy,
// ErrClosed, or ctx's error, after which the command may still be agreed on.
func (l *Log) Propose(ctx context.Context, c cluster.Command) (uint64, error) {
	data, err := cluster.EncodeCommand(c)
	if err != nil {
		return 0, err
	}
	if !l.IsLeader() {
		return 0, l.notLeader()
	}
	f := l.raft.Apply(data, wait(ctx))
	if err := l.await(ctx, f); err != nil {
		return 0, err
	}
	if refused, ok := f.Response().(error); ok {
		return f.Index(), refused
	}
	return f.Index(), nil
}

// Barrier returns when everything that was agreed on before is applied here. Leader only.
func (l *Log) Barrier(ctx context.Context) error {
	return l.await(ctx, l.raft.Barrier(wait(ctx)))
}

// await waits for a future of raft, for ctx or for Close, and translates the error.
func (l *Log) await(ctx context.Context, f raft.Future) error {
	result := make(chan error, 1)
	// Ends with the future, at shutdown at the latest. Close does not wait for it: raft leaves a future that
	// sits in its queue to the state machine at that moment without an answer.
	go func() { result <- f.Error() }()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.done:
		return ErrClosed
	case err := <-result:
		return l.translate(err)
	}
}

func (l *Log) translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		return l.notLeader()
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore):
		return ErrUncertain
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	}
	return fmt.Errorf("consensus: %w", err)
}

func (l *Log) notLeader() error {
	lead := l.Leader()
	if lead.Self { // elected or deposed this very moment
		lead = Leadership{}
	}
	return &NotLeader{Leader: lead.Leader, Addr: lead.Addr}
}

// wait is how long raft may take to accept something: as long as the caller waits.
func wait(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(time.Until(deadline), time.Millisecond)
	}
	return 0 // no limit
}

// closers undoes a half-done Open, last first.
type closers []io.Closer

func (c *closers) add(v io.Closer) { *c = append(*c, v) }

func (c *closers) close() (err error) {
	for i := len(*c) - 1; i >= 0; i-- {
		err = errors.Join(err, (*c)[i].Close())
	}
	return err
}
