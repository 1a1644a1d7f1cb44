package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"lamina/node/api"
	"lamina/node/records"
)

// runs are the responses of this node, by owner and id: those under way, and those that ended less than recordLife ago, as long as all of
// them take no more than recordBytes; what was dropped is computed again from its record when it is asked for.
type runs struct {
	now func() time.Time

	mu    sync.Mutex
	byKey map[runKey]*responseRun
	age   []keptRun // oldest first
}

type runKey struct{ owner, id string }

type keptRun struct {
	run   *responseRun
	until time.Time // it is dropped after this if it is over
}

func newRuns(now func() time.Time) *runs {
	return &runs{byKey: make(map[runKey]*responseRun), now: now}
}

func (r *responseRun) key() runKey { return runKey{r.record.Owner, r.record.ID} }

// join keeps a run; one that is there under its name stays, and is returned.
func (r *runs) join(run *responseRun) *responseRun {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.byKey[run.key()]; old != nil {
		if !old.isAborted() {
			return old
		}
		r.remove(old)
	}
	r.tidy()
	r.byKey[run.key()] = run
	r.age = append(r.age, keptRun{run, r.now().Add(recordLife)})
	return run
}

// add keeps a new run.
func (r *runs) add(run *responseRun) error {
	if r.join(run) != run {
		return errors.New("an id was made twice") // 96 random bits
	}
	return nil
}

func (r *responseRun) isAborted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.aborted
}

func (r *runs) get(owner, id string) *responseRun {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tidy()
	return r.byKey[runKey{owner, id}]
}

func (r *runs) drop(run *responseRun) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byKey[run.key()] == run {
		r.remove(run)
	}
}

func (r *runs) remove(run *responseRun) {
	r.age = slices.DeleteFunc(r.age, func(k keptRun) bool { return k.run == run })
	delete(r.byKey, run.key())
}

// tidy drops ended runs whose time is over, and the oldest ended ones while all take too much. The lock is held.
func (r *runs) tidy() {
	now, sum := r.now(), int64(0)
	for i := len(r.age) - 1; i >= 0; i-- { // the newest have the first right to the room
		k := r.age[i]
		bytes, over := k.run.size()
		if sum += bytes; over && (sum > recordBytes || !now.Before(k.until)) {
			sum -= bytes
			r.remove(k.run)
		}
	}
}

// getResponse is GET /v1/responses/{id}: the object, or with stream=true its events after number starting_after.
func (s *Server) getResponse(x *exchange) error {
	after := -1
	if x.r.URL.Query().Has("starting_after") || x.r.Header.Get("Last-Event-ID") != "" {
		n, err := x.lastEvent()
		if err != nil {
			return err
		}
		after = n
	}
	streamed := x.r.URL.Query().Get("stream") == "true"
	run, rec, err := s.findRun(x)
	if err != nil {
		return err
	}
	if run == nil {
		var done bool
		if done, after, err = s.fromPeer(x, rec, streamed, after); done || err != nil {
			return err
		}
		if run, err = s.takeOver(x.r.Context(), rec); err != nil {
			if x.status != 0 {
				panic(http.ErrAbortHandler) // a part of it came from a node that is gone now; this is not the end
			}
			return err
		}
	}
	if streamed {
		return s.follow(x, run, after)
	}
	return x.reply(http.StatusOK, run.object())
}

// findRun finds the response here, or else its record. The latter may be of another node, or of one that is gone.
func (s *Server) findRun(x *exchange) (*responseRun, records.Record, error) {
	id := x.r.PathValue("id")
	if run := s.runs.get(x.who.Key, id); run != nil && !run.isAborted() {
		return run, records.Record{}, nil
	}
	rec, ok := s.cfg.Records.Find(x.r.Context(), x.who.Key, id)
	if ok && rec.Route == responsesPath {
		return nil, rec, nil
	}
	if s.cfg.Behind != nil {
		if why := s.cfg.Behind(); why != nil {
			return nil, rec, starting(why)
		}
	}
	return nil, rec, newFault(http.StatusNotFound, kindInvalid, "response_not_found", "no response %.80q of this key is known; responses are kept for %v", id, recordLife)
}

// takeOver runs a response again from its record: the node that ran it is gone, or has dropped it.
func (s *Server) takeOver(ctx context.Context, rec records.Record) (*responseRun, error) {
	var r responseRequest
	if err := api.DecodeJSON(rec.Body, &r, false); err != nil {
		return nil, err
	}
	run, err := s.newRun(&r, rec)
	if err != nil {
		return nil, err
	}
	if known := s.runs.join(run); known != run { // another client was faster
		return known, nil
	}
	s.cfg.Log.InfoContext(ctx, "a response is taken over", "response", rec.ID, "from", rec.Node)
	if err := s.begin(run); err != nil {
		return nil, err
	}
	s.cfg.Records.Keep(ctx, rec)
	return run, nil
}

// follow sends a run's events after a number until it is over or the client goes, which the run does not mind.
func (s *Server) follow(x *exchange, run *responseRun, after int) error {
	st := stream{x: x}
	if !st.begun() {
		if err := st.begin(); err != nil {
			return err
		}
	}
	var buf []byte
	for {
		events, over, aborted, changed := run.after(after)
		for _, e := range events {
			after++
			buf = appendResponseEvent(buf[:0], after, e)
			if err := st.raw(buf); err != nil {
				return err
			}
		}
		if aborted {
			panic(http.ErrAbortHandler) // the client must see that this is not the end
		}
		if over {
			return nil
		}
		select {
		case <-changed:
		case <-x.r.Context().Done():
			return nil
		}
	}
}

