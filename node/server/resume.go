package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"lamina/node/infer"
	"lamina/node/records"
)

// A streamed answer outlives its gateway. Before its first byte the request is kept at two nodes; every event of the stream
// has a number; a client whose connection broke asks any node for the events after the last one it got. That node answers the
// request once more, with the same seed, and leaves out what the client has: the tokens are the same, since they are a function of
// model, prompt, settings and seed alone.

// recordLife is how long a request can be resumed, and recordBytes what the records of a node may take.
const (
	recordLife  = 10 * time.Minute
	recordBytes = 64 << 20
)

// shadowHeader names the node that keeps the request beside the one that answers.
const shadowHeader = "Lamina-Shadow"

// localRecords are those of a node that knows no others.
type localRecords struct{ *records.Store }

// Keep implements Records.
func (l localRecords) Keep(_ context.Context, r records.Record) string {
	r.Node = "local"
	_ = l.Put(r) // too large to be kept: then it cannot be resumed
	return ""
}

// Find implements Records.
func (l localRecords) Find(_ context.Context, owner, id string) (records.Record, bool) {
	return l.Get(owner, id)
}

// NewRecords returns a store as nodes have it.
func NewRecords() *records.Store { return records.New(recordLife, recordBytes, nil) }

// pin fixes what an answer shows besides its tokens, and its seed: for a new request they become part of its record, one that is
// resumed has them from there.
func (x *exchange) pin(seed *uint64, answer *string, created *int64) {
	if r := x.replay; r != nil {
		*seed, *answer, *created = r.Seed, r.Answer, r.Created
		return
	}
	if len(x.data) == 0 || len(x.data) > records.MaxBody {
		return
	}
	x.record = &records.Record{
		ID: x.id, Owner: x.who.Key, Route: x.r.URL.Path, Body: x.data, Type: x.dataType, Answer: *answer, Seed: *seed, Created: *created,
	}
}

// resumable says whether the events of this answer have numbers.
func (x *exchange) resumable() bool { return x.record != nil || x.replay != nil }

// modelChanged is the answer to who resumes what another content of the model had begun.
func modelChanged(st infer.Started) *fault {
	return newFault(http.StatusConflict, kindInvalid, "model_changed", "the model %q has another content now than when the request was made; send the request anew", st.Model)
}

// keep is called when an answer starts, before its first byte.
func (x *exchange) keep(st infer.Started) error {
	if r := x.replay; r != nil {
		if r.Digest != st.Digest {
			return modelChanged(st)
		}
		return nil
	}
	if x.record == nil {
		return nil
	}
	x.record.Digest = st.Digest
	if shadow := x.s.cfg.Records.Keep(x.r.Context(), *x.record); shadow != "" {
		x.w.Header().Set(shadowHeader, shadow)
	}
	return nil
}

// resume makes the handler of GET PATH/{id}: the events of a streamed request after those that the client has. The id is the
// X-Request-Id of the request; the key must be the same. The last event's number comes as Last-Event-ID or as starting_after.
func (s *Server) resume(path string, handle func(*exchange) error) func(*exchange) error {
	return func(x *exchange) error {
		after, err := x.lastEvent()
		if err != nil {
			return err
		}
		id := x.r.PathValue("id")
		r, ok := s.cfg.Records.Find(x.r.Context(), x.who.Key, id)
		if !ok && s.cfg.Behind != nil {
			if why := s.cfg.Behind(); why != nil {
				return starting(why)
			}
		}
		if !ok || r.Route != path {
			return newFault(http.StatusNotFound, kindInvalid, "request_not_found", "no streamed request %.80q of this key can be resumed: they are kept for %v at two nodes", id, recordLife)
		}
		x.replay, x.after, x.id = &r, after, r.ID
		x.w.Header().Set("X-Request-Id", r.ID)
		return handle(x)
	}
}

// lastEvent is the number of the last event that the client has; 0: it has none.
func (x *exchange) lastEvent() (int, error) {
	name, v := "Last-Event-ID", x.r.Header.Get("Last-Event-ID")
	if q := x.r.URL.Query().Get("starting_after"); q != "" {
		name, v = "starting_after", q
	}
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, invalid(name, "is %.40q; it must be the number of the last event that came, or absent", v)
	}
	return n, nil
}
