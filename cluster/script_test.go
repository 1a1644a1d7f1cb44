package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lamina/cluster/internal/scripttest"
)

var update = flag.Bool("update", false, "rewrite golden files")

// hash gives a digest that belongs to a word.
func hash(word string) string {
	sum := sha256.Sum256([]byte(word))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// tinyModel is a valid manifest of that many layers; salt makes another content.
func tinyModel(name string, layers int, salt string) Model {
	m := Model{Name: name, Arch: "llama", Layers: layers, Hidden: 64, Vocab: 256, Context: 512, KVBytes: 128}
	for _, b := range []string{BlobMeta, BlobEmbed, BlobHead} {
		m.Blobs = append(m.Blobs, Blob{b, hash(b + salt), 1000})
	}
	for l := range layers {
		m.Blobs = append(m.Blobs, Blob{LayerBlob(l), hash(LayerBlob(l) + salt), 4000})
	}
	m.Digest = m.ManifestDigest()
	return m
}

// session is a state with a log index and a clock that ticks a second per command.
type session struct {
	state State
	index uint64
}

func (s *session) now() time.Time {
	return time.Date(2026, 1, 1, 0, 0, int(s.index), 0, time.UTC)
}

// apply sends the command through its encoding, as the log does.
func (s *session) apply(c Command) string {
	s.index++
	data, err := EncodeCommand(c)
	if err == nil {
		c, err = DecodeCommand(data)
	}
	if err == nil {
		s.state, err = s.state.Apply(s.index, c)
	}
	if err != nil {
		return fmt.Sprintf("%d refused (%s): %v", s.index, ErrorCode(err), err)
	}
	return fmt.Sprintf("%d ok", s.index)
}

// run executes one line of a script.
func (s *session) run(line string) string {
	f := strings.Fields(line)
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	num := func(i int) uint64 { n, _ := strconv.ParseUint(arg(i), 10, 64); return n }
	s.index++
	at := s.now()
	s.index--
	switch f[0] {
	case "up":
		return s.apply(MemberUp{Member{ID: f[1], Peer: f[1] + ":7946", HTTP: f[1] + ":8080", Version: arg(3), Incarnation: num(2)}, at})
	case "down":
		return s.apply(MemberDown{f[1], num(2), at})
	case "removemember":
		return s.apply(RemoveMember{f[1], at})
	case "drainnode":
		return s.apply(DrainNode{f[1], arg(2) == "off", at})
	case "add":
		m := tinyModel(f[1], int(num(2)), arg(3))
		m.Stages, m.Replicas = int(num(4)), int(num(5))
		return s.apply(AddModel{m, at})
	case "removemodel":
		return s.apply(RemoveModel{f[1], at})
	case "place":
		return s.apply(s.place(f[1:], at))
	case "ready":
		return s.apply(HopReady{num(1), arg(2), num(3), at})
	case "failed":
		return s.apply(HopFailed{num(1), arg(2), num(3), strings.Join(f[4:], " "), at})
	case "drain":
		return s.apply(Drain{num(1), strings.Join(f[2:], " "), at})
	case "drop":
		return s.apply(Drop{num(1), strings.Join(f[2:], " "), at})
	case "token":
		return s.apply(AddToken{hash(f[1]), at.Add(time.Duration(num(2)) * time.Second), at})
	case "usetoken":
		return s.apply(UseToken{hash(f[1]), f[2], at})
	case "key":
		return s.apply(AddKey{Key{ID: f[1], Hash: hash(arg(2)), Role: Role(arg(3))}, at})
	case "removekey":
		return s.apply(RemoveKey{f[1], at})
	case "settings":
		return s.apply(SetSettings{Settings{ClusterID: f[1], CAPin: hash(arg(2))}, at})
	case "state":
		return s.print()
	}
	return "unknown line"
}

// place reads `model node:first-end ... [replaces=epoch]`.
func (s *session) place(f []string, at time.Time) Place {
	m, _ := s.state.Model(f[0])
	c := Place{Model: m.Digest, At: at}
	if m.Digest == "" {
		c.Model = hash(f[0])
	}
	for _, w := range f[1:] {
		if r, ok := strings.CutPrefix(w, "replaces="); ok {
			c.Replaces, _ = strconv.ParseUint(r, 10, 64)
			continue
		}
		var h Hop
		node, span, _ := strings.Cut(w, ":")
		h.Node = node
		fmt.Sscanf(span, "%d-%d", &h.First, &h.End)
		c.Hops = append(c.Hops, h)
	}
	return c
}

func (s *session) print() string {
	var b strings.Builder
	st := s.state
	if st.Settings.ClusterID != "" {
		fmt.Fprintf(&b, "cluster %s\n", st.Settings.ClusterID)
	}
	for _, m := range st.Members {
		fmt.Fprintf(&b, "node %s incarnation %d version %s", m.ID, m.Incarnation, m.Version)
		if m.Down {
			b.WriteString(" down")
		}
		if m.Draining {
			b.WriteString(" draining")
		}
		b.WriteString("\n")
	}
	for _, m := range st.Models {
		fmt.Fprintf(&b, "model %s %.12s layers %d stages %d replicas %d\n", m.Name, m.Digest, m.Layers, m.Stages, m.Replicas)
	}
	for _, p := range st.Placements {
		fmt.Fprintf(&b, "placement %d of %.12s %s since %d:", p.Epoch, p.Model, p.Phase, p.Since.Second())
		for _, h := range p.Hops {
			fmt.Fprintf(&b, " %s[%d:%d]", h.Node, h.First, h.End)
			if h.Ready {
				b.WriteString("+")
			}
		}
		if p.Replaces != 0 {
			fmt.Fprintf(&b, " replaces %d", p.Replaces)
		}
		if p.Reason != "" {
			fmt.Fprintf(&b, " (%s)", p.Reason)
		}
		b.WriteString("\n")
	}
	for _, f := range st.Failures {
		fmt.Fprintf(&b, "failure %s %d: %s\n", f.Node, f.Count, f.Reason)
	}
	for _, t := range st.Tokens {
		fmt.Fprintf(&b, "token %.12s used by %q\n", t.Hash, t.UsedBy)
	}
	for _, k := range st.Keys {
		fmt.Fprintf(&b, "key %s %s\n", k.ID, k.Role)
	}
	return b.String()
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			s := &session{}
			scripttest.Run(t, path, *update, func(cmd string) string {
				var out []string
				for _, line := range strings.Split(cmd, "\n") {
					out = append(out, s.run(line))
				}
				return strings.Join(out, "\n")
			})
		})
	}
}

func TestErrorsCrossTheWire(t *testing.T) {
	_, err := State{}.Apply(1, RemoveModel{"m", time.Unix(1, 0)})
	far := RemoteError(ErrorCode(err), err.Error())
	if !errors.Is(far, ErrNotFound) || far.Error() != err.Error() {
		t.Fatalf("%v became %v", err, far)
	}
	if far := RemoteError("later", "text"); far.Error() != "text" || ErrorCode(far) != "" {
		t.Fatalf("unknown code gave %v", far)
	}
}