// cancelResponse is POST /v1/responses/{id}/cancel.
func (s *Server) cancelResponse(x *exchange) error {
	run, rec, err := s.findRun(x)
	if err != nil {
		return err
	}
	if run == nil {
		if resp, err := s.askPeer(x.r.Context(), rec, http.MethodPost, "/cancel", -1); err == nil {
			return x.relay(resp)
		}
		// Its node is gone, and nobody computes it: a run that is over before it begins says so from now on.
		var r responseRequest
		if err := api.DecodeJSON(rec.Body, &r, false); err != nil {
			return err
		}
		if run, err = s.newRun(&r, rec); err != nil {
			return err
		}
		if run = s.runs.join(run); run.idle() {
			run.fail(errCancelled, nil)
		}
	}
	if !run.object().Background {
		return newFault(http.StatusConflict, kindInvalid, "not_background", "only responses with background: true can be cancelled; end the others by closing the connection")
	}
	run.stop()
	run.wait(x.r.Context())
	return x.reply(http.StatusOK, run.object())
}

// idle says whether nothing computes the run.
func (r *responseRun) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cancel == nil
}

// wait returns when the run is over.
func (r *responseRun) wait(ctx context.Context) {
	for {
		_, over, _, changed := r.after(1 << 30)
		if over {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// askPeer asks the node that runs a response about it.
func (s *Server) askPeer(ctx context.Context, rec records.Record, method, verb string, after int) (*http.Response, error) {
	if s.cfg.Peer == nil {
		return nil, errors.New("no other node")
	}
	q := url.Values{"owner": {rec.Owner}, "after": {strconv.Itoa(after)}}
	resp, err := s.cfg.Peer(ctx, rec.Node, method, responsesPath+"/"+url.PathEscape(rec.ID)+verb+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("node %s answers %s", rec.Node, resp.Status)
	}
	return resp, nil
}

// relay hands on what a peer says.
func (x *exchange) relay(resp *http.Response) error {
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxRelay))
	if err != nil {
		return err
	}
	x.w.Header().Set("Content-Type", api.TypeJSON)
	return x.write(http.StatusOK, data)
}

// maxRelay bounds an object, or one event, from a peer.
const maxRelay = 64 << 20

// fromPeer answers from the node that runs the response. If that node has nothing to say, or falls silent in the middle, done is
// false, and next is the last event that the client has got.
func (s *Server) fromPeer(x *exchange, rec records.Record, streamed bool, after int) (done bool, next int, err error) {
	verb := ""
	if streamed {
		verb = "/events"
	}
	resp, err := s.askPeer(x.r.Context(), rec, http.MethodGet, verb, after)
	if err != nil {
		return false, after, nil
	}
	if !streamed {
		return true, after, x.relay(resp)
	}
	defer resp.Body.Close()
	st := stream{x: x}
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, maxRelay)
	var buf []byte
	for in.Scan() {
		line := in.Bytes()
		if len(line) == 0 { // the last line: it is complete
			return true, after, nil
		}
		if !st.begun() {
			if err := st.begin(); err != nil {
				return false, after, err
			}
		}
		after++
		buf = appendResponseEvent(buf[:0], after, line)
		if err := st.raw(buf); err != nil {
			return false, after, err
		}
	}
	return x.r.Context().Err() != nil, after, nil
}

// PeerHandler is what other nodes ask about the responses that run here. The peer port has checked that a node of this cluster asks.
func (s *Server) PeerHandler() http.Handler {
	mux := http.NewServeMux()
	find := func(w http.ResponseWriter, r *http.Request) *responseRun {
		run := s.runs.get(r.URL.Query().Get("owner"), r.PathValue("id"))
		if run == nil || run.isAborted() {
			http.NotFound(w, r)
			return nil
		}
		return run
	}
	object := func(w http.ResponseWriter, run *responseRun) {
		w.Header().Set("Content-Type", api.TypeJSON)
		_ = json.NewEncoder(w).Encode(run.object()) // the peer has hung up: nobody to tell
	}
	mux.HandleFunc("GET "+responsesPath+"/{id}", func(w http.ResponseWriter, r *http.Request) {
		if run := find(w, r); run != nil {
			object(w, run)
		}
	})
	mux.HandleFunc("POST "+responsesPath+"/{id}/cancel", func(w http.ResponseWriter, r *http.Request) {
		if run := find(w, r); run != nil {
			run.stop()
			run.wait(r.Context())
			object(w, run)
		}
	})
	mux.HandleFunc("GET "+responsesPath+"/{id}/events", func(w http.ResponseWriter, r *http.Request) {
		after, err := strconv.Atoi(r.URL.Query().Get("after"))
		if err != nil {
			http.Error(w, "after is no number", http.StatusBadRequest)
			return
		}
		if run := find(w, r); run != nil {
			serveEvents(w, r, run, after)
		}
	})
	return mux
}

// serveEvents writes a run's events as lines, and an empty line when it is over.
func serveEvents(w http.ResponseWriter, r *http.Request, run *responseRun, after int) {
	rc := http.NewResponseController(w)
	for {
		events, over, aborted, changed := run.after(after)
		for _, e := range events {
			after++
			if _, err := w.Write(append(e[:len(e):len(e)], '\n')); err != nil {
				return
			}
		}
		if aborted {
			panic(http.ErrAbortHandler)
		}
		if over {
			_, _ = w.Write([]byte("\n"))
			return
		}
		_ = rc.Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
