package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestOldSnapshotsLoad reads the states that older programs wrote. A file is never changed; a new version
// of the encoding adds one.
func TestOldSnapshotsLoad(t *testing.T) {
	s := sampleState(t)
	oldSnapshot(t, "testdata/state.v1.json", s)
	drained, err := s.Apply(s.Index+1, DrainNode{Node: "n1", At: time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	oldSnapshot(t, "testdata/state.v2.json", drained)
	if data, err := s.Encode(); err != nil || !bytes.HasPrefix(data, []byte(`{"version":1,`)) {
		t.Errorf("a state without anything new is not written as version 1: %.20s %v", data, err)
	}
}

func oldSnapshot(t *testing.T, path string, s State) {
	t.Helper()
	if *update {
		if _, err := os.Stat(path); err != nil {
			data, err := s.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeState(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, s) {
		t.Errorf("%s reads as\n%+v\nwant\n%+v", path, got, s)
	}
}

// sampleState has something of everything.
func sampleState(t *testing.T) State {
	s := &session{}
	for _, line := range []string{
		"settings lab ca", "up n1 100 v1", "up n2 200 v1", "add m 3 salt 2 1", "place m n1:0-1 n2:1-3",
		"ready 5 n1 100", "ready 5 n2 200", "place m n1:0-3 replaces=5", "failed 8 n1 100 no memory",
		"token t 3600", "token u 3600", "usetoken u n2", "key k secret admin", "down n2 200",
	} {
		if out := s.run(line); !strings.HasSuffix(out, " ok") {
			t.Fatalf("%s: %s", line, out)
		}
	}
	return s.state
}

func TestDecodeStateRefuses(t *testing.T) {
	for _, data := range []string{
		"", "null", "{}", "[]", `{"version":0,"state":{}}`, `{"version":3,"state":{}}`,
		`{"version":1,"state":{"later":1}}`, `{"version":1,"state":{}}{}`, `{"version":1,"state":{"index":-1}}`,
	} {
		if s, err := DecodeState([]byte(data)); !errors.Is(err, ErrSnapshot) || !reflect.DeepEqual(s, State{}) {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// TestCommandEncoding pins the bytes of every kind: a log written today must be readable for ever.
func TestCommandEncoding(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	m := tinyModel("m", 1, "")
	m.Created, m.Origin, m.Stages, m.Replicas, m.Tied = at, "n1", 1, 2, true
	m.Digest = m.ManifestDigest()
	commands := []Command{
		MemberUp{Member{ID: "n1", Peer: "h:1", HTTP: "h:2", Version: "v1", Incarnation: 1 << 60, Joined: at, Since: at}, at},
		MemberDown{"n1", 7, at}, RemoveMember{"n1", at}, AddModel{m, at}, RemoveModel{"m", at},
		Place{m.Digest, []Hop{{Node: "n1", First: 0, End: 1}}, 3, "first", at},
		HopReady{4, "n1", 7, at}, HopFailed{4, "n1", 7, "disk", at}, Drain{4, "by hand", at}, Drop{4, "by hand", at},
		AddToken{hash("t"), at.Add(time.Hour), at}, UseToken{hash("t"), "n1", at},
		AddKey{Key{ID: "k", Hash: hash("s"), Role: Admin, Note: "ann", Created: at}, at}, RemoveKey{"k", at},
		SetSettings{Settings{ClusterID: "lab", CAPin: hash("ca"), Created: at}, at}, DrainNode{"n1", true, at},
	}
	var b bytes.Buffer
	for i, c := range commands {
		if c.Kind() != Kind(i+1) {
			t.Errorf("%T has kind %d, want %d", c, c.Kind(), i+1)
		}
		data, err := EncodeCommand(c)
		if err != nil {
			t.Fatalf("%T: %v", c, err)
		}
		back, err := DecodeCommand(data)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%T came back as %+v, %v", c, back, err)
		}
		fmt.Fprintf(&b, "%s\n", data)
	}
	path := filepath.Join("testdata", "commands.v1.jsonl")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Errorf("encoding changed; old logs could not be read. got\n%s", b.Bytes())
	}
}

func TestDecodeCommandRefuses(t *testing.T) {
	for data, want := range map[string]error{
		"":                                     ErrInvalid,
		"null":                                 ErrUnknownCommand,
		`{"v":1,"kind":1,"data":{}}x`:          ErrInvalid,
		`{"v":2,"kind":1,"data":{}}`:           ErrUnknownCommand,
		`{"v":1,"kind":0,"data":{}}`:           ErrUnknownCommand,
		`{"v":1,"kind":17,"data":{}}`:          ErrUnknownCommand,
		`{"v":1,"kind":9,"data":{"later":1}}`:  ErrUnknownCommand,
		`{"v":1,"kind":9,"data":{"epoch":-1}}`: ErrUnknownCommand,
		`{"v":1,"kind":9,"more":1}`:            ErrInvalid,
		strings.Repeat(" ", MaxCommand+1):      ErrInvalid,
	} {
		if _, err := DecodeCommand([]byte(data)); !errors.Is(err, want) {
			t.Errorf("%.60q: %v, want %v", data, err, want)
		}
	}
	if _, err := EncodeCommand(nil); !errors.Is(err, ErrInvalid) {
		t.Error("encoded nothing:", err)
	}
	if _, err := (State{}).Apply(1, nil); !errors.Is(err, ErrInvalid) {
		t.Error("applied nothing:", err)
	}
	big := AddModel{tinyModel("m", 4096, ""), time.Unix(1, 0)}
	if _, err := EncodeCommand(big); err != nil {
		t.Error("the largest model does not fit into a command:", err)
	}
}

func TestSpanBlobs(t *testing.T) {
	m := tinyModel("m", 3, "")
	names := func(first, end int) string {
		var out []string
		for _, b := range m.SpanBlobs(first, end) {
			out = append(out, b.Name)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		first, end int
		tied       bool
		want       string
	}{
		{0, 3, false, "meta embed head layer.0 layer.1 layer.2"},
		{0, 1, false, "meta embed layer.0"},
		{1, 3, false, "meta head layer.1 layer.2"},
		{1, 3, true, "meta embed head layer.1 layer.2"},
		{1, 2, true, "meta layer.1"},
		{2, 2, false, ""}, {-1, 2, false, ""}, {2, 4, false, ""},
	} {
		m.Tied = c.tied
		if got := names(c.first, c.end); got != c.want {
			t.Errorf("[%d:%d] tied=%v: %q, want %q", c.first, c.end, c.tied, got, c.want)
		}
	}
}

func TestManifestDigestCoversContentOnly(t *testing.T) {
	m := tinyModel("m", 2, "")
	same := m
	same.Name, same.Stages, same.Replicas, same.Origin, same.Created = "other", 2, 3, "n1", time.Unix(5, 0)
	if same.ManifestDigest() != m.Digest {
		t.Error("digest depends on name or wishes")
	}
	for name, change := range map[string]func(*Model){
		"tied": func(m *Model) { m.Tied = true }, "context": func(m *Model) { m.Context++ },
		"blob": func(m *Model) { m.Blobs = append([]Blob{{"meta", hash("x"), 1}}, m.Blobs[1:]...) },
	} {
		other := tinyModel("m", 2, "")
		change(&other)
		if other.ManifestDigest() == m.Digest {
			t.Errorf("digest does not cover %s", name)
		}
		if err := other.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("a changed %s passes: %v", name, err)
		}
	}
}

// randomLine is a command over few names and epochs, so that many are accepted.
func randomLine(t *rapid.T) string {
	node := rapid.SampledFrom([]string{"n1", "n2", "n3"})
	n := func(max int) int { return rapid.IntRange(0, max).Draw(t, "n") }
	switch n(13) {
	case 0, 1, 2:
		return fmt.Sprintf("up %s %d v1", node.Draw(t, "node"), 1+n(2))
	case 3:
		return fmt.Sprintf("down %s %d", node.Draw(t, "node"), 1+n(2))
	case 4:
		return "removemember " + node.Draw(t, "node")
	case 5:
		return fmt.Sprintf("add m%d 2 salt%d 0 %d", n(1), n(1), n(2))
	case 6:
		return fmt.Sprintf("removemodel m%d", n(1))
	case 7:
		return fmt.Sprintf("place m%d %s:0-2 replaces=%d", n(1), node.Draw(t, "node"), n(40))
	case 8:
		return fmt.Sprintf("place m%d %s:0-1 %s:1-2", n(1), node.Draw(t, "node"), node.Draw(t, "node"))
	case 9, 10:
		return fmt.Sprintf("ready %d %s %d", n(40), node.Draw(t, "node"), 1+n(2))
	case 11:
		return fmt.Sprintf("failed %d %s %d disk", n(40), node.Draw(t, "node"), 1+n(2))
	case 12:
		return fmt.Sprintf("drop %d", n(40))
	}
	return fmt.Sprintf("drain %d", n(40))
}

func TestApplyProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := &session{}, &session{}
		for range rapid.IntRange(1, 60).Draw(t, "commands") {
			before := a.state
			frozen, err := before.Encode()
			if err != nil {
				t.Fatal(err)
			}
			line := randomLine(t)
			out := a.run(line)
			if again := b.run(line); again != out {
				t.Fatalf("%s: %q, then %q", line, out, again)
			}
			if after, _ := before.Encode(); !bytes.Equal(frozen, after) {
				t.Fatalf("%s wrote to the old state", line)
			}
			if strings.Contains(out, "refused") && !reflect.DeepEqual(before, a.state) {
				t.Fatalf("%s was refused and changed the state", line)
			}
			checkState(t, a.state, line)
			// A peer that starts from a snapshot goes on as one that has seen all.
			data, _ := a.state.Encode()
			restored, err := DecodeState(data)
			if err != nil || !reflect.DeepEqual(restored, a.state) {
				t.Fatalf("after %s the snapshot reads differently: %v", line, err)
			}
			b.state = restored
		}
	})
}

// checkState holds what is true of every state that can be reached.
func checkState(t *rapid.T, s State, line string) {
	gone := map[string]int{}
	for i, p := range s.Placements {
		if i > 0 && s.Placements[i-1].Epoch >= p.Epoch {
			t.Fatalf("after %s placements are out of order", line)
		}
		if p.Phase == Gone {
			gone[p.Model]++
			continue
		}
		m, ok := s.ModelByDigest(p.Model)
		if !ok || p.Hops[len(p.Hops)-1].End != m.Layers {
			t.Fatalf("after %s placement %d has no such model", line, p.Epoch)
		}
		ready := 0
		for _, h := range p.Hops {
			mem, ok := s.Member(h.Node)
			if !ok {
				t.Fatalf("after %s placement %d needs %s, which is no member", line, p.Epoch, h.Node)
			}
			if h.Ready {
				ready++
			}
			if h.Ready && mem.Down {
				t.Fatalf("after %s a hop on %s is ready though the node is down", line, h.Node)
			}
		}
		if (p.Phase == Ready) != (ready == len(p.Hops)) && p.Phase != Draining {
			t.Fatalf("after %s placement %d is %s with %d of %d hops", line, p.Epoch, p.Phase, ready, len(p.Hops))
		}
	}
	for model, n := range gone {
		if n > 1 {
			t.Fatalf("after %s %d gone placements of %s are kept", line, n, model)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	data, err := os.ReadFile("testdata/commands.v1.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range bytes.Split(data, []byte("\n")) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeCommand(data)
		if err != nil {
			return
		}
		s, err := State{}.Apply(1, c)
		if err != nil {
			return
		}
		if _, err := s.Encode(); err != nil {
			t.Fatalf("%T made a state that cannot be stored: %v", c, err)
		}
	})
}
