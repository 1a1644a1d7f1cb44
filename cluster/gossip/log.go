package gossip

import (
	"bytes"
	"context"
	"log/slog"

	"lamina/cluster/internal/quiet"
)

// logWriter turns memberlist's lines, "[LEVEL] memberlist: text", into records. Strangers' packets make a line each: they
// must not fill a disk, so the same is told once in a while.
type logWriter struct {
	log  *slog.Logger
	told *quiet.Lines
}

// Write implements io.Writer; every call is one line.
func (w logWriter) Write(line []byte) (int, error) {
	level, text := slog.LevelInfo, bytes.TrimSpace(line)
	for _, l := range []struct {
		mark  string
		level slog.Level
	}{{"[DEBUG] ", slog.LevelDebug}, {"[INFO] ", slog.LevelInfo}, {"[WARN] ", slog.LevelWarn}, {"[ERR] ", slog.LevelError}} {
		if rest, ok := bytes.CutPrefix(text, []byte(l.mark)); ok {
			level, text = l.level, rest
			break
		}
	}
	text = bytes.TrimPrefix(text, []byte("memberlist: "))
	if !w.log.Enabled(context.Background(), level) {
		return len(line), nil
	}
	if level < slog.LevelWarn {
		w.log.Log(context.Background(), level, "gossip: "+string(text))
		return len(line), nil
	}
	leave, missed := w.told.Again(string(text), "")
	switch {
	case leave:
	case missed > 0:
		w.log.Log(context.Background(), level, "gossip: "+string(text), "repeated", missed)
	default:
		w.log.Log(context.Background(), level, "gossip: "+string(text))
	}
	return len(line), nil
}
