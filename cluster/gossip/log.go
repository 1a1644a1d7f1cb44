package gossip

import (
	"bytes"
	"context"
	"log/slog"
)

// logWriter turns memberlist's lines, "[LEVEL] memberlist: text", into records.
type logWriter struct{ log *slog.Logger }

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
	w.log.Log(context.Background(), level, "gossip: "+string(text))
	return len(line), nil
}
