// Package node wires one peer: identity, the peer port, the blob store, consensus, gossip, the pipeline's stages and
// the way in for users. It is the rim around pure cores: what is decided is decided in cluster, router and shard.
package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"lamina/node/peer"
)

// Config holds all settings of a node. Default gives values that form a working one-node cluster; New copies it,
// and changing it later has no effect.
type Config struct {
	// Name of the node, unique in the cluster: lower-case letters, digits, dot, dash and underscore. Default: the host name.
	Name string
	// Data is the folder for identity, agreed state and blobs. It belongs to one node.
	Data string
	// Peer is the address other nodes reach this one at, host:port; TCP and UDP. The host must be one address, not 0.0.0.0.
	Peer string
	// HTTP is the address clients reach this node at, host:port. Off loopback every request needs a key.
	HTTP string
	// Memory is how many bytes weights and KV caches may take; 0 means 80 % of what is free at the start.
	Memory int64
	// Threads is the size of the team that computes; 0 means the CPUs this process may use.
	Threads int
	// OTLP is the base URL of an OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318. Empty: no traces.
	OTLP string
	// Join is the join string of a node of the cluster (HOST:PORT/TOKEN@sha256:PIN); empty for the first node.
	// It is used only when Data holds no identity yet.
	Join string
	// Version is told to other nodes and clients.
	Version string
	// Log receives what happens; default: discard.
	Log *slog.Logger

	// Network makes the connections between nodes; nil: TCP and UDP of the operating system.
	Network peer.Network

	// DeadAfter is how long a node must be silent before its layers are placed elsewhere. A restart is shorter.
	DeadAfter time.Duration
	// DrainAfter is how long a replaced pipeline may finish what it runs.
	DrainAfter time.Duration
	// StopAfter bounds how long running answers may go on when the node is told to stop.
	StopAfter time.Duration
}

// Default returns the settings of a node with nothing configured.
func Default() Config {
	return Config{
		Name:       defaultName(),
		Data:       DefaultData(),
		Peer:       "127.0.0.1:7946",
		HTTP:       "127.0.0.1:8080",
		Version:    Version(),
		DeadAfter:  10 * time.Second,
		DrainAfter: time.Minute,
		StopAfter:  20 * time.Second,
	}
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// ErrConfig: a setting cannot work; the text names it and what to do.
var ErrConfig = errors.New("configuration")

// Validate checks the settings and names the first that cannot work.
func (c Config) Validate() error {
	if !nameForm.MatchString(c.Name) {
		return fmt.Errorf("%w: name %q: use 1 to 63 lower-case letters, digits, '.', '-' and '_', beginning with a letter or digit", ErrConfig, c.Name)
	}
	if c.Data == "" {
		return fmt.Errorf("%w: no data folder; give --data", ErrConfig)
	}
	host, err := splitAddr("peer", c.Peer)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("%w: peer %q: give the address at which the other machines reach this one, not all of its addresses", ErrConfig, c.Peer)
	}
	if _, err := splitAddr("http", c.HTTP); err != nil {
		return err
	}
	if c.Memory < 0 {
		return fmt.Errorf("%w: memory is %d bytes; it must not be negative", ErrConfig, c.Memory)
	}
	if c.Threads < 0 || c.Threads > 1024 {
		return fmt.Errorf("%w: threads is %d; use 0 (all CPUs) to 1024", ErrConfig, c.Threads)
	}
	if c.OTLP != "" && !strings.HasPrefix(c.OTLP, "http://") && !strings.HasPrefix(c.OTLP, "https://") {
		return fmt.Errorf("%w: otlp %q: give a URL such as http://127.0.0.1:4318", ErrConfig, c.OTLP)
	}
	return nil
}

func splitAddr(what, addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		var n int
		if n, err = strconv.Atoi(port); err == nil && (n < 0 || n > 65535) {
			err = errors.New("port out of range")
		}
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s %q: give HOST:PORT (%w)", ErrConfig, what, addr, err)
	}
	return host, nil
}

// DefaultData is the data folder of a node that names none.
func DefaultData() string {
	if d := os.Getenv("XDG_DATA_HOME"); d != "" {
		return filepath.Join(d, "lamina")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "lamina-data"
	}
	return filepath.Join(home, ".local", "share", "lamina")
}

func defaultName() string {
	h, err := os.Hostname()
	if err != nil {
		return "node"
	}
	h = strings.ToLower(h)
	if len(h) > 63 {
		h = h[:63]
	}
	if !nameForm.MatchString(h) {
		return "node"
	}
	return h
}

// Version is the version this program was built from, as the Go toolchain recorded it.
func Version() string {
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := bi.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range bi.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "dev-" + s.Value[:12]
		}
	}
	return "dev"
}
