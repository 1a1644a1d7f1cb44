package trace

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	api "go.opentelemetry.io/otel/trace"

	"lamina/shard/pipeline"
)

// Events returns the functions that turn what the stages of this node do into spans of the request's trace: one for
// each chunk of a prompt, and one for all decoding steps together. A span for each token would cost more than it
// tells; the sums of queue, compute and wire time say where the time went.
func (t *Tracer) Events() pipeline.Events {
	if t.provider == nil {
		return pipeline.Events{}
	}
	return pipeline.Events{Chunk: t.chunk, Closed: t.closed}
}

func (t *Tracer) remote(traceparent string) (context.Context, bool) {
	if traceparent == "" {
		return nil, false
	}
	ctx := t.prop.Extract(context.Background(), propagation.MapCarrier{"traceparent": traceparent})
	return ctx, api.SpanContextFromContext(ctx).IsValid()
}

func (t *Tracer) chunk(at pipeline.StageInfo, c pipeline.ChunkStats) {
	ctx, ok := t.remote(at.Trace)
	if !ok {
		return
	}
	_, sp := t.tracer.Start(ctx, "prefill", api.WithTimestamp(c.Start.Add(-c.Queue)), api.WithAttributes(stage(at)...))
	sp.SetAttributes(attribute.Int("lamina.position", c.Pos), attribute.Int("lamina.rows", c.Count), ms("lamina.queue_ms", c.Queue), ms("lamina.compute_ms", c.Compute))
	sp.End(api.WithTimestamp(c.End))
}

func (t *Tracer) closed(at pipeline.StageInfo, d pipeline.DecodeStats) {
	ctx, ok := t.remote(at.Trace)
	if !ok {
		return
	}
	first, last := d.First, d.Last
	if first.IsZero() {
		first = time.Now()
		last = first
	}
	_, sp := t.tracer.Start(ctx, "decode", api.WithTimestamp(first), api.WithAttributes(stage(at)...))
	sp.SetAttributes(attribute.Int("lamina.tokens", d.Tokens), ms("lamina.queue_ms", d.Queue), ms("lamina.compute_ms", d.Compute), attribute.String("lamina.outcome", d.Outcome.String()))
	if at.Index == 0 {
		sp.SetAttributes(ms("lamina.wire_ms", d.Wire), attribute.Int("lamina.guesses", d.Guesses), attribute.Int("lamina.guesses_right", d.Right))
	}
	if d.Outcome == pipeline.OutcomeFailed {
		sp.SetStatus(codes.Error, "the sequence failed at this stage")
	}
	sp.End(api.WithTimestamp(last))
}

func stage(at pipeline.StageInfo) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("lamina.node", at.Node), attribute.String("lamina.model", at.Model), attribute.Int("lamina.stage", at.Index),
		attribute.Int("lamina.first_layer", at.First), attribute.Int("lamina.end_layer", at.End),
	}
}

func ms(key string, d time.Duration) attribute.KeyValue {
	return attribute.Float64(key, float64(d)/1e6)
}
