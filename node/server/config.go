package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lamina/cluster"
	"lamina/node/api"
	"lamina/node/infer"
	"lamina/node/records"
)

// Service answers requests to models.
type Service interface {
	Models(ctx context.Context) ([]infer.ModelInfo, error)
	Generate(ctx context.Context, r infer.Request, started func(infer.Started) error, emit func(infer.Event) error) (infer.Result, error)
	Tokenize(ctx context.Context, model, text string, special bool) ([]int32, error)
	Detokenize(ctx context.Context, model string, ids []int32) (string, error)
}

// Admin knows and changes the cluster. Errors wrap those of package cluster, of infer, or of this one.
type Admin interface {
	Nodes(ctx context.Context) ([]api.Node, error)
	// RemoveNode takes a node out; ErrNodeAlive if it runs.
	RemoveNode(ctx context.Context, name string) error
	// DrainNode has a node's layers served by others, or takes that back.
	DrainNode(ctx context.Context, name string, off bool) (api.DrainReply, error)
	// Drained tells how far that is.
	Drained(ctx context.Context, name string) (api.DrainReply, error)
	Backup(ctx context.Context) (api.Backup, error)
	// Restore adds what is not known yet; b has a version that this program reads.
	Restore(ctx context.Context, b api.Backup) (api.RestoreReply, error)
	ListModels(ctx context.Context) ([]api.Model, error)
	// ShowModel returns a model with its blobs.
	ShowModel(ctx context.Context, name string) (api.Model, error)
	// AddModel agrees on a manifest that Validate has passed, whose blobs must be here (ErrMissingBlob), and that the
	// nodes have room for (infer.ErrNoCapacity); on an error nothing of it stays.
	AddModel(ctx context.Context, m cluster.Model) (api.Model, error)
	RemoveModel(ctx context.Context, name string) error
	// CreateToken makes a join token that is good for ttl.
	CreateToken(ctx context.Context, ttl time.Duration) (api.TokenReply, error)
}

// Blobs is the node's store of model parts. Digests are checked before they come here (api.CheckDigest).
type Blobs interface {
	HasBlob(ctx context.Context, digest string) (size int64, ok bool, err error)
	// PutBlob stores size bytes of r if they have the digest, else nothing; then the error wraps ErrBadBlob.
	PutBlob(ctx context.Context, digest string, size int64, r io.Reader) error
	// DropBlob removes a blob; ErrBlobInUse if a model of the cluster names it.
	DropBlob(ctx context.Context, digest string) error
}

// Keys manages the API keys of the cluster.
type Keys interface {
	// LookupKey finds a key by its id; it answers at once, from this node's copy of the state.
	LookupKey(id string) (cluster.Key, bool)
	ListKeys(ctx context.Context) ([]api.Key, error)
	CreateKey(ctx context.Context, note string, role cluster.Role) (api.KeyReply, error)
	RemoveKey(ctx context.Context, id string) error
}

// Records keeps accepted requests at more than one node.
type Records interface {
	// Keep stores a record here and at one more node, which it names; empty: there is none, or none took it.
	Keep(ctx context.Context, r records.Record) (shadow string)
	// Find returns the record of an owner's request, wherever it is.
	Find(ctx context.Context, owner, id string) (records.Record, bool)
}

// Errors that the server's callees may wrap, beside those of infer and cluster.
var (
	// ErrMissingBlob: a manifest names a blob that this node does not hold.
	ErrMissingBlob = errors.New("missing blob")
	// ErrBadBlob: bytes that do not have the digest or size they were sent under.
	ErrBadBlob = errors.New("blob does not match its digest")
	// ErrBlobInUse: a model of the cluster names the blob.
	ErrBlobInUse = errors.New("blob is in use")
	// ErrNodeAlive: a node that runs cannot be removed.
	ErrNodeAlive = errors.New("the node is running")
	// ErrNoQuorum: the cluster cannot agree on a change now.
	ErrNoQuorum = errors.New("no quorum")
	// ErrNoSpace: the disk is full.
	ErrNoSpace = errors.New("no space left on the node's disk")
)

