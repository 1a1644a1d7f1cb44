package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"lamina/cluster"
)

// ErrNothingToRecover: the directory holds no log, or one of a node that was never in a cluster.
var ErrNothingToRecover = errors.New("there is no log of a cluster")

// Recover makes the log in cfg.Dir that of a cluster whose only server is this node, reachable at addr: the way out
// when most voters are lost for good and nothing can be agreed on any more. What is in the log is applied, agreed on or
// not, so a command that its proposer was never told of may come to count, and one that only lost nodes had is lost. It returns
// the state that the cluster goes on with. The log must be closed; cfg.Transport is not used.
//
// A lost server that comes back with its old log would not know of this: together with others it could form the old
// cluster again. It must join anew.
func Recover(cfg Config, addr string) (_ cluster.State, err error) {
	if err := cluster.CheckNodeID(cfg.ID); err != nil {
		return cluster.State{}, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	path := filepath.Join(cfg.Dir, "raft.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return cluster.State{}, fmt.Errorf("%w in %s", ErrNothingToRecover, cfg.Dir)
	}
	st, err := openStore(path, cfg.NoSync)
	if err != nil {
		return cluster.State{}, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	logger := newLogger(cfg.Log)
	snaps, err := raft.NewFileSnapshotStoreWithLogger(cfg.Dir, 2, logger)
	if err != nil {
		return cluster.State{}, fmt.Errorf("consensus: snapshots in %s: %w", cfg.Dir, err)
	}
	if has, err := raft.HasExistingState(st, st, snaps); err != nil || !has {
		return cluster.State{}, errors.Join(fmt.Errorf("%w in %s", ErrNothingToRecover, cfg.Dir), err)
	}
	_, unused := raft.NewInmemTransport("")
	only := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(cfg.ID), Address: raft.ServerAddress(addr)}}}
	machine := newFSM(cfg.Log)
	if err := raft.RecoverCluster(cfg.raft(logger), machine, st, st, snaps, unused, only); err != nil {
		return cluster.State{}, fmt.Errorf("consensus: recover the log in %s: %w", cfg.Dir, err)
	}
	return machine.state(), nil
}
