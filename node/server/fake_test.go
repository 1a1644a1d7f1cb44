package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"lamina/cluster"
	"lamina/node/api"
	"lamina/node/auth"
	"lamina/node/infer"
	"lamina/shard/sample"
)

// fakeService answers every prompt with the tokens of `script`, and fails in the way a model's name says.
type fakeService struct {
	mu   sync.Mutex
	seen []infer.Request
	hook func(ctx context.Context, emit func(infer.Event) error) error // runs between the tokens, if set

	digest string // of its model; empty: a usual one
}

// script is "Hellö!": the ö comes in two tokens.
var script = []infer.TokenInfo{
	tok(1, "He", -0.5), tok(2, "ll", -0.25), tok(3, "\xc3", -1), tok(4, "\xb6", -0.125), tok(5, "!", -2),
}

func tok(id int32, text string, lp float32) infer.TokenInfo {
	t := infer.TokenLogprob{ID: id, Bytes: []byte(text), Logprob: lp}
	return infer.TokenInfo{TokenLogprob: t, Top: []infer.TokenLogprob{t, {ID: 9, Bytes: []byte("x"), Logprob: lp - 1}}}
}

var failures = map[string]error{
	"loading":  fmt.Errorf("%w: no replica of \"loading\" is ready", infer.ErrModelLoading),
	"full":     fmt.Errorf("%w: 3 MiB more are needed", infer.ErrNoCapacity),
	"busy":     fmt.Errorf("%w: 512 wait", infer.ErrOverloaded),
	"long":     fmt.Errorf("%w: the prompt has 9 tokens, the model's context holds 8; shorten the prompt", infer.ErrContextLength),
	"base":     fmt.Errorf("%w: base; ask it by /v1/completions", infer.ErrNoChatTemplate),
	"late":     fmt.Errorf("%w: at 10m", infer.ErrDeadline),
	"secret":   errors.New("open /etc/lamina/secret: permission denied"),
	"nonesuch": fmt.Errorf("%w: \"nonesuch\"; lamina ps lists the models", infer.ErrModelNotFound),
}

func (f *fakeService) Models(context.Context) ([]infer.ModelInfo, error) {
	at := time.Unix(1700000000, 0)
	return []infer.ModelInfo{
		{Name: "m", Digest: "sha256:" + strings.Repeat("ab", 32), Arch: "llama", Layers: 4, Context: 64, Vocab: 10, Created: at, Ready: true, Chat: true},
		{Name: "org/m2:q4", Context: 128, Created: at},
	}, nil
}

func (f *fakeService) Generate(ctx context.Context, r infer.Request, started func(infer.Started) error, emit func(infer.Event) error) (infer.Result, error) {
	f.mu.Lock()
	f.seen = append(f.seen, r)
	f.mu.Unlock()
	if err := failures[r.Model]; err != nil {
		return infer.Result{}, err
	}
	if r.Model == "panic" {
		panic("a bug")
	}
	res := infer.Result{PromptTokens: 3, Finish: infer.FinishStop, StopString: strings.Join(r.Stop, "")}
	res.Timings = infer.Timings{Queue: time.Millisecond, Prefill: 2 * time.Millisecond, Decode: 4 * time.Millisecond}
	if err := started(infer.Started{Model: "m", Digest: cmp.Or(f.digest, "sha256:"+strings.Repeat("ab", 32)), Route: "n1[0:2] n2[2:4]", PromptTokens: 3}); err != nil {
		return res, err
	}
	if r.Echo {
		p := []infer.TokenInfo{tok(7, "P", 0), tok(8, ":", -3)}
		p[0].NoLogprob, p[0].Top = true, nil
		if err := emit(infer.Event{Text: "P:", Tokens: p}); err != nil {
			return res, err
		}
	}
	if r.PromptOnly {
		res.Finish = infer.FinishLength
		return res, nil
	}
	text := ""
	for i, t := range script {
		if r.MaxTokens == i && i > 0 {
			res.Finish = infer.FinishLength
			break
		}
		if f.hook != nil {
			if err := f.hook(ctx, emit); err != nil {
				return res, err
			}
		}
		if r.Model == "lost" && i == 2 {
			return res, fmt.Errorf("%w: n2: read tcp 10.0.0.1:7946: connection reset", infer.ErrNodeLost)
		}
		if r.Model == "panics" && i == 2 {
			panic("a bug")
		}
		text += string(t.Bytes)
		ev := infer.Event{Text: text, Tokens: []infer.TokenInfo{t}}
		if t.Bytes[0] == 0xc3 {
			ev.Text = ""
		} else {
			text = ""
		}
		if !r.Sampling.WantLogprobs {
			ev.Tokens[0].Top = nil
		} else {
			ev.Tokens[0].Top = t.Top[:min(r.Sampling.Logprobs, 2)]
		}
		if err := emit(ev); err != nil {
			return res, err
		}
		res.CompletionTokens++
	}
	return res, nil
}

