package node

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"lamina/kernels"
	"lamina/node/blobs"
	"lamina/node/infer"
	"lamina/node/ingest"
	"lamina/shard"
	"lamina/shard/gguf"
	"lamina/shard/pipeline"
)

// LocalConfig is what a model file without a cluster needs.
type LocalConfig struct {
	Threads int   // 0: the CPUs this process may use
	Memory  int64 // 0: 80 % of what is free
	// Progress is told how many bytes of the model are loaded, and of how many.
	Progress func(done, total int64)
	Log      *slog.Logger // default: discard
}

// Local serves one model file in this process: the same stage, driver and service as in a cluster, with a route
// of one hop and nothing on the network.
type Local struct {
	*infer.Service
	Model string // the name the file goes by
	host  *pipeline.Host
	shard *shard.Shard
	work  *kernels.Workers
	frees []func()
}

// OpenFile loads a model file. The weights are packed for the kernels in memory; the file is not needed afterwards.
func OpenFile(ctx context.Context, path string, cfg LocalConfig) (*Local, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := shard.ReadInfo(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if info.Encoder {
		return nil, fmt.Errorf("%s: %w", path, ingest.ErrEncoder)
	}
	m, err := readModel(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l := &Local{Model: filepath.Base(path)}
	ok := false
	defer func() {
		if !ok {
			_ = l.Close()
		}
	}()
	m.ModelInfo = infer.ModelInfo{Name: l.Model, Digest: "local", Arch: info.Arch, Layers: info.Layers, Context: info.Context, Vocab: info.Vocab, Created: time.Now(), Ready: true, Chat: m.Template != nil}
	if err := l.load(ctx, f, info, cfg); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	route := localRoute{pipeline.Hop{Node: "local", First: 0, End: info.Layers}}
	l.Service = infer.New(infer.Config{Catalog: localCatalog{m}, Router: route, Driver: l.host, Tracer: noTracer{}, Log: cfg.Log})
	ok = true
	return l, nil
}

// load packs the parts into memory and serves the whole model as one stage.
func (l *Local) load(ctx context.Context, f *gguf.File, info shard.Info, cfg LocalConfig) error {
	var total, done int64
	for _, t := range f.Tensors {
		total += int64(len(t.Data))
	}
	memory := memoryLimit(cfg.Memory)
	if kv := info.KVBytes(shard.Span{First: 0, End: info.Layers}, 1); total+kv > memory {
		return fmt.Errorf("%w: the weights take %d MiB, %d MiB are free; use a smaller file, or a cluster of several machines (lamina up)", infer.ErrNoCapacity, total>>20, memory>>20)
	}
	parts, err := l.pack(ctx, f, func(n int64) {
		if done += n; cfg.Progress != nil {
			cfg.Progress(min(done, total), total)
		}
	})
	if err != nil {
		return err
	}
	meta, err := gguf.Parse(parts["meta"])
	if err != nil {
		return err
	}
	l.work = kernels.NewWorkers(cfg.Threads)
	l.shard, err = shard.Open(meta, parts, shard.Span{First: 0, End: info.Layers}, shard.Options{Workers: l.work, KVBudget: memory - total})
	if err != nil {
		return err
	}
	l.host = pipeline.NewHost(pipeline.HostConfig{Self: "local", Send: nobody{}})
	return l.host.Serve(pipeline.StageKey{Model: "local", Epoch: 1}, pipeline.ForShard(l.shard))
}

// pack packs the parts into memory, several at once; packed is told the bytes of each, one after the other.
func (l *Local) pack(ctx context.Context, f *gguf.File, packed func(n int64)) (partMap, error) {
	cutter, err := shard.NewCutter(f)
	if err != nil {
		return nil, err
	}
	list, parts := cutter.Parts(), partMap{}
	index := make([]int, len(list))
	for i := range index {
		index[i] = i
	}
	var mu sync.Mutex
	return parts, each(ctx, index, func(_ context.Context, i int) error {
		n, err := cutter.Size(i)
		if err != nil {
			return err
		}
		mem, err := blobs.New(int(n))
		if err != nil {
			return err
		}
		if _, err = cutter.Encode(i, mem.Bytes()); err == nil {
			err = mem.Seal()
		}
		mu.Lock()
		defer mu.Unlock()
		l.frees = append(l.frees, func() { _ = mem.Close() }) // giving memory back has nothing to report
		if err == nil {
			parts[list[i].Name] = mem.Bytes()
			packed(n)
		}
		return err
	})
}

// Close ends what runs and gives the memory back.
func (l *Local) Close() error {
	var err error
	if l.host != nil {
		err = l.host.Close()
	}
	if l.shard != nil {
		_ = l.shard.Close() // frees memory only
	}
	if l.work != nil {
		l.work.Close()
	}
	for _, free := range l.frees {
		free()
	}
	l.frees = nil
	return err
}

// nobody is the network of a process that has no peers.
type nobody struct{}

// Send implements pipeline.Sender.
func (nobody) Send(to string, _ *pipeline.Frame) error {
	return fmt.Errorf("there is no node %s: this process has no cluster", to)
}

// localRoute is the only route of a file.
type localRoute struct{ hop pipeline.Hop }

// Pick implements infer.Router.
func (r localRoute) Pick(_ string, _ []byte, skip ...uint64) (infer.Route, error) {
	if len(skip) > 0 {
		return infer.Route{}, fmt.Errorf("%w: the model in this process failed", infer.ErrNodeLost)
	}
	return infer.Route{Epoch: 1, Hops: []pipeline.Hop{r.hop}, Release: func() {}}, nil
}

// Changed implements infer.Router: nothing ever changes.
func (localRoute) Changed() <-chan struct{} { return nil }

// localCatalog knows one model.
type localCatalog struct{ m *infer.Model }

// Model implements infer.Catalog.
func (c localCatalog) Model(_ context.Context, name string) (*infer.Model, error) {
	if name != c.m.Name {
		return nil, fmt.Errorf("%w: %q; this process has %q", infer.ErrModelNotFound, name, c.m.Name)
	}
	return c.m, nil
}

// Models implements infer.Catalog.
func (c localCatalog) Models(context.Context) ([]infer.ModelInfo, error) {
	return []infer.ModelInfo{c.m.ModelInfo}, nil
}

// noTracer is a Tracer for a process that traces nothing.
type noTracer struct{}

// Start implements infer.Tracer.
func (noTracer) Start(ctx context.Context, _ string, _ ...slog.Attr) (context.Context, infer.Span) {
	return ctx, noSpan{}
}

// Traceparent implements infer.Tracer.
func (noTracer) Traceparent(context.Context) string { return "" }

type noSpan struct{}

func (noSpan) Set(...slog.Attr) {}
func (noSpan) End(error)        {}
