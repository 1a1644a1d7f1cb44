package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"lamina/cluster"
	"lamina/cluster/plan"
	"lamina/node/api"
	"lamina/node/auth"
	"lamina/node/blobs"
	"lamina/node/infer"
	"lamina/node/server"
)

// admin is what operators see and change, over the node's parts.
type admin struct{ n *Node }

var (
	_ server.Admin = admin{}
	_ server.Blobs = admin{}
	_ server.Keys  = admin{}
)

// Nodes implements server.Admin: the members that were agreed on, as gossip sees them now.
func (a admin) Nodes(context.Context) ([]api.Node, error) {
	lead := a.n.log.Leader().Leader
	voters := map[string]bool{}
	for _, s := range a.n.log.Configuration() {
		voters[s.ID] = s.Voter
	}
	seen := map[string]int{}
	peers := a.n.gossip.Members()
	for i, p := range peers {
		seen[p.ID] = i
	}
	now := time.Now()
	var out []api.Node
	for _, m := range a.n.log.State().Members {
		x := api.Node{Name: m.ID, Peer: m.Peer, HTTP: m.HTTP, Role: "non-voter", Leader: m.ID == lead, Self: m.ID == a.n.id.Name(), Version: m.Version}
		if voters[m.ID] {
			x.Role = "voter"
		}
		x.Draining = m.Draining
		if i, ok := seen[m.ID]; ok {
			p := peers[i]
			x.Alive, x.MemoryFree, x.MemoryTotal, x.Load = p.Alive, p.MemoryFree, p.MemoryTotal, p.Load
			x.LastContactMS = max(0, now.Sub(p.LastContact).Milliseconds())
		}
		out = append(out, x)
	}
	return out, nil
}

// ListModels implements server.Admin.
func (a admin) ListModels(context.Context) ([]api.Model, error) {
	s := a.n.log.State()
	problems := a.problems(s)
	out := make([]api.Model, 0, len(s.Models))
	for _, m := range s.Models {
		out = append(out, a.describe(s, m, problems))
	}
	return out, nil
}

// ShowModel implements server.Admin.
func (a admin) ShowModel(_ context.Context, name string) (api.Model, error) {
	s := a.n.log.State()
	m, ok := s.Model(name)
	if !ok {
		return api.Model{}, fmt.Errorf("%w: %.140q; lamina ps lists the models", infer.ErrModelNotFound, name)
	}
	out := a.describe(s, m, a.problems(s))
	for _, b := range m.Blobs {
		out.Blobs = append(out.Blobs, api.Blob{Name: b.Name, Digest: b.Digest, Size: b.Size})
	}
	return out, nil
}

// problems are what the planner cannot do, by model.
func (a admin) problems(s cluster.State) map[string]string {
	out := map[string]string{}
	now := time.Now()
	for _, p := range plan.Problems(s, a.n.lead.live(now), now) {
		for _, m := range s.Models { // one content may have several names
			if first, ok := s.Model(p.Model); ok && m.Digest == first.Digest {
				out[m.Name] = p.Err.Error()
			}
		}
	}
	return out
}

func (a admin) describe(s cluster.State, m cluster.Model, problems map[string]string) api.Model {
	out := api.Model{Problem: problems[m.Name], Name: m.Name, Digest: m.Digest, Arch: m.Arch, Layers: m.Layers, Hidden: m.Hidden, Vocab: m.Vocab, Context: m.Context, Bytes: sum(m.Blobs), Created: m.Created.Unix(), Replicas: []api.Replica{}}
	alive := a.n.alive()
	for _, p := range s.PlacementsOf(m.Digest) {
		r := api.Replica{Epoch: p.Epoch, Phase: p.Phase.String(), Reason: p.Reason}
		for _, h := range p.Hops {
			by, _ := standby(s, m, h, alive)
			r.Hops = append(r.Hops, api.Hop{Node: h.Node, First: h.First, End: h.End, Ready: h.Ready, Standby: by})
		}
		out.Ready = out.Ready || p.Phase == cluster.Ready
		out.Replicas = append(out.Replicas, r)
	}
	return out
}

// AddModel implements server.Admin. The room is looked for before anything is agreed, so that a model that fits nowhere leaves nothing behind.
func (a admin) AddModel(ctx context.Context, m cluster.Model) (api.Model, error) {
	m.Origin = a.n.id.Name()
	for _, b := range m.Blobs {
		d, err := blobs.ParseDigest(b.Digest)
		if err != nil {
			return api.Model{}, fmt.Errorf("%w: blob %s: %w", cluster.ErrInvalid, b.Name, err)
		}
		if _, ok := a.n.store.Has(d); !ok {
			return api.Model{}, fmt.Errorf("%w: %s (%s); send it first", server.ErrMissingBlob, b.Name, b.Digest)
		}
	}
	if _, known := a.n.log.State().ModelByDigest(m.Digest); !known {
		if err := a.checkModel(ctx, m); err != nil {
			return api.Model{}, err
		}
	}
	now := time.Now()
	if err := plan.Fits(a.n.log.State(), m, a.n.lead.live(now), now); err != nil {
		return api.Model{}, noCapacity{err}
	}
	if err := a.n.prop.Propose(ctx, cluster.AddModel{Model: m, At: now}); err != nil {
		return api.Model{}, err
	}
	return a.ShowModel(ctx, m.Name)
}

