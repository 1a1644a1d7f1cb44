// Package lamina holds the test of the layout: which folder may import which, and how long a file may get.
// There is no code in this folder.
package lamina

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// maxLines is the length a file may have that people write and read in one sitting.
const maxLines = 600

// A rule says what the packages under a folder may import besides the standard library and themselves.
// The longest matching folder decides. A change here needs a change in ARCHITECTURE.md in the same commit.
type rule struct {
	folder string
	may    []string // import path prefixes
	why    string
}

var rules = []rule{
	{"kernels/gen", nil, "the generator must build with nothing but a toolchain"},
	{"kernels", []string{"golang.org/x/sys/cpu", "golang.org/x/sys/unix"}, "arithmetic knows no models, peers or files"},
	{"shard", []string{"lamina/kernels", "lamina/shard", "golang.org/x/text", "golang.org/x/sys/unix"}, "a shard knows layers, tokens and tensors, not peers; it has no sockets and no telemetry"},
	{"cluster/gossip", []string{"lamina/cluster/gossip", "lamina/cluster/internal/quiet", "github.com/hashicorp/memberlist", "github.com/vmihailenco/msgpack", "github.com/hashicorp/go-metrics"}, "memberlist has one home"},
	{"cluster/consensus", []string{"lamina/cluster", "github.com/hashicorp/raft", "github.com/hashicorp/go-hclog", "github.com/hashicorp/go-metrics", "go.etcd.io/bbolt"}, "raft has one home"},
	{"cluster/plan", []string{"lamina/cluster"}, "a plan is a pure function of the state and the live members"},
	{"cluster", nil, "the agreed facts are plain values"},
	{"router", []string{"lamina/cluster", "github.com/cespare/xxhash"}, "a choice among peers needs the agreed facts and nothing else"},
	{"node/trace", []string{"lamina", "go.opentelemetry.io", "google.golang.org/grpc"}, "OpenTelemetry has one home"},
	{"node", []string{"lamina", "github.com/vmihailenco/msgpack", "github.com/hashicorp/memberlist", "github.com/hashicorp/raft", "github.com/prometheus/client_golang", "golang.org/x"}, "a node wires everything; heavy dependencies stay in their homes"},
	{"deploy/lab", nil, "the lab tests the program from outside: processes, sockets and the standard library"},
	{"cmd", []string{"lamina/node", "github.com/alecthomas/kong", "github.com/vbauerle/mpb", "golang.org/x/term", "golang.org/x/sys"}, "the program is flags and printing"},
}

// testOnly are imports that any test may have.
var testOnly = []string{"pgregory.net/rapid", "github.com/google/go-cmp", "lamina/shard/tiny", "lamina/shard/arch/tiny", "go.uber.org/goleak"}

var topFolders = map[string]bool{"node": true, "cluster": true, "shard": true, "kernels": true, "router": true, "cmd": true, "deploy": true, "docs": true}

func TestLayout(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" && !topFolders[e.Name()] {
			t.Errorf("%s/: not a top-level folder of the design (node, cluster, shard, kernels, router, cmd, deploy, docs)", e.Name())
		}
	}
	files := 0
	walkGo(t, func(path string, src []byte) {
		files++
		checkImports(t, path, src)
		if n := bytes.Count(src, []byte("\n")); n > maxLines && !bytes.Contains(src, []byte("DO NOT EDIT")) && !strings.HasSuffix(path, "_test.go") {
			t.Errorf("%s: %d lines; a file that people read has at most %d", path, n, maxLines)
		}
	})
	if files == 0 {
		t.Fatal("no Go files found: the test does not run at the root of the tree")
	}
}

func walkGo(t *testing.T, visit func(path string, src []byte)) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || !strings.Contains(path, "/") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err == nil {
			visit(filepath.ToSlash(path), src)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkImports(t *testing.T, path string, src []byte) {
	r, ok := ruleFor(path)
	if !ok {
		t.Errorf("%s: no Go code belongs into this folder", path)
		return
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	for _, im := range f.Imports {
		p, _ := strconv.Unquote(im.Path.Value)
		if stdlib(p) || hasPrefix(p, []string{"lamina/" + filepath.ToSlash(filepath.Dir(path))}) || hasPrefix(p, r.may) {
			continue
		}
		if strings.HasSuffix(path, "_test.go") && hasPrefix(p, testOnly) {
			continue
		}
		t.Errorf("%s imports %s: %s may import %v (%s)", path, p, r.folder, r.may, r.why)
	}
}

func ruleFor(path string) (rule, bool) {
	var best rule
	for _, r := range rules {
		if strings.HasPrefix(path, r.folder+"/") && len(r.folder) > len(best.folder) {
			best = r
		}
	}
	return best, best.folder != ""
}

func stdlib(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return first != "lamina" && !strings.Contains(first, ".")
}

func hasPrefix(p string, prefixes []string) bool {
	for _, x := range prefixes {
		if p == x || strings.HasPrefix(p, x+"/") {
			return true
		}
	}
	return false
}
