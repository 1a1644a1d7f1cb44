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
	want := `level=INFO msg=started servers=3
level=WARN msg="a.b: slow" peer=n2 by="5 ms"
level=ERROR msg="c: broken"
level=INFO msg="a line"
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	if l.IsDebug() || l.IsTrace() || !l.IsInfo() || !l.IsWarn() || !l.IsError() || l.GetLevel() != hclog.Info {
		t.Error("levels are not those of the handler")
	}
	if with := l.With("k", "v"); len(with.ImpliedArgs()) != 2 || with.Name() != "" {
		t.Error("implied arguments are lost")
	}
	if got := newLogger(slog.New(slog.DiscardHandler)).GetLevel(); got != hclog.Off {
		t.Errorf("a discarding logger is at %v", got)
	}
	if strings.Contains(b.String(), "hidden") {
		t.Error("debug shows")
	}
}