func (f *fakeService) Tokenize(_ context.Context, model, text string, special bool) ([]int32, error) {
	if err := failures[model]; err != nil {
		return nil, err
	}
	return []int32{int32(len(text)), 2}, nil
}

func (f *fakeService) Detokenize(_ context.Context, _ string, ids []int32) (string, error) {
	return fmt.Sprint(ids), nil
}

// last is the newest request that the service saw.
func (f *fakeService) last() infer.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[len(f.seen)-1]
}

// fakeCluster is Admin, Blobs and Keys over maps.
type fakeCluster struct {
	mu     sync.Mutex
	models map[string]cluster.Model
	blobs  map[string][]byte
	keys   map[string]cluster.Key
	ready  error

	draining bool
}

func (f *fakeCluster) Nodes(context.Context) ([]api.Node, error) {
	return []api.Node{{Name: "n1", Peer: "127.0.0.1:7946", HTTP: "127.0.0.1:8080", Role: "voter", Leader: true, Alive: true, Self: true, Version: "v1", MemoryFree: 5, MemoryTotal: 9}}, nil
}

func (f *fakeCluster) RemoveNode(_ context.Context, name string) error {
	if name == "n1" {
		return fmt.Errorf("%w: stop n1 first", ErrNodeAlive)
	}
	return fmt.Errorf("%w: no node %q", cluster.ErrNotFound, name)
}

func (f *fakeCluster) DrainNode(_ context.Context, name string, off bool) (api.DrainReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if name != "n1" {
		return api.DrainReply{}, fmt.Errorf("%w: no node %q", cluster.ErrNotFound, name)
	}
	f.draining = !off
	return api.DrainReply{Draining: f.draining}, nil
}

func (f *fakeCluster) Drained(ctx context.Context, name string) (api.DrainReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return api.DrainReply{Draining: f.draining, Spans: []api.DrainSpan{{Model: "m", Epoch: 7, End: 3, Phase: "ready"}}}, nil
}

func (f *fakeCluster) Backup(context.Context) (api.Backup, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := api.Backup{Version: api.BackupVersion, Cluster: "lab", Created: 1, Index: 9}
	for _, m := range f.models {
		b.Models = append(b.Models, m)
	}
	return b, nil
}

func (f *fakeCluster) Restore(ctx context.Context, b api.Backup) (out api.RestoreReply, err error) {
	for _, m := range b.Models {
		if _, err := f.AddModel(ctx, m); err != nil {
			out.Refused = append(out.Refused, api.RestoreRefusal{Model: m.Name, Reason: err.Error()})
			continue
		}
		out.Models = append(out.Models, m.Name)
	}
	return out, nil
}

func (f *fakeCluster) describe(m cluster.Model) api.Model {
	out := api.Model{Name: m.Name, Digest: m.Digest, Arch: m.Arch, Layers: m.Layers, Context: m.Context, Ready: true}
	out.Replicas = []api.Replica{{Epoch: 7, Phase: "ready", Hops: []api.Hop{{Node: "n1", First: 0, End: m.Layers, Ready: true}}}}
	for _, b := range m.Blobs {
		out.Blobs = append(out.Blobs, api.Blob{Name: b.Name, Digest: b.Digest, Size: b.Size})
	}
	return out
}

