package trace

import (
	"context"
	"log/slog"

	api "go.opentelemetry.io/otel/trace"
)

// LogHandler adds trace_id and span_id to records that are logged within a span, so that a log line leads to its trace.
func LogHandler(next slog.Handler) slog.Handler { return logHandler{next} }

type logHandler struct{ slog.Handler }

// Handle adds the ids of the span in ctx.
func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if sc := api.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the ids in derived handlers.
func (h logHandler) WithAttrs(a []slog.Attr) slog.Handler { return logHandler{h.Handler.WithAttrs(a)} }

// WithGroup keeps the ids in derived handlers.
func (h logHandler) WithGroup(g string) slog.Handler { return logHandler{h.Handler.WithGroup(g)} }
