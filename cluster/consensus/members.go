package consensus

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"lamina/cluster"
)

// Server is a peer in raft's configuration. All get the log; only voters count for agreement.
type Server struct {
	ID    cluster.NodeID
	Addr  string
	Voter bool
}

// Bootstrap makes this node the first voter of a new cluster, reachable at addr. It does nothing if the log
// has a configuration already, so it may be called at every start of a cluster's first node.
func (l *Log) Bootstrap(addr string) error {
	err := l.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(l.cfg.ID), Address: raft.ServerAddress(addr),
	}}}).Error()
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("consensus: bootstrap: %w", err)
	}
	return nil
}

// Configuration returns the servers as this peer knows them, committed or about to be; none in a new log.
func (l *Log) Configuration() []Server {
	f := l.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	var out []Server
	for _, s := range f.Configuration().Servers {
		out = append(out, Server{cluster.NodeID(s.ID), string(s.Address), s.Suffrage == raft.Voter})
	}
	return out
}

// AddVoter adds a voter, or makes a non-voter one, or gives it another address. Leader only, like the rest.
func (l *Log) AddVoter(ctx context.Context, id cluster.NodeID, addr string) error {
	return l.await(ctx, l.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), 0, wait(ctx)))
}

// AddNonvoter adds a peer that gets the log and does not vote. A voter stays one and gets the address.
func (l *Log) AddNonvoter(ctx context.Context, id cluster.NodeID, addr string) error {
	return l.await(ctx, l.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), 0, wait(ctx)))
}

// Demote makes a voter a non-voter.
func (l *Log) Demote(ctx context.Context, id cluster.NodeID) error {
	return l.await(ctx, l.raft.DemoteVoter(raft.ServerID(id), 0, wait(ctx)))
}

// Remove takes a peer out of the configuration. A leader that removes itself steps down.
func (l *Log) Remove(ctx context.Context, id cluster.NodeID) error {
	return l.await(ctx, l.raft.RemoveServer(raft.ServerID(id), 0, wait(ctx)))
}

// Change carries out one change that Voters asked for.
func (l *Log) Change(ctx context.Context, c Change) error {
	switch c.Op {
	case Add:
		return l.AddNonvoter(ctx, c.ID, c.Addr)
	case Promote:
		return l.AddVoter(ctx, c.ID, c.Addr)
	case Readdress:
		return l.AddNonvoter(ctx, c.ID, c.Addr)
	case Demote:
		return l.Demote(ctx, c.ID)
	case Remove:
		return l.Remove(ctx, c.ID)
	}
	return fmt.Errorf("consensus: unknown change %d", c.Op)
}

// StepDown hands leadership to another voter, so that a clean stop costs no election timeout. It does
// nothing at a peer that does not lead, and fails if no other voter can take over.
func (l *Log) StepDown(ctx context.Context) error {
	if !l.IsLeader() {
		return nil
	}
	return l.await(ctx, l.raft.LeadershipTransfer())
}

// Snapshot writes a snapshot now. It is for an operator's backup and for tests; raft does it by itself.
func (l *Log) Snapshot(ctx context.Context) error {
	err := l.await(ctx, l.raft.Snapshot())
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}
