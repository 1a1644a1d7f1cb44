package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// These helpers run the program itself, in processes of its own: what crosses processes is tested across them.

// built says that binary was called.
var built atomic.Bool

// binary builds the program once for all tests of this run.
var binary = sync.OnceValues(func() (string, error) {
	built.Store(true)
	dir, err := os.MkdirTemp("", "lamina-e2e")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "lamina")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built.Load() {
		if path, err := binary(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

// required says that what is missing is a failure, not a reason to skip: CI sets it.
func required() bool { return os.Getenv("LAMINA_E2E") == "require" }

// need skips the test, or fails it where everything is required.
func need(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if ok {
		return
	}
	if required() {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// model returns the path of a real model.
func model(t *testing.T, file string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes on a real model; not with -short")
	}
	dir := os.Getenv("LAMINA_MODELS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "lamina", "models")
	}
	path := filepath.Join(dir, file)
	_, err := os.Stat(path)
	need(t, err == nil, "%s is not there; make models brings it", path)
	return path
}

const smollm2 = "SmolLM2-135M-Instruct.Q4_1.gguf"

// proc is a node in a process of its own.
type proc struct {
	t          *testing.T
	name       string
	data       string
	peer, http string
	args       []string
	cmd        *exec.Cmd
	log        *lockedBuffer
	done       chan struct{}
}

// freePort finds a port that is free for TCP and UDP on loopback.
func freePort(t *testing.T) string {
	t.Helper()
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		addr := l.Addr().String()
		l.Close()
		if err == nil {
			u.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// newProc prepares a node; start starts it.
func newProc(t *testing.T, name string, args ...string) *proc {
	p := &proc{t: t, name: name, data: filepath.Join(t.TempDir(), name), peer: freePort(t), http: freePort(t), args: args}
	t.Cleanup(p.kill)
	return p
}

// start runs the node and waits until it says that it is ready. The join string is for a first start only.
func (p *proc) start(join string) {
	p.t.Helper()
	bin, err := binary()
	if err != nil {
		p.t.Fatal(err)
	}
	args := []string{"up"}
	if join != "" {
		args = []string{"join", join}
	}
	args = append(args, "--name", p.name, "--data", p.data, "--peer", p.peer, "--http", p.http, "--memory", "1500000000", "--threads", "1")
	p.cmd = exec.Command(bin, append(args, p.args...)...)
	p.cmd.Env = cleanEnv()
	p.log = &lockedBuffer{}
	pipe, err := p.cmd.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ready := make(chan struct{})
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		p.read(pipe, ready)
		_ = p.cmd.Wait()
	}()
	select {
	case <-ready:
	case <-p.done:
		p.t.Fatalf("node %s ended at its start:\n%s", p.name, p.log)
	case <-time.After(60 * time.Second):
		p.t.Fatalf("node %s is not ready after a minute:\n%s", p.name, p.log)
	}
}

func (p *proc) read(r io.Reader, ready chan struct{}) {
	told := false
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		fmt.Fprintln(p.log, sc.Text())
		if !told && strings.HasPrefix(sc.Text(), "ready") {
			told = true
			close(ready)
		}
	}
}

// kill ends the process as a power cut does.
func (p *proc) kill() {
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
		p.cmd = nil
	}
}

// term asks the process to stop, and returns its exit code.
func (p *proc) term() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		p.t.Fatalf("node %s does not stop:\n%s", p.name, p.log)
	}
	code := p.cmd.ProcessState.ExitCode()
	p.cmd = nil
	return code
}

// cli runs a client command against this node and returns what it printed, with its error.
func (p *proc) cli(args ...string) (stdout, stderr string, err error) {
	return runCLI(p.t, append(cleanEnv(), "LAMINA_ADDR=http://"+p.http, "LAMINA_DATA="+p.data), args...)
}

// must is cli for what has to work.
func (p *proc) must(args ...string) string {
	p.t.Helper()
	out, errOut, err := p.cli(args...)
	if err != nil {
		p.t.Fatalf("lamina %s: %v\n%s%s\nlog of %s:\n%s", strings.Join(args, " "), err, out, errOut, p.name, p.log)
	}
	return out
}

func runCLI(t *testing.T, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = env
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// cleanEnv is the environment without what a developer may have set for a cluster of their own.
func cleanEnv() (env []string) {
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "LAMINA_") {
			env = append(env, kv)
		}
	}
	return env
}

// post sends JSON and decodes the answer; the header is the response's.
func (p *proc) post(path string, in, out any) (http.Header, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	resp, err := http.Post("http://"+p.http+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return resp.Header, fmt.Errorf("%s: %s", resp.Status, data)
	}
	return resp.Header, json.Unmarshal(data, out)
}

// cluster starts n nodes that know each other; all begin with n.
func startCluster(t *testing.T, n int, args ...string) []*proc {
	t.Helper()
	var ps []*proc
	for i := range n {
		p := newProc(t, fmt.Sprintf("n%d", i+1), args...)
		join := ""
		if i > 0 {
			join = strings.TrimSpace(ps[0].must("token", "create"))
		}
		p.start(join)
		ps = append(ps, p)
	}
	return ps
}

// lockedBuffer is a log that is written and read at once.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
