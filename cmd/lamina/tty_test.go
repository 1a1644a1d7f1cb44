//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lamina/node/api"
)

// openPTY opens a pair of pseudo-terminals.
func openPTY(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	need(t, err == nil, "no pseudo-terminals here: %v", err)
	t.Cleanup(func() { ours.Close() })
	raw, err := ours.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n, ctlErr := 0, error(nil)
	if err := raw.Control(func(fd uintptr) {
		if ctlErr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); ctlErr == nil {
			n, ctlErr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil || ctlErr != nil {
		t.Fatal(err, ctlErr)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// screen gathers what the program writes and waits for parts of it.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (s *screen) read(f *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		s.mu.Lock()
		s.text.Write(buf[:n])
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// await waits until the text after what was awaited before has want, and drops it up to there.
func (s *screen) await(t *testing.T, want string) {
	t.Helper()
	end := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		at := strings.Index(s.text.String(), want)
		if at >= 0 {
			s.text.Next(at + len(want))
		}
		rest := s.text.String()
		s.mu.Unlock()
		if at >= 0 {
			return
		}
		select {
		case <-s.more:
		case <-end:
			t.Fatalf("%q does not come; there is %q", want, rest)
		}
	}
}

// At a terminal Ctrl-C stops the answer and not the program, a chat remembers, and at the prompt Ctrl-C drops the line.
func TestChatAtATerminal(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the program; not with -short")
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{}, 1)
	var mu sync.Mutex
	var seen []api.GenerateRequest
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q api.GenerateRequest
		body := new(bytes.Buffer)
		_, _ = body.ReadFrom(r.Body)
		if err := api.JSON.Unmarshal(body.Bytes(), &q); err != nil {
			t.Error(err)
		}
		mu.Lock()
		seen = append(seen, q)
		first := len(seen) == 1
		mu.Unlock()
		for _, e := range []api.GenerateEvent{{Type: api.EventStart}, {Type: api.EventText, Text: "part of it"}} {
			b, _ := api.JSON.AppendEvent(nil, e, false)
			_, _ = w.Write(b)
		}
		_ = http.NewResponseController(w).Flush()
		if first { // the first answer has no end
			<-r.Context().Done()
			gone <- struct{}{}
			return
		}
		b, _ := api.JSON.AppendEvent(nil, api.GenerateEvent{Type: api.EventEnd, FinishReason: "stop"}, false)
		_, _ = w.Write(b)
	}))
	defer web.Close()

	ours, theirs := openPTY(t)
	cmd := exec.Command(bin, "run", "m", "--addr", web.URL, "--data", t.TempDir())
	cmd.Env = append(cleanEnv(), "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	s := &screen{more: make(chan struct{}, 1)}
	go s.read(ours) // ends when the program has closed its end
	keys := func(text string) {
		if _, err := ours.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	s.await(t, ">>> ")
	keys("Hello\r")
	s.await(t, "part of it")
	keys("\x03")
	select {
	case <-gone:
	case <-time.After(30 * time.Second):
		t.Fatal("the node does not learn that the answer was stopped")
	}
	s.await(t, ">>> ")
	keys("nonsense\x03")
	keys("and now?\r")
	s.await(t, "part of it")
	s.await(t, ">>> ")
	keys("/bye\r")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the program ends with %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 2 {
		t.Fatalf("%d requests", len(seen))
	}
	var said []string
	for _, m := range seen[1].Messages {
		said = append(said, m.Role+": "+m.Content)
	}
	if got := strings.Join(said, "|"); got != "user: Hello|assistant: part of it|user: and now?" {
		t.Errorf("the second question came with %q", got)
	}
}
