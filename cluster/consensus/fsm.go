package consensus

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/raft"

	"lamina/cluster"
)

// fsm adapts cluster.State to raft: decode, Apply, publish. Raft calls it from one goroutine.
type fsm struct {
	hub hub[cluster.State]
	log *slog.Logger
}

func newFSM(log *slog.Logger) *fsm {
	f := &fsm{log: log}
	f.hub.publish(cluster.State{})
	return f
}

func (f *fsm) state() cluster.State { return f.hub.last() }

// Apply implements raft.FSM. The result is nil or the error with which the state refused the command. A
// command that cannot be read changes nothing, on every peer of this version alike.
func (f *fsm) Apply(entry *raft.Log) any {
	c, err := cluster.DecodeCommand(entry.Data)
	if err != nil {
		f.log.Error("an entry of the log cannot be read and is ignored", "index", entry.Index, "err", err)
		return err
	}
	next, err := f.state().Apply(entry.Index, c)
	if err != nil {
		return err
	}
	f.hub.publish(next)
	return nil
}

// Snapshot implements raft.FSM.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return snapshot{f.state()}, nil }

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, cluster.MaxState+1))
	if err != nil {
		return fmt.Errorf("consensus: read snapshot: %w", err)
	}
	s, err := cluster.DecodeState(data)
	if err != nil {
		return fmt.Errorf("consensus: snapshot: %w", err)
	}
	f.hub.publish(s)
	return nil
}

// snapshot is a state to be written.
type snapshot struct{ state cluster.State }

// Persist implements raft.FSMSnapshot.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	data, err := s.state.Encode()
	if err == nil {
		_, err = sink.Write(data)
	}
	if err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("consensus: write snapshot: %w", err)
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (snapshot) Release() {}
