// Package trace is the only home of OpenTelemetry. It makes the spans of a node: the gateway's around a request, and
// the stages' from the events of the pipeline, all of one request under one trace, over the W3C context that the
// Open frame carries. Spans hold ids, counts and times; never a prompt or an answer.
package trace

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"lamina/node/infer"
)

// Config of a Tracer.
type Config struct {
	// Endpoint is the base URL of an OTLP/HTTP collector; "/v1/traces" is added if it has no path. Empty: no tracing.
	Endpoint string
	Node     string
	Version  string
	Log      *slog.Logger
}

// Tracer makes spans and exports them behind the work: a bounded queue that drops when the collector is slow or away.
type Tracer struct {
	tracer   api.Tracer
	provider *sdk.TracerProvider // nil: tracing is off
	prop     propagation.TextMapPropagator
}

var _ infer.Tracer = (*Tracer)(nil)

// New returns a Tracer. The collector need not be there: spans that cannot be sent are dropped.
func New(ctx context.Context, cfg Config) (*Tracer, error) {
	t := &Tracer{tracer: noop.NewTracerProvider().Tracer("lamina"), prop: propagation.TraceContext{}}
	if cfg.Endpoint == "" {
		return t, nil
	}
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("trace: collector %q is not a URL such as http://127.0.0.1:4318", cfg.Endpoint)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	if cfg.Log != nil {
		// The library knows one handler for the process; without it, it prints each failure to stderr.
		otel.SetErrorHandler(&exportErrors{log: cfg.Log})
	}
	exp, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithTimeout(5*time.Second),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: 15 * time.Second}))
	if err != nil {
		return nil, fmt.Errorf("trace: collector %s: %w", cfg.Endpoint, err)
	}
	t.provider = sdk.NewTracerProvider(
		sdk.WithBatcher(exp, sdk.WithBatchTimeout(500*time.Millisecond), sdk.WithMaxQueueSize(4096)),
		sdk.WithSampler(sdk.ParentBased(sdk.AlwaysSample())),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "lamina"),
			attribute.String("service.instance.id", cfg.Node),
			attribute.String("service.version", cfg.Version))))
	t.tracer = t.provider.Tracer("lamina")
	return t, nil
}

// exportErrors logs that spans are lost, now and then: a collector that is away fails every half second.
type exportErrors struct {
	log  *slog.Logger
	mu   sync.Mutex
	last time.Time
	lost int
}

// errorEvery is how often lost spans are told of.
const errorEvery = time.Minute

// Handle implements otel.ErrorHandler.
func (e *exportErrors) Handle(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost++
	if now := time.Now(); now.Sub(e.last) >= errorEvery {
		e.log.Warn("spans could not be sent to the collector; the node goes on without them", "err", err, "failures", e.lost)
		e.last, e.lost = now, 0
	}
}

// Close sends what is queued, for as long as ctx lasts.
func (t *Tracer) Close(ctx context.Context) error {
	if t.provider == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("trace: spans that were not sent are lost: %w", err)
	}
	return nil
}

// Start opens a span under the one in ctx.
func (t *Tracer) Start(ctx context.Context, name string, attrs ...slog.Attr) (context.Context, infer.Span) {
	if t.provider == nil {
		return ctx, off{}
	}
	ctx, sp := t.tracer.Start(ctx, name, api.WithAttributes(convert(attrs)...))
	return ctx, span{sp}
}

// Traceparent is the W3C context of the span in ctx, "" when it is not sampled.
func (t *Tracer) Traceparent(ctx context.Context) string {
	if sc := api.SpanContextFromContext(ctx); !sc.IsSampled() {
		return ""
	}
	c := propagation.MapCarrier{}
	t.prop.Inject(ctx, c)
	return c["traceparent"]
}

// Handler wraps the way in for users: a traceparent of the caller is taken up, and each request that may run a model is a span.
func (t *Tracer) Handler(next http.Handler) http.Handler {
	if t.provider == nil {
		return next
	}
	return otelhttp.NewHandler(next, "http",
		otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(t.prop),
		otelhttp.WithFilter(func(r *http.Request) bool { return r.Method == http.MethodPost }),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string {
			if r.Pattern != "" {
				return r.Pattern
			}
			return r.Method
		}))
}

// off is a span when tracing is off.
type off struct{}

func (off) Set(...slog.Attr) {}
func (off) End(error)        {}

type span struct{ api.Span }

// Set adds attributes.
func (s span) Set(attrs ...slog.Attr) { s.SetAttributes(convert(attrs)...) }

// End closes the span; an error marks it, by its text, which our errors keep free of content.
func (s span) End(err error) {
	if err != nil {
		s.SetStatus(codes.Error, err.Error())
	}
	s.Span.End()
}

func convert(attrs []slog.Attr) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(attrs))
	for _, a := range attrs {
		switch v := a.Value.Resolve(); v.Kind() {
		case slog.KindInt64:
			out = append(out, attribute.Int64(a.Key, v.Int64()))
		case slog.KindUint64:
			out = append(out, attribute.Int64(a.Key, int64(v.Uint64())))
		case slog.KindFloat64:
			out = append(out, attribute.Float64(a.Key, v.Float64()))
		case slog.KindBool:
			out = append(out, attribute.Bool(a.Key, v.Bool()))
		case slog.KindDuration:
			out = append(out, attribute.Float64(a.Key+"_ms", float64(v.Duration())/1e6))
		default:
			out = append(out, attribute.String(a.Key, v.String()))
		}
	}
	return out
}
