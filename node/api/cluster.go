package api

import (
	"errors"
	"strings"

	"lamina/cluster"
)

var errDigest = errors.New("a digest is sha256: and 64 lower-case hex digits")

// CheckDigest says whether a string is the digest of a blob.
func CheckDigest(s string) error {
	hex, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return errDigest
	}
	return nil
}

// Node is a node of the cluster as the answering node sees it.
type Node struct {
	Name          string  `json:"name"`
	Peer          string  `json:"peer"` // HOST:PORT for peers
	HTTP          string  `json:"http"` // HOST:PORT for clients
	Role          string  `json:"role"` // voter or non-voter
	Leader        bool    `json:"leader"`
	Alive         bool    `json:"alive"`
	Draining      bool    `json:"draining,omitempty"` // its layers are to be served by others
	Self          bool    `json:"self,omitempty"`     // the node that answers
	Version       string  `json:"version"`
	MemoryFree    int64   `json:"memory_free"`  // bytes that layers may still take
	MemoryTotal   int64   `json:"memory_total"` // bytes that layers may take in all
	Load          float64 `json:"load"`         // sequences in progress
	LastContactMS int64   `json:"last_contact_ms"`
}

// NodesReply is GET /v1/cluster/nodes.
type NodesReply struct {
	Nodes []Node `json:"nodes"`
}

// DrainRequest is POST /v1/cluster/nodes/{name}/drain.
type DrainRequest struct {
	Off bool `json:"off,omitempty"` // take it back
}

// DrainReply answers it, and GET of the same path: what the node still serves.
type DrainReply struct {
	Draining bool `json:"draining"`
	// Spans are what it holds of placements that serve or are about to; none: it may be stopped and nobody notices.
	Spans []DrainSpan `json:"spans"`
}

// DrainSpan is a stage that a draining node still holds.
type DrainSpan struct {
	Model   string `json:"model"`
	Epoch   uint64 `json:"epoch"`
	First   int    `json:"first"`
	End     int    `json:"end"`
	Phase   string `json:"phase"`
	Problem string `json:"problem,omitempty"` // why no other node can take it
}

// BackupVersion is the newest form of a Backup.
const BackupVersion = 1

// Backup is GET /v1/cluster/backup and POST /v1/cluster/restore: the models by their manifests, and the keys by their hashes. Where
// layers are placed is not in it, nor are the parts of models themselves: nodes keep those, and `lamina add` makes them anew.
type Backup struct {
	Version int             `json:"version"`
	Cluster string          `json:"cluster"` // id of the cluster it was made of
	Created int64           `json:"created"` // Unix seconds
	Index   uint64          `json:"index"`   // of the last change that is in it
	Models  []cluster.Model `json:"models"`
	Keys    []cluster.Key   `json:"keys"`
}

// RestoreReply says what became of a backup.
type RestoreReply struct {
	Models  []string         `json:"models"`  // names that are known now
	Keys    []string         `json:"keys"`    // ids that are known now
	Refused []RestoreRefusal `json:"refused"` // what is not, and why
}

// RestoreRefusal is a model or a key that could not be restored.
type RestoreRefusal struct {
	Model  string `json:"model,omitempty"`
	Key    string `json:"key,omitempty"`
	Reason string `json:"reason"`
}

// Model is a model of the cluster and where its layers are.
type Model struct {
	Name    string `json:"name"`
	Digest  string `json:"digest"`
	Arch    string `json:"arch"`
	Layers  int    `json:"layers"`
	Hidden  int    `json:"hidden,omitempty"`
	Vocab   int    `json:"vocab,omitempty"`
	Context int    `json:"context"`
	Bytes   int64  `json:"bytes"` // of all blobs
	Created int64  `json:"created"`
	// Ready says that at least one replica serves.
	Ready bool `json:"ready"`
	// Problem says why it has fewer replicas than asked for, and what to do.
	Problem  string    `json:"problem,omitempty"`
	Replicas []Replica `json:"replicas"`
	Blobs    []Blob    `json:"blobs,omitempty"` // only where one model is asked for
}

// Replica is one pipeline of a model.
type Replica struct {
	Epoch  uint64 `json:"epoch"`
	Phase  string `json:"phase"` // planned, loading, ready, draining or gone
	Reason string `json:"reason,omitempty"`
	Hops   []Hop  `json:"hops"`
}

// Hop is a node and the layers it holds, First inclusive, End exclusive.
type Hop struct {
	Node  string `json:"node"`
	First int    `json:"first"`
	End   int    `json:"end"`
	Ready bool   `json:"ready"`
	// Standby is the node that keeps the same parts on its disk; empty: there is none.
	Standby string `json:"standby,omitempty"`
}

// Blob is a part of a model, addressed by its content.
type Blob struct {
	Name   string `json:"name"`   // meta, embed, layer.N, head
	Digest string `json:"digest"` // sha256:hex
	Size   int64  `json:"size"`
}

// ModelsReply is GET /v1/cluster/models, and with one element GET /v1/cluster/models/{name}.
type ModelsReply struct {
	Models []Model `json:"models"`
}

// TokenRequest is the body of POST /v1/cluster/tokens.
type TokenRequest struct {
	// Seconds is how long the token may be used; 0 is an hour.
	Seconds int64 `json:"seconds,omitempty"`
}

// TokenReply answers it.
type TokenReply struct {
	Join    string `json:"join"` // HOST:PORT/TOKEN@sha256:PIN, what `lamina join` takes
	Expires int64  `json:"expires"`
}

// Key is an API key as the cluster knows it: never the secret.
type Key struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"` // whose it is
	Role    string `json:"role"`           // admin or user
	Created int64  `json:"created,omitempty"`
}

// KeysReply is GET /v1/cluster/keys.
type KeysReply struct {
	Keys []Key `json:"keys"`
}

// KeyRequest is the body of POST /v1/cluster/keys.
type KeyRequest struct {
	Name string `json:"name,omitempty"`
	Role string `json:"role"`
}

// KeyReply answers it. Secret is shown this once: the cluster keeps only its hash.
type KeyReply struct {
	Key    Key    `json:"key"`
	Secret string `json:"secret"`
}

// BlobReply says whether a node holds a blob.
type BlobReply struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// DoneReply answers what has nothing else to say.
type DoneReply struct {
	Done bool `json:"done"`
}