// Config of a Server. Service, Admin, Blobs, Keys and Ready must be set.
type Config struct {
	Service Service
	Admin   Admin
	Blobs   Blobs
	Keys    Keys
	// Records keeps streamed requests so that they can be resumed at another node; nil: at this one only.
	Records Records
	// Peer asks another node's PeerHandler; nil: there are no others.
	Peer func(ctx context.Context, node, method, path string) (*http.Response, error)
	// Ready says why the node cannot serve, or nil. It is asked by /readyz and must not block.
	Ready func() error
	// Behind says that this node has just started and may not know yet which keys the cluster has, or nil: then a key that is not
	// known is no reason for a refusal that tells the client to give up. nil: never.
	Behind func() error
	// Addr is where the listener that Serve gets is bound, host:port.
	Addr string
	// RequireKeys refuses every request without an API key but health. Without it, models may be asked anonymously, and
	// New refuses an Addr that is not loopback.
	RequireKeys bool
	// Hosts are names, besides loopback ones, that anonymous requests may have in their Host header.
	Hosts []string
	// Registry gets the server's metrics and is what /metrics shows; nil: one of its own.
	Registry *prometheus.Registry
	// Wrap goes around everything, to trace requests; nil: nothing. The writer it hands on must have Unwrap.
	Wrap func(http.Handler) http.Handler
	// Log gets failures of the server's own and, at debug level, every request; never content. nil: nothing.
	Log    *slog.Logger
	Limits Limits
}

// Limits bounds what clients may take. Zero fields have the value of DefaultLimits.
type Limits struct {
	HeaderBytes int           // of a request line and headers
	HeaderTime  time.Duration // to send them
	BodyBytes   int64         // of a message
	BodyTime    time.Duration // to send it
	BlobBytes   int64         // of a blob
	IdleTime    time.Duration // of a kept connection
	WriteTime   time.Duration // for a client to take one piece of an answer
	RequestTime time.Duration // for a request as a whole
	Conns       int           // open connections
	ConnsPerIP  int           // open connections of one address, loopback excepted
	InFlight    int           // requests to models at once
	Messages    int           // of a chat
	Choices     int           // n of one prompt
	Answers     int           // prompts x n of one request
	Parallel    int           // answers of one request at once
	Stops       int           // stop strings
	StopBytes   int           // of each
}

// DefaultLimits are the limits of RELIABILITY (docs), section limits.
func DefaultLimits() Limits {
	return Limits{
		HeaderBytes: 64 << 10, HeaderTime: 5 * time.Second,
		BodyBytes: 8 << 20, BodyTime: 30 * time.Second, BlobBytes: 64 << 30,
		IdleTime: 2 * time.Minute, WriteTime: 30 * time.Second, RequestTime: 10 * time.Minute,
		Conns: 4096, ConnsPerIP: 64, InFlight: 256,
		Messages: 1024, Choices: 8, Answers: 128, Parallel: 8, Stops: 16, StopBytes: 256,
	}
}

// orDefault fills in what is zero.
func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	for _, f := range []struct{ v, d *int }{
		{&l.HeaderBytes, &d.HeaderBytes}, {&l.Conns, &d.Conns}, {&l.ConnsPerIP, &d.ConnsPerIP}, {&l.InFlight, &d.InFlight},
		{&l.Messages, &d.Messages}, {&l.Choices, &d.Choices}, {&l.Answers, &d.Answers}, {&l.Parallel, &d.Parallel},
		{&l.Stops, &d.Stops}, {&l.StopBytes, &d.StopBytes},
	} {
		if *f.v <= 0 {
			*f.v = *f.d
		}
	}
	for _, f := range []struct{ v, d *time.Duration }{
		{&l.HeaderTime, &d.HeaderTime}, {&l.BodyTime, &d.BodyTime}, {&l.IdleTime, &d.IdleTime}, {&l.WriteTime, &d.WriteTime},
		{&l.RequestTime, &d.RequestTime},
	} {
		if *f.v <= 0 {
			*f.v = *f.d
		}
	}
	for _, f := range []struct{ v, d *int64 }{{&l.BodyBytes, &d.BodyBytes}, {&l.BlobBytes, &d.BlobBytes}} {
		if *f.v <= 0 {
			*f.v = *f.d
		}
	}
	return l
}

// ErrConfig: a setting of the server that cannot be; the text says which.
var ErrConfig = errors.New("server settings")

// validate checks a Config and fills in its defaults.
func (c *Config) validate() error {
	if c.Service == nil || c.Admin == nil || c.Blobs == nil || c.Keys == nil || c.Ready == nil {
		return fmt.Errorf("%w: Service, Admin, Blobs, Keys and Ready must be set", ErrConfig)
	}
	if !c.RequireKeys && !Loopback(c.Addr) {
		return fmt.Errorf("%w: %q can be reached from other machines, and without required keys anyone there could use this node; "+
			"require keys, or listen on 127.0.0.1", ErrConfig, c.Addr)
	}
	if c.Records == nil {
		c.Records = localRecords{NewRecords()}
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Wrap == nil {
		c.Wrap = func(h http.Handler) http.Handler { return h }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Limits = c.Limits.orDefault()
	return nil
}

// Loopback says whether a listener at addr (host:port) can be reached from this machine only.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && loopbackHost(host)
}

func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