func (f *fakeCluster) ListModels(context.Context) ([]api.Model, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []api.Model
	for _, m := range f.models {
		out = append(out, f.describe(m))
	}
	return out, nil
}

func (f *fakeCluster) ShowModel(_ context.Context, name string) (api.Model, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, ok := f.models[name]
	if !ok {
		return api.Model{}, fmt.Errorf("%w: %q", infer.ErrModelNotFound, name)
	}
	return f.describe(m), nil
}

func (f *fakeCluster) AddModel(_ context.Context, m cluster.Model) (api.Model, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := f.models[m.Name]; there {
		return api.Model{}, fmt.Errorf("%w: model %q", cluster.ErrExists, m.Name)
	}
	f.models[m.Name] = m
	return f.describe(m), nil
}

func (f *fakeCluster) RemoveModel(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := f.models[name]; !there {
		return fmt.Errorf("%w: model %q", cluster.ErrNotFound, name)
	}
	delete(f.models, name)
	return nil
}

func (f *fakeCluster) CreateToken(_ context.Context, ttl time.Duration) (api.TokenReply, error) {
	return api.TokenReply{Join: "127.0.0.1:7946/token@sha256:pin", Expires: int64(ttl.Seconds())}, nil
}

func (f *fakeCluster) HasBlob(_ context.Context, digest string) (int64, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, ok := f.blobs[digest]
	return int64(len(b)), ok, nil
}

func (f *fakeCluster) PutBlob(_ context.Context, digest string, size int64, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if int64(len(data)) != size || auth.HashSecret(string(data)) != digest {
		return fmt.Errorf("%w: %s", ErrBadBlob, digest)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blobs[digest] = data
	return nil
}

func (f *fakeCluster) DropBlob(_ context.Context, digest string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.blobs, digest)
	return nil
}

func (f *fakeCluster) LookupKey(id string) (cluster.Key, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, ok := f.keys[id]
	return k, ok
}

func (f *fakeCluster) ListKeys(context.Context) ([]api.Key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []api.Key
	for _, k := range f.keys {
		out = append(out, api.Key{ID: k.ID, Name: k.Note, Role: string(k.Role)})
	}
	return out, nil
}

func (f *fakeCluster) CreateKey(_ context.Context, note string, role cluster.Role) (api.KeyReply, error) {
	k := f.addKey(note, role)
	return api.KeyReply{Key: api.Key{ID: k.ID, Name: note, Role: string(role)}, Secret: k.String()}, nil
}

func (f *fakeCluster) addKey(note string, role cluster.Role) auth.APIKey {
	k := auth.NewAPIKey()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[k.ID] = cluster.Key{ID: k.ID, Hash: k.Hash(), Role: role, Note: note}
	return k
}

func (f *fakeCluster) RemoveKey(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := f.keys[id]; !there {
		return fmt.Errorf("%w: key %q", cluster.ErrNotFound, id)
	}
	delete(f.keys, id)
	return nil
}

// rig is a server over fakes, with time, ids and seeds that do not change.
type rig struct {
	*Server
	svc         *fakeService
	cl          *fakeCluster
	admin, user string // keys
}

func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	g := &rig{svc: &fakeService{}, cl: &fakeCluster{models: map[string]cluster.Model{}, blobs: map[string][]byte{}, keys: map[string]cluster.Key{}}}
	g.admin, g.user = g.cl.addKey("boss", cluster.Admin).String(), g.cl.addKey("guest", cluster.User).String()
	cfg := Config{Service: g.svc, Admin: g.cl, Blobs: g.cl, Keys: g.cl, Ready: func() error { return g.cl.ready }, Addr: "127.0.0.1:8080"}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.Server = s
	s.now = func() time.Time { return time.Unix(1700000000, 0) }
	s.newID = func() string { return "0123456789abcdef" }
	s.seed = func() uint64 { return 42 }
	return g
}

var _ = sample.Default // the fakes speak of sampling in terms of this package

// roundTrip sends one request to the handler as a client on loopback would.
func (g *rig) roundTrip(r *http.Request) *http.Response {
	return roundTrip(g.Handler(), r)
}
