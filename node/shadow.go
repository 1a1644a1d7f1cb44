package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"lamina/cluster"
	"lamina/node/records"
	"lamina/node/server"
	"lamina/router"
)

// shadows keeps the requests that this node answers at one more node, and finds those of nodes that are gone. Where a record goes is
// decided by its id among the nodes that live, so any node finds it without asking all.
type shadows struct {
	self   string
	store  *records.Store
	client *http.Client
	// others names the other nodes: those that gossip sees alive, and the rest.
	others func() (alive, rest []cluster.NodeID)
	out    *slog.Logger
}

var _ server.Records = (*shadows)(nil)

// recordsPath is where peers take and give records.
const recordsPath = "/v1/records"

const (
	keepTime = 300 * time.Millisecond // for one node to take a record; a client waits for its first byte
	keepTry  = 2                      // nodes
	findTime = time.Second            // for one node to look
	findTry  = 4
)

// Keep implements server.Records. A request that no other node takes is answered all the same.
func (s *shadows) Keep(ctx context.Context, r records.Record) string {
	r.Node = s.self
	if err := s.store.Put(r); err != nil {
		s.out.DebugContext(ctx, "a request cannot be resumed", "request", r.ID, "err", err)
		return ""
	}
	body, err := json.Marshal(r)
	if err != nil {
		return "" // a struct of strings and numbers: does not happen
	}
	for _, node := range s.order(r.ID, keepTry) {
		if err = s.put(ctx, node, body); err == nil {
			return node
		}
		s.out.DebugContext(ctx, "a node does not take the record of a request", "peer", node, "err", err)
	}
	return ""
}

// order names the nodes to ask about a record: n of those that are seen alive, in the order of the id, then n of the rest, since
// one that was just started is not seen alive by all yet.
func (s *shadows) order(id string, n int) []cluster.NodeID {
	alive, rest := s.others()
	alive, rest = router.Order(id, alive), router.Order(id, rest)
	return append(alive[:min(n, len(alive))], rest[:min(n, len(rest))]...)
}

func (s *shadows) put(ctx context.Context, node string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, keepTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+node+recordsPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

// Find implements server.Records.
func (s *shadows) Find(ctx context.Context, owner, id string) (records.Record, bool) {
	if r, ok := s.store.Get(owner, id); ok {
		return r, true
	}
	for _, node := range s.order(id, findTry) {
		r, ok, err := s.get(ctx, node, owner, id)
		if err != nil {
			s.out.DebugContext(ctx, "a node was asked for the record of a request", "peer", node, "err", err)
		}
		if ok {
			return r, true
		}
	}
	return records.Record{}, false
}

func (s *shadows) get(ctx context.Context, node, owner, id string) (r records.Record, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	at := "http://" + node + recordsPath + "?" + url.Values{"owner": {owner}, "id": {id}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return r, false, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return r, false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return r, false, nil
	}
	r, err = readRecord(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || r.ID != id || r.Owner != owner) {
		err = fmt.Errorf("it answers %s with record %.80q", resp.Status, r.ID)
	}
	return r, err == nil, err
}

// maxRecord bounds a record on its way: base64 makes a body longer.
const maxRecord = records.MaxBody/3*4 + 16<<10

func readRecord(from io.Reader) (r records.Record, err error) {
	data, err := io.ReadAll(io.LimitReader(from, maxRecord+1))
	if err != nil {
		return r, err
	}
	if len(data) > maxRecord {
		return r, fmt.Errorf("%w: more than %d bytes", records.ErrInvalid, maxRecord)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, err
	}
	return r, r.Validate()
}

// ask sends a request without a body to another node.
func (s *shadows) ask(ctx context.Context, node, method, path string) (*http.Response, error) {
	if node == s.self {
		return nil, fmt.Errorf("node %s is this one", node)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+node+path, nil)
	if err != nil {
		return nil, err
	}
	return s.client.Do(req)
}

// peerResponses answers other nodes about the responses that run here. The peer port is open before the API is.
func (n *Node) peerResponses(w http.ResponseWriter, r *http.Request) {
	if h := n.responses.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	http.NotFound(w, r)
}

// ServeHTTP takes and gives records. The peer port has checked that a node of this cluster asks.
func (s *shadows) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	switch q.Method {
	case http.MethodPut:
		r, err := readRecord(q.Body)
		if err == nil {
			err = s.store.Put(r)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case http.MethodGet:
		v := q.URL.Query()
		r, ok := s.store.Get(v.Get("owner"), v.Get("id"))
		if !ok {
			http.NotFound(w, q)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(r) // the peer has hung up: nobody to tell
	default:
		http.Error(w, "GET or PUT", http.StatusMethodNotAllowed)
	}
}
