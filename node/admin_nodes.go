package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"lamina/cluster"
	"lamina/cluster/consensus"
	"lamina/node/api"
	"lamina/node/auth"
	"lamina/node/server"
)

// RemoveNode implements server.Admin. A node that runs would only announce itself again, so it is refused.
func (a admin) RemoveNode(ctx context.Context, name string) error {
	if _, ok := a.n.log.State().Member(name); !ok {
		return unknownNode(name)
	}
	for _, p := range a.n.gossip.Members() {
		if p.ID == name && p.Alive {
			return fmt.Errorf("%w: stop %s first; lamina drain %s has its layers served by others before", server.ErrNodeAlive, name, name)
		}
	}
	return a.n.prop.Propose(ctx, cluster.RemoveMember{Node: name, At: time.Now()})
}

func unknownNode(name string) error {
	return fmt.Errorf("%w: no node %.80q; lamina nodes lists them", cluster.ErrNotFound, name)
}

// DrainNode implements server.Admin.
func (a admin) DrainNode(ctx context.Context, name string, off bool) (api.DrainReply, error) {
	if _, ok := a.n.log.State().Member(name); !ok {
		return api.DrainReply{}, unknownNode(name)
	}
	if err := a.n.prop.Propose(ctx, cluster.DrainNode{Node: name, Off: off, At: time.Now()}); err != nil {
		return api.DrainReply{}, err
	}
	return a.Drained(ctx, name)
}

// Drained implements server.Admin.
func (a admin) Drained(_ context.Context, name string) (api.DrainReply, error) {
	s := a.n.log.State()
	m, ok := s.Member(name)
	if !ok {
		return api.DrainReply{}, unknownNode(name)
	}
	problems := a.problems(s)
	out := api.DrainReply{Draining: m.Draining}
	for _, p := range s.Placements {
		h, _, on := p.On(name)
		if !on || p.Phase == cluster.Gone {
			continue
		}
		model, _ := s.ModelByDigest(p.Model)
		out.Spans = append(out.Spans, api.DrainSpan{Model: model.Name, Epoch: p.Epoch, First: h.First, End: h.End, Phase: p.Phase.String(), Problem: problems[model.Name]})
	}
	return out, nil
}

// Backup implements server.Admin.
func (a admin) Backup(context.Context) (api.Backup, error) {
	s := a.n.log.State()
	return api.Backup{
		Version: api.BackupVersion, Cluster: s.Settings.ClusterID, Created: time.Now().Unix(), Index: s.Index, Models: s.Models, Keys: s.Keys,
	}, nil
}

// Restore implements server.Admin: one command for each model and key, so what is refused does not hold up the rest. It
// ends early only when nothing can be agreed on.
func (a admin) Restore(ctx context.Context, b api.Backup) (api.RestoreReply, error) {
	var out api.RestoreReply
	for _, k := range b.Keys {
		switch err := a.n.prop.Propose(ctx, cluster.AddKey{Key: k, At: time.Now()}); {
		case fatal(ctx, err):
			return out, err
		case err != nil:
			out.Refused = append(out.Refused, api.RestoreRefusal{Key: k.ID, Reason: err.Error()})
		default:
			out.Keys = append(out.Keys, k.ID)
		}
	}
	for _, m := range b.Models {
		err := m.Validate()
		if err == nil {
			_, err = a.AddModel(ctx, m)
		}
		switch {
		case fatal(ctx, err):
			return out, err
		case errors.Is(err, server.ErrMissingBlob):
			out.Refused = append(out.Refused, api.RestoreRefusal{Model: m.Name, Reason: "its parts are not on this node; restore at a node that has them, or add the file again: lamina add FILE --name " + m.Name})
		case err != nil:
			out.Refused = append(out.Refused, api.RestoreRefusal{Model: m.Name, Reason: err.Error()})
		default:
			out.Models = append(out.Models, m.Name)
		}
	}
	return out, nil
}

// fatal says that the next command would not do better.
func fatal(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || errors.Is(err, server.ErrNoQuorum))
}

// Recover makes the node in cfg.Data, which must not be running, go on alone with what it knows: see consensus.Recover. It
// returns the state that the cluster goes on with.
func Recover(cfg Config) (cluster.State, error) {
	id, err := auth.Load(cfg.Data)
	if err != nil {
		return cluster.State{}, err
	}
	return consensus.Recover(consensus.Config{ID: id.Name(), Dir: filepath.Join(cfg.Data, "raft"), Log: cfg.Log}, cfg.Peer)
}
