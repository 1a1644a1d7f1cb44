package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"lamina/node/infer"
	"lamina/node/records"
)

// responseRun is one answer in progress or done: the object, and the events so far, by which any number of clients follow it. Every
// event is a function of the request and the tokens, so another node that runs the same record makes the same ones.
type responseRun struct {
	record records.Record // without Node
	req    infer.Request
	kept   bool

	mu      sync.Mutex
	obj     responseObject
	events  [][]byte // JSON; the index is the sequence number
	bytes   int64
	over    bool          // no event follows
	aborted bool          // it ended without an outcome: this node is stopping
	changed chan struct{} // closed at every change
	cancel  context.CancelCauseFunc
}

// responseEvent is one event. Fields that a type has not are left out.
type responseEvent struct {
	Type         string          `json:"type"`
	Sequence     int             `json:"sequence_number"`
	Response     *responseObject `json:"response,omitempty"`
	OutputIndex  *int            `json:"output_index,omitempty"`
	ContentIndex *int            `json:"content_index,omitempty"`
	ItemID       string          `json:"item_id,omitempty"`
	Item         *responseItem   `json:"item,omitempty"`
	Part         *responsePart   `json:"part,omitempty"`
	Delta        *string         `json:"delta,omitempty"`
	Text         *string         `json:"text,omitempty"`
	Logprobs     *[]struct{}     `json:"logprobs,omitempty"`
}

// errCancelled ends a response at a client's wish.
var errCancelled = errors.New("the response was cancelled")

func (s *Server) newRun(r *responseRequest, rec records.Record) (*responseRun, error) {
	req, err := r.request(s, rec)
	if err != nil {
		return nil, err
	}
	run := &responseRun{record: rec, req: req, kept: r.kept(), obj: r.newObject(rec, req), changed: make(chan struct{})}
	run.put(responseEvent{Type: "response.created", Response: run.copy()})
	if r.Background {
		run.put(responseEvent{Type: "response.queued", Response: run.copy()})
		run.obj.Status = statusInProgress
	}
	run.put(responseEvent{Type: "response.in_progress", Response: run.copy()})
	return run, nil
}

// copy is the object as it is now; the lock is held, or nobody else knows the run yet.
func (r *responseRun) copy() *responseObject {
	o := r.obj
	o.Output = slices.Clone(o.Output)
	for i := range o.Output {
		o.Output[i].Content = slices.Clone(o.Output[i].Content)
	}
	return &o
}

// object is the response as it is now.
func (r *responseRun) object() *responseObject {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.copy()
}

// put adds an event; the lock is held, or nobody else knows the run yet.
func (r *responseRun) put(e responseEvent) {
	e.Sequence = len(r.events)
	data, err := json.Marshal(e)
	if err != nil {
		return // strings and numbers: does not happen
	}
	r.events = append(r.events, data)
	r.bytes += int64(len(data)) + 48
	close(r.changed)
	r.changed = make(chan struct{})
}

// after returns the events that follow number n, whether there will be more, and a channel that is closed when that has changed.
func (r *responseRun) after(n int) (events [][]byte, over, aborted bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n+1 < len(r.events) {
		events = r.events[n+1:]
	}
	return events, r.over, r.aborted, r.changed
}

// size is what the run takes in memory, and whether it is over.
func (r *responseRun) size() (bytes int64, over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes + int64(len(r.record.Body)) + 1024, r.over
}

var zero = 0

// itemID is the id of the only item of output.
func (r *responseRun) itemID() string { return "msg_" + r.record.ID[len("resp_"):] }

// started implements sink.
func (r *responseRun) started(_ int, st infer.Started) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if want := r.record.Digest; want != "" && want != st.Digest {
		return modelChanged(st)
	}
	r.record.Digest = st.Digest
	item := responseItem{Type: "message", ID: r.itemID(), Status: statusInProgress, Role: "assistant", Content: []responsePart{}}
	part := responsePart{Type: "output_text", Annotations: []struct{}{}, Logprobs: []struct{}{}}
	r.put(responseEvent{Type: "response.output_item.added", OutputIndex: &zero, Item: &item})
	r.put(responseEvent{Type: "response.content_part.added", ItemID: item.ID, OutputIndex: &zero, ContentIndex: &zero, Part: &part})
	item.Content = []responsePart{part}
	r.obj.Output = []responseItem{item}
	return nil
}

// event implements sink.
func (r *responseRun) event(_ int, ev infer.Event) error {
	if ev.Text == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.obj.Output[0].Content[0].Text += ev.Text
	r.put(responseEvent{Type: "response.output_text.delta", ItemID: r.itemID(), OutputIndex: &zero, ContentIndex: &zero, Delta: &ev.Text, Logprobs: &[]struct{}{}})
	return nil
}

// finished implements sink.
func (r *responseRun) finished(_ int, res infer.Result) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	item := &r.obj.Output[0]
	r.obj.Status, item.Status = statusCompleted, statusCompleted
	if res.Finish == infer.FinishLength {
		r.obj.Status, item.Status = statusIncomplete, statusIncomplete
		r.obj.IncompleteDetails = &incompleteDetails{"max_output_tokens"}
	}
	part := item.Content[0]
	r.put(responseEvent{Type: "response.output_text.done", ItemID: item.ID, OutputIndex: &zero, ContentIndex: &zero, Text: &part.Text, Logprobs: &[]struct{}{}})
	r.put(responseEvent{Type: "response.content_part.done", ItemID: item.ID, OutputIndex: &zero, ContentIndex: &zero, Part: &part})
	r.put(responseEvent{Type: "response.output_item.done", OutputIndex: &zero, Item: item})
	u := &responseUsage{InputTokens: res.PromptTokens, OutputTokens: res.CompletionTokens, TotalTokens: res.PromptTokens + res.CompletionTokens}
	r.obj.Usage = u
	r.over = true
	r.put(responseEvent{Type: "response." + r.obj.Status, Response: r.copy()})
	return nil
}

