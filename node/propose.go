package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"lamina/cluster"
	"lamina/cluster/consensus"
	"lamina/node/server"
)

// A proposer brings commands to the leader, wherever it is, and waits until they are applied here too: whoever
// proposes at this node then sees the result at this node.
type proposer struct {
	self   string
	log    *consensus.Log
	client *http.Client // reaches peers by name: http://NODE/...
	// others names peers to ask when the leader is not known here.
	others func() []cluster.NodeID
}

// proposePath is where peers take commands; only the leader's answer is final.
const proposePath = "/v1/propose"

// proposeTime bounds a change to the agreed state; the admin API answers 503 after it.
const proposeTime = 10 * time.Second

// proposeReply is the answer to a forwarded command.
type proposeReply struct {
	Index  uint64 `json:"index,omitempty"`
	Leader string `json:"leader,omitempty"` // ask there: this node does not lead
	Code   string `json:"code,omitempty"`   // cluster.ErrorCode of a refusal, or uncertain
	Text   string `json:"text,omitempty"`
}

// Propose returns when the command is agreed on and applied here. Errors wrap cluster's sentinels (refused), or
// server.ErrNoQuorum when no leader took it in time, or the leader was lost on the way (consensus.ErrUncertain); then it may still be
// agreed on later.
func (p *proposer) Propose(ctx context.Context, c cluster.Command) error {
	body, err := cluster.EncodeCommand(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		index, err := p.try(ctx, c, body)
		if err == nil {
			return p.applied(ctx, index)
		}
		if errors.Is(err, consensus.ErrUncertain) {
			return fmt.Errorf("%w: %w", server.ErrNoQuorum, err)
		}
		if isRefusal(err) || errors.Is(err, consensus.ErrClosed) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: no leader took the change within %v (%w); are most of the voters up? See lamina nodes", server.ErrNoQuorum, proposeTime, err)
		case <-time.After(wait):
		}
	}
}

// try makes one round: here, if this node leads, else at the leader, else at whoever may know one.
func (p *proposer) try(ctx context.Context, c cluster.Command, body []byte) (uint64, error) {
	index, err := p.log.Propose(ctx, c)
	var not *consensus.NotLeader
	if !errors.As(err, &not) {
		return index, err
	}
	targets := p.others()
	if not.Leader != "" {
		targets = append([]cluster.NodeID{not.Leader}, targets...)
	}
	for i := 0; i < len(targets) && i < 4; i++ {
		if targets[i] == p.self {
			continue
		}
		var reply proposeReply
		if reply, err = p.forward(ctx, targets[i], body); err != nil {
			continue
		}
		if reply.Leader == "" || reply.Code != "" {
			return reply.Index, reply.err()
		}
		if reply.Leader != targets[i] {
			targets = append(targets[:i+1], append([]cluster.NodeID{reply.Leader}, targets[i+1:]...)...)
		}
		err = not
	}
	return 0, err
}

func (p *proposer) forward(ctx context.Context, to cluster.NodeID, body []byte) (reply proposeReply, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+to+proposePath, bytes.NewReader(body))
	if err != nil {
		return reply, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return reply, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&reply); err != nil {
		return reply, fmt.Errorf("node %s answered a proposal with %s and no JSON: %w", to, resp.Status, err)
	}
	return reply, nil
}

// err is the refusal in a reply, if it is one.
func (r proposeReply) err() error {
	switch r.Code {
	case "":
		return nil
	case uncertain:
		return fmt.Errorf("%w: %s", consensus.ErrUncertain, r.Text)
	}
	return cluster.RemoteError(r.Code, r.Text)
}

// uncertain is the code of errors that are no refusal.
const uncertain = "uncertain"

func isRefusal(err error) bool { return cluster.ErrorCode(err) != "" }

// applied waits until this node's state has reached the index.
func (p *proposer) applied(ctx context.Context, index uint64) error {
	if p.log.State().Index >= index {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for s := range p.log.Watch(ctx) {
		if s.Index >= index {
			return nil
		}
	}
	return fmt.Errorf("%w: the change was agreed on, but this node has not caught up", server.ErrNoQuorum)
}

// servePropose takes a command from a peer. The peer port has checked that it is a node of this cluster.
func (p *proposer) servePropose(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, cluster.MaxCommand))
	if err != nil {
		http.Error(w, "command too large", http.StatusRequestEntityTooLarge)
		return
	}
	var reply proposeReply
	c, err := cluster.DecodeCommand(body)
	if err == nil {
		reply.Index, err = p.log.Propose(r.Context(), c)
	}
	var not *consensus.NotLeader
	switch {
	case errors.As(err, &not):
		reply.Leader = not.Leader
		if reply.Leader == "" {
			reply.Leader = p.self // "I do not know one either": whoever asks tries elsewhere
		}
	case errors.Is(err, consensus.ErrBusy):
		reply.Leader = p.self // nothing was agreed on; later, or elsewhere if the lead is being handed over
	case err != nil:
		reply.Code, reply.Text = cluster.ErrorCode(err), err.Error()
		if reply.Code == "" {
			reply.Code = uncertain
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(reply) // the peer hangs up: it will ask again
}
