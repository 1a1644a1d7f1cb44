package consensus

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestLoggerWritesToSlog(t *testing.T) {
	var b bytes.Buffer
	drop := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	var l hclog.Logger = newLogger(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: drop})))
	l.Debug("hidden")
	l.Trace("hidden")
	l.Info("started", "servers", 3)
	l.Named("a").Named("b").With("peer", "n2").Warn("slow", "by", hclog.Fmt("%d ms", 5))
	l.ResetNamed("c").Error("broken")
	l.StandardLogger(nil).Print("a line")
	want := `level=WARN msg="raft.a.b: slow" peer=n2 by="5 ms"
level=ERROR msg="c: broken"
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	if l.IsDebug() || l.IsTrace() || l.IsInfo() || !l.IsWarn() || !l.IsError() || l.GetLevel() != hclog.Warn {
		t.Error("levels are not those of the handler")
	}
	if with := l.With("k", "v"); len(with.ImpliedArgs()) != 2 || with.Name() != "raft" {
		t.Error("implied arguments are lost")
	}
	if got := newLogger(slog.New(slog.DiscardHandler)).GetLevel(); got != hclog.Off {
		t.Errorf("a discarding logger is at %v", got)
	}
	if strings.Contains(b.String(), "hidden") {
		t.Error("debug shows")
	}
}

// A peer that is away makes a line now and then, not a hundred in a second, and hides nothing else.
func TestLoggerDoesNotRepeatItself(t *testing.T) {
	var b bytes.Buffer
	l := newLogger(slog.New(slog.NewTextHandler(&b, nil)))
	for range 100 {
		l.Error("failed to heartbeat to", "peer", "10.0.0.2:7946", "error", "refused")
		l.Error("failed to heartbeat to", "peer", "10.0.0.3:7946", "error", "refused")
	}
	l.Warn("something else")
	if got := strings.Count(b.String(), "\n"); got != 3 {
		t.Errorf("%d lines, want 3:\n%s", got, b.String())
	}
}