// fail ends the run with an error, if it has not ended.
func (r *responseRun) fail(err error, f *fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.over = true
	if errors.Is(err, errDraining) { // no outcome: another node takes over from the record
		r.aborted = true
		close(r.changed)
		r.changed = make(chan struct{})
		return
	}
	kind := "response.failed"
	if r.obj.Status = statusFailed; errors.Is(err, errCancelled) {
		kind, r.obj.Status = "response.incomplete", statusCancelled // clients know no event of its own for this
	} else {
		r.obj.Error = &responseError{Code: f.code, Message: f.text}
	}
	for i := range r.obj.Output {
		r.obj.Output[i].Status = statusIncomplete
	}
	r.put(responseEvent{Type: kind, Response: r.copy()})
}

// stop cancels a run that is under way.
func (r *responseRun) stop() {
	r.mu.Lock()
	cancel := r.cancel
	r.mu.Unlock()
	if cancel != nil {
		cancel(errCancelled)
	}
}

// begin runs an answer on a goroutine of its own, which no client can end but by cancelling. It counts as a request in progress, beside
// the one that began it.
func (s *Server) begin(run *responseRun) error {
	if !s.places.take() {
		s.runs.drop(run)
		return s.full()
	}
	ctx, cancel := context.WithCancelCause(s.base)
	run.mu.Lock()
	run.cancel = cancel
	run.mu.Unlock()
	s.live.Add(1)
	go func() { // ends with the answer, which Shutdown ends
		defer s.live.Done()
		defer cancel(nil)
		defer s.places.give()
		ctx, stop := context.WithTimeoutCause(ctx, s.cfg.Limits.RequestTime, infer.ErrDeadline)
		defer stop()
		s.compute(ctx, run, run)
	}()
	return nil
}

// compute runs the answer into the sink, which is the run, or hands all on to it.
func (s *Server) compute(ctx context.Context, run *responseRun, out sink) error {
	x := &exchange{s: s, id: run.record.ID, begun: s.now()}
	g := group{s: s, x: x, out: out}
	err := g.one(ctx, 0, run.req)
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		err = cause
	}
	f, known := faultOf(err)
	if !known && !errors.Is(err, errCancelled) {
		s.cfg.Log.ErrorContext(ctx, "response failed", "response", run.record.ID, "err", err)
	}
	run.fail(err, f)
	return err
}

// foreground answers while the client waits, and ends with it.
func (s *Server) foreground(x *exchange, run *responseRun, stream bool) error {
	out := &foregroundSink{responseRun: run, x: x, full: stream}
	err := s.compute(x.r.Context(), run, out)
	if err != nil && (!out.begun || x.r.Context().Err() != nil || errors.Is(err, errGone)) {
		s.runs.drop(run) // who asks for it later has it from the record
		return err
	}
	if !stream {
		return x.reply(http.StatusOK, run.object())
	}
	if err := out.flush(); err != nil {
		return err
	}
	if run.isAborted() {
		panic(http.ErrAbortHandler) // the client must see that this is not the end
	}
	return nil
}

// foregroundSink is a run whose events go to the client that waits for it.
type foregroundSink struct {
	*responseRun
	x     *exchange
	full  bool
	begun bool
	sent  int
	buf   []byte
}

func (f *foregroundSink) started(i int, st infer.Started) error {
	if err := f.responseRun.started(i, st); err != nil {
		return err
	}
	f.x.w.Header().Set(routeHeader, st.Route)
	if f.kept {
		if shadow := f.x.s.cfg.Records.Keep(f.x.r.Context(), f.record); shadow != "" {
			f.x.w.Header().Set(shadowHeader, shadow)
		}
	}
	if !f.full {
		return nil
	}
	f.begun = true
	st2 := stream{x: f.x}
	if err := st2.begin(); err != nil {
		return err
	}
	return f.flush()
}

func (f *foregroundSink) event(i int, ev infer.Event) error {
	if err := f.responseRun.event(i, ev); err != nil {
		return err
	}
	return f.flush()
}

func (f *foregroundSink) finished(i int, res infer.Result) error {
	return f.responseRun.finished(i, res)
}

// flush sends what has not been sent.
func (f *foregroundSink) flush() error {
	if !f.full {
		return nil
	}
	events, _, _, _ := f.after(f.sent - 1)
	for _, e := range events {
		f.buf = appendResponseEvent(f.buf[:0], f.sent, e)
		f.sent++
		st := stream{x: f.x}
		if err := st.raw(f.buf); err != nil {
			return err
		}
	}
	return nil
}

// appendResponseEvent writes an event as clients read it: number, name, data.
func appendResponseEvent(dst []byte, n int, data []byte) []byte {
	var head struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(data, &head) // our own bytes
	dst = strconv.AppendInt(append(dst, "id: "...), int64(n), 10)
	dst = append(append(dst, "\nevent: "...), head.Type...)
	dst = append(append(dst, "\ndata: "...), data...)
	return append(dst, "\n\n"...)
}
