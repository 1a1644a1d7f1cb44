package consensus

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"

	"lamina/cluster/internal/quiet"
)

// logger is the hclog.Logger that raft wants, writing to a slog.Logger. Raft tells its every move: what is info to it is
// debug to an operator, who hears from this program who leads and who votes; and while a peer is away raft says so up to a
// hundred times a second, so the same about the same peer is told once in a while. Raft's trace is slog's debug
// minus four. Its level is slog's handler's to decide: SetLevel does nothing.
type logger struct {
	log  *slog.Logger
	name string
	args []any
	told *quiet.Lines
}

var _ hclog.Logger = (*logger)(nil)

func newLogger(l *slog.Logger) *logger {
	return &logger{log: l, name: "raft", told: quiet.New()}
}

const levelTrace = slog.LevelDebug - 4

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Trace:
		return levelTrace
	case hclog.Debug, hclog.Info:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	}
	return slog.LevelDebug
}

// Log implements hclog.Logger.
func (l *logger) Log(level hclog.Level, msg string, args ...any) {
	ctx, lv := context.Background(), slogLevel(level)
	if !l.log.Enabled(ctx, lv) {
		return
	}
	if l.name != "" {
		msg = l.name + ": " + msg
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			if text, ok := f[0].(string); ok {
				args[i] = fmt.Sprintf(text, f[1:]...)
			}
		}
	}
	if lv >= slog.LevelWarn {
		leave, missed := l.told.Again(msg, peerOf(args))
		if leave {
			return
		}
		if missed > 0 {
			args = append(args, "repeated", missed)
		}
	}
	l.log.Log(ctx, lv, msg, args...)
}

// peerOf is whom a line is about, "" if it names nobody.
func peerOf(args []any) string {
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == "peer" || args[i] == "node" {
			return fmt.Sprint(args[i+1])
		}
	}
	return ""
}

func (l *logger) enabled(level hclog.Level) bool {
	return l.log.Enabled(context.Background(), slogLevel(level))
}

// Trace implements hclog.Logger.
func (l *logger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }

// Debug implements hclog.Logger.
func (l *logger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }

// Info implements hclog.Logger.
func (l *logger) Info(msg string, args ...any) { l.Log(hclog.Info, msg, args...) }

// Warn implements hclog.Logger.
func (l *logger) Warn(msg string, args ...any) { l.Log(hclog.Warn, msg, args...) }

// Error implements hclog.Logger.
func (l *logger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

// IsTrace implements hclog.Logger.
func (l *logger) IsTrace() bool { return l.enabled(hclog.Trace) }

// IsDebug implements hclog.Logger.
func (l *logger) IsDebug() bool { return l.enabled(hclog.Debug) }

// IsInfo implements hclog.Logger.
func (l *logger) IsInfo() bool { return l.enabled(hclog.Info) }

// IsWarn implements hclog.Logger.
func (l *logger) IsWarn() bool { return l.enabled(hclog.Warn) }

// IsError implements hclog.Logger.
func (l *logger) IsError() bool { return l.enabled(hclog.Error) }

// ImpliedArgs implements hclog.Logger.
func (l *logger) ImpliedArgs() []any { return l.args }

// With implements hclog.Logger.
func (l *logger) With(args ...any) hclog.Logger {
	return &logger{l.log.With(args...), l.name, append(append([]any{}, l.args...), args...), l.told}
}

// Name implements hclog.Logger.
func (l *logger) Name() string { return l.name }

// Named implements hclog.Logger.
func (l *logger) Named(name string) hclog.Logger {
	if l.name != "" {
		name = l.name + "." + name
	}
	return l.ResetNamed(name)
}

// ResetNamed implements hclog.Logger.
func (l *logger) ResetNamed(name string) hclog.Logger { return &logger{l.log, name, l.args, l.told} }

// SetLevel implements hclog.Logger.
func (l *logger) SetLevel(hclog.Level) {}

// GetLevel implements hclog.Logger.
func (l *logger) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Trace, hclog.Info, hclog.Warn, hclog.Error} {
		if l.enabled(level) {
			return level
		}
	}
	return hclog.Off
}

// StandardLogger implements hclog.Logger.
func (l *logger) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(opts), "", 0)
}

// StandardWriter implements hclog.Logger: every write is a line at level info.
func (l *logger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineWriter{l} }

type lineWriter struct{ l *logger }

func (w lineWriter) Write(p []byte) (int, error) {
	w.l.Info(string(bytes.TrimRight(p, "\r\n")))
	return len(p), nil
}
