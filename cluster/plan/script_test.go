package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lamina/cluster"
	"lamina/cluster/internal/scripttest"
)

var update = flag.Bool("update", false, "rewrite golden files")

func hash(word string) string {
	sum := sha256.Sum256([]byte(word))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// shape is a model's sizes in bytes.
type shape struct {
	layers                       int
	layer, embed, head, meta, kv int64 // kv: per position and layer; the context is 64 positions
	tied                         bool
	stages, replicas             int
}

func defaultShape() shape {
	return shape{layers: 10, layer: 46, embed: 50, head: 50, meta: 1, kv: 1}
}

// model makes a valid manifest of that shape.
func (s shape) model(name string) cluster.Model {
	m := cluster.Model{Name: name, Arch: "llama", Layers: s.layers, Hidden: 8, Vocab: 50, Context: 64, KVBytes: s.kv, Tied: s.tied, Stages: s.stages, Replicas: s.replicas}
	add := func(blob string, size int64) {
		m.Blobs = append(m.Blobs, cluster.Blob{Name: blob, Digest: hash(name + blob), Size: size})
	}
	add(cluster.BlobMeta, s.meta)
	add(cluster.BlobEmbed, s.embed)
	for l := range s.layers {
		add(cluster.LayerBlob(l), s.layer)
	}
	add(cluster.BlobHead, s.head)
	m.Digest = m.ManifestDigest()
	return m
}

// world is a state, what is live, a log index and a clock.
type world struct {
	state cluster.State
	live  map[cluster.NodeID]Live
	index uint64
	now   time.Time
}

func newWorld() *world {
	return &world{live: map[cluster.NodeID]Live{}, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func (w *world) apply(c cluster.Command) error {
	w.index++
	next, err := w.state.Apply(w.index, c)
	w.state = next
	return err
}

func (w *world) must(t *testing.T, c cluster.Command) {
	t.Helper()
	if err := w.apply(c); err != nil {
		t.Fatal(err)
	}
}

// plan runs Plan, applies what it says, and writes it down.
func (w *world) plan(t *testing.T) string {
	t.Helper()
	var out []string
	for _, c := range Plan(w.state, w.live, w.now) {
		w.must(t, c)
		switch c := c.(type) {
		case cluster.Place:
			line := fmt.Sprintf("place %d %s:", w.index, w.name(c.Model))
			for _, h := range c.Hops {
				line += fmt.Sprintf(" %s[%d:%d]", h.Node, h.First, h.End)
			}
			if c.Replaces != 0 {
				line += fmt.Sprintf(" replaces %d", c.Replaces)
			}
			out = append(out, line+" ("+c.Reason+")")
		case cluster.Drop:
			out = append(out, fmt.Sprintf("drop %d (%s)", c.Epoch, c.Reason))
		case cluster.Drain:
			out = append(out, fmt.Sprintf("drain %d (%s)", c.Epoch, c.Reason))
		}
	}
	if len(out) == 0 {
		return "nothing to do"
	}
	return strings.Join(out, "\n")
}

func (w *world) name(digest string) string {
	m, _ := w.state.ModelByDigest(digest)
	return m.Name
}

// ready makes every hop of every active placement ready.
func (w *world) ready(t *testing.T) {
	t.Helper()
	for _, p := range w.state.Placements {
		for _, h := range p.Hops {
			m, ok := w.state.Member(h.Node)
			if now, _ := w.state.Placement(p.Epoch); ok && !m.Down && now.Phase.Active() {
				w.must(t, cluster.HopReady{Epoch: p.Epoch, Node: h.Node, Incarnation: m.Incarnation, At: w.now})
			}
		}
	}
}

func (w *world) show() string {
	var out []string
	for _, p := range w.state.Placements {
		line := fmt.Sprintf("%d %s %s:", p.Epoch, w.name(p.Model), p.Phase)
		for _, h := range p.Hops {
			line += fmt.Sprintf(" %s[%d:%d]", h.Node, h.First, h.End)
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// parseShape reads key=value words.
func parseShape(t *testing.T, words []string) shape {
	t.Helper()
	s := defaultShape()
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil && key != "tied" {
			t.Fatal(w, err)
		}
		switch key {
		case "layers":
			s.layers = int(n)
		case "layer":
			s.layer = n
		case "embed":
			s.embed = n
		case "head":
			s.head = n
		case "kv":
			s.kv = n
		case "tied":
			s.tied = true
		case "stages":
			s.stages = int(n)
		case "replicas":
			s.replicas = int(n)
		default:
			t.Fatal("unknown word ", w)
		}
	}
	return s
}

func (w *world) run(t *testing.T, line string) string {
	t.Helper()
	f := strings.Fields(line)
	switch f[0] {
	case "node": // name memory speed
		memory, _ := strconv.ParseInt(f[2], 10, 64)
		speed, _ := strconv.ParseFloat(f[3], 64)
		w.live[f[1]] = Live{Memory: memory, Rates: Rates{One: speed}, Alive: true}
		w.must(t, cluster.MemberUp{Member: cluster.Member{ID: f[1], Peer: f[1], Incarnation: 1}, At: w.now})
	case "at": // name x y net: where it is, in nanoseconds
		l := w.live[f[1]]
		for i, word := range f[2:] {
			v, _ := strconv.ParseFloat(word, 64)
			if i < 2 {
				l.Where[i] = v
			} else {
				l.Net = v
			}
		}
		w.live[f[1]] = l
	case "measured": // name model one eight many sequences
		var v [4]float64
		for i, word := range f[3:] {
			v[i], _ = strconv.ParseFloat(word, 64)
		}
		m, _ := w.state.Model(f[2])
		l := w.live[f[1]]
		l.Models = maps.Clone(l.Models)
		if l.Models == nil {
			l.Models = map[string]Measured{}
		}
		l.Models[m.Digest] = Measured{Rates{v[0], v[1], v[2]}, v[3]}
		w.live[f[1]] = l
	case "dead", "alive":
		l := w.live[f[1]]
		l.Alive = f[0] == "alive"
		w.live[f[1]] = l
	case "silent", "heard":
		l := w.live[f[1]]
		l.Silent = f[0] == "silent"
		w.live[f[1]] = l
	case "unknown":
		delete(w.live, f[1])
	case "drainnode":
		w.must(t, cluster.DrainNode{Node: f[1], Off: len(f) > 2, At: w.now})
	case "down":
		w.must(t, cluster.MemberDown{Node: f[1], Incarnation: 1, At: w.now})
	case "restart":
		w.must(t, cluster.MemberUp{Member: cluster.Member{ID: f[1], Peer: f[1], Incarnation: 2}, At: w.now})
	case "model":
		w.now = w.now.Add(time.Second)
		w.must(t, cluster.AddModel{Model: parseShape(t, f[2:]).model(f[1]), At: w.now})
	case "fits":
		if err := Fits(w.state, parseShape(t, f[2:]).model(f[1]), w.live, w.now); err != nil {
			return err.Error()
		}
		return "fits"
	case "problems":
		out := "none"
		for i, p := range Problems(w.state, w.live, w.now) {
			if i == 0 {
				out = ""
			}
			out += fmt.Sprintf("%s has %d of %d: %v\n", p.Model, p.Have, p.Want, p.Err)
		}
		return out
	case "failed": // epoch node
		epoch, _ := strconv.ParseUint(f[1], 10, 64)
		w.must(t, cluster.HopFailed{Epoch: epoch, Node: f[2], Incarnation: 1, Reason: "disk", At: w.now})
	case "wait":
		n, _ := strconv.Atoi(f[1])
		w.now = w.now.Add(time.Duration(n) * time.Second)
	case "drop":
		epoch, _ := strconv.ParseUint(f[1], 10, 64)
		w.must(t, cluster.Drop{Epoch: epoch, At: w.now})
	case "ready":
		w.ready(t)
	case "plan":
		return w.plan(t)
	case "show":
		return w.show()
	default:
		t.Fatal("unknown line ", line)
	}
	return ""
}

// TestScripts runs the scripts; `new` begins with an empty cluster.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			w := newWorld()
			scripttest.Run(t, path, *update, func(cmd string) string {
				var out []string
				for _, line := range strings.Split(cmd, "\n") {
					if line == "new" {
						w = newWorld()
					} else if got := w.run(t, line); got != "" {
						out = append(out, strings.TrimSpace(got))
					}
				}
				return strings.Join(out, "\n")
			})
		})
	}
}