// noCapacity is the planner's reason, for those who ask for infer.ErrNoCapacity.
type noCapacity struct{ error }

// Unwrap returns the reason and what it means to a client.
func (e noCapacity) Unwrap() []error { return []error{e.error, infer.ErrNoCapacity} }

// RemoveModel implements server.Admin.
func (a admin) RemoveModel(ctx context.Context, name string) error {
	err := a.n.prop.Propose(ctx, cluster.RemoveModel{Name: name, At: time.Now()})
	if errors.Is(err, cluster.ErrNotFound) {
		return fmt.Errorf("%w: %.140q; lamina ps lists the models", infer.ErrModelNotFound, name)
	}
	return err
}

// CreateToken implements server.Admin.
func (a admin) CreateToken(ctx context.Context, ttl time.Duration) (api.TokenReply, error) {
	token, hash := auth.NewToken()
	now := time.Now()
	if err := a.n.prop.Propose(ctx, cluster.AddToken{Hash: hash, Expires: now.Add(ttl), At: now}); err != nil {
		return api.TokenReply{}, err
	}
	j := auth.JoinString{Addr: a.n.cfg.Peer, Token: token, Pin: a.n.id.Pin()}
	return api.TokenReply{Join: j.String(), Expires: now.Add(ttl).Unix()}, nil
}

// HasBlob implements server.Blobs.
func (a admin) HasBlob(_ context.Context, digest string) (int64, bool, error) {
	d, err := blobs.ParseDigest(digest)
	if err != nil {
		return 0, false, err
	}
	size, ok := a.n.store.Has(d)
	return size, ok, nil
}

// PutBlob implements server.Blobs.
func (a admin) PutBlob(ctx context.Context, digest string, size int64, r io.Reader) error {
	d, err := blobs.ParseDigest(digest)
	if err != nil {
		return err
	}
	err = a.n.store.Put(ctx, d, size, r)
	switch {
	case errors.Is(err, blobs.ErrMismatch):
		return fmt.Errorf("%w: %w", server.ErrBadBlob, err)
	case errors.Is(err, blobs.ErrDiskFull):
		return fmt.Errorf("%w: %w", server.ErrNoSpace, err)
	}
	return err
}

// DropBlob implements server.Blobs.
func (a admin) DropBlob(_ context.Context, digest string) error {
	d, err := blobs.ParseDigest(digest)
	if err != nil {
		return err
	}
	for _, m := range a.n.log.State().Models {
		for _, b := range m.Blobs {
			if b.Digest == digest {
				return fmt.Errorf("%w: model %s, part %s", server.ErrBlobInUse, m.Name, b.Name)
			}
		}
	}
	return a.n.store.Remove(d)
}

// LookupKey implements server.Keys.
func (a admin) LookupKey(id string) (cluster.Key, bool) { return a.n.log.State().Key(id) }

// ListKeys implements server.Keys.
func (a admin) ListKeys(context.Context) ([]api.Key, error) {
	var out []api.Key
	for _, k := range a.n.log.State().Keys {
		out = append(out, api.Key{ID: k.ID, Name: k.Note, Role: string(k.Role), Created: k.Created.Unix()})
	}
	return out, nil
}

// CreateKey implements server.Keys.
func (a admin) CreateKey(ctx context.Context, note string, role cluster.Role) (api.KeyReply, error) {
	k := auth.NewAPIKey()
	c := cluster.AddKey{Key: cluster.Key{ID: k.ID, Hash: k.Hash(), Role: role, Note: note}, At: time.Now()}
	if err := a.n.prop.Propose(ctx, c); err != nil {
		return api.KeyReply{}, err
	}
	return api.KeyReply{Key: api.Key{ID: k.ID, Name: note, Role: string(role), Created: c.At.Unix()}, Secret: k.String()}, nil
}

// RemoveKey implements server.Keys.
func (a admin) RemoveKey(ctx context.Context, id string) error {
	return a.n.prop.Propose(ctx, cluster.RemoveKey{ID: id, At: time.Now()})
}

// ready says why this node cannot serve, or nil: it must be of a cluster that has a leader, and have caught up.
func (n *Node) ready() error {
	if n.stopping.Load() {
		return errors.New("the node is stopping")
	}
	if n.log.Leader().Leader == "" {
		return errors.New("the cluster has no leader; are most of the voters up?")
	}
	if err := n.behind(); err != nil {
		return err
	}
	for _, p := range n.log.State().Placements {
		if h, _, on := p.On(n.id.Name()); on && p.Phase.Active() && !h.Ready {
			return fmt.Errorf("layers %d:%d of a model are loading", h.First, h.End)
		}
	}
	return nil
}

// behind says that this process has not heard yet what was agreed on before it started, or nil. What its copy of the
// state lacks may be there all the same.
func (n *Node) behind() error {
	if m, ok := n.log.State().Member(n.id.Name()); !ok || m.Incarnation != n.incarnation {
		return errors.New("this node has just started and does not know yet what the cluster has agreed on; try again in a moment")
	}
	return nil
}

// BlobDigest is the digest under which bytes are stored.
func BlobDigest(b []byte) string { return blobs.Sum(b).String() }

// Admin is what manages the cluster from this node, as its API does for those who hold an admin key.
func (n *Node) Admin() interface {
	server.Admin
	server.Blobs
	server.Keys
} {
	return admin{n}
}
