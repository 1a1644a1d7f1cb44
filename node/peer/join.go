package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"lamina/node/auth"
	"lamina/node/wire"
)

// JoinRefusal is why a node was not admitted. The strings are on the wire: never renamed.
type JoinRefusal string

// The refusals.
const (
	RefusedRequest     JoinRefusal = "request"     // the request itself is wrong (version, name, CSR)
	RefusedToken       JoinRefusal = "token"       // the token is unknown, expired or spent
	RefusedName        JoinRefusal = "name"        // another node has the name
	RefusedUnavailable JoinRefusal = "unavailable" // the cluster cannot decide just now; try again
	RefusedInternal    JoinRefusal = "internal"    // the admitting node failed; its log says more
)

// JoinError is a refusal with its text.
type JoinError struct {
	Kind JoinRefusal `msgpack:"kind"`
	Text string      `msgpack:"text"`
}

// Error shows the text.
func (e *JoinError) Error() string { return "not admitted to the cluster: " + e.Text }

// Admit decides on a join request: it spends the token, sees that the name is free and lets auth.Identity.Admit sign.
// An error that is not a *JoinError and does not wrap auth.ErrRequest is logged here and told as RefusedInternal without its text.
type Admit func(ctx context.Context, r auth.JoinRequest) (auth.JoinResponse, error)

// Bounds of the join exchange.
const (
	maxJoinMessage = 16 << 10
	maxJoins       = 8 // at once
	joinTimeout    = 30 * time.Second
)

// joinReply is one of the two.
type joinReply struct {
	Error    *JoinError         `msgpack:"error,omitempty"`
	Response *auth.JoinResponse `msgpack:"response,omitempty"`
}

// HandleJoin lets new nodes in.
func (m *Mux) HandleJoin(admit Admit) {
	slots := make(chan struct{}, maxJoins)
	ctx, cancel := context.WithCancel(context.Background())
	m.onClose(cancel)
	m.Handle(ProtoJoin, func(c *Conn) {
		defer c.Close()
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			busy := joinReply{Error: &JoinError{Kind: RefusedUnavailable, Text: "too many nodes join at once; try again"}}
			_ = c.SetDeadline(time.Now().Add(m.cfg.HandshakeTimeout))
			_ = writeMessage(c, &busy, maxJoinMessage)
			return
		}
		ctx, cancel := context.WithTimeout(ctx, joinTimeout)
		defer cancel()
		if err := m.serveJoin(ctx, c, admit); err != nil {
			m.mu.Lock()
			m.refuseLocked(c.RemoteAddr().String(), fmt.Errorf("join exchange: %w", err))
			m.mu.Unlock()
		}
	})
}

func (m *Mux) serveJoin(ctx context.Context, c *Conn, admit Admit) error {
	if err := c.SetDeadline(time.Now().Add(m.cfg.HandshakeTimeout)); err != nil {
		return err
	}
	var r auth.JoinRequest
	if err := readMessage(c, &r, maxJoinMessage); err != nil {
		return err
	}
	var reply joinReply
	resp, err := admit(ctx, r)
	var refusal *JoinError
	switch {
	case err == nil:
		reply.Response = &resp
		m.cfg.Log.Info("node admitted", "node", r.Name, "from", c.RemoteAddr().String())
	case errors.As(err, &refusal):
		reply.Error = refusal
	case errors.Is(err, auth.ErrRequest):
		reply.Error = &JoinError{Kind: RefusedRequest, Text: err.Error()}
	default:
		reply.Error = &JoinError{Kind: RefusedInternal, Text: "the node that was asked has failed; its log says why"}
	}
	if err != nil {
		m.cfg.Log.Warn("node not admitted", "node", fmt.Sprintf("%.64q", r.Name), "from", c.RemoteAddr().String(), "err", err)
	}
	if err := c.SetDeadline(time.Now().Add(m.cfg.HandshakeTimeout)); err != nil {
		return err
	}
	return writeMessage(c, &reply, maxJoinMessage)
}

// Join asks the node in the join string to admit this one under the name, and writes the identity into dir. The pin is checked before the token is sent.
// A refusal is a *JoinError.
func Join(ctx context.Context, n Network, dir, name string, join auth.JoinString) (*auth.Identity, error) {
	j, err := auth.NewJoiner(dir, name, join)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout+5*time.Second)
	defer cancel()
	reply, err := askToJoin(ctx, n, join, j.Request())
	if err != nil {
		return nil, fmt.Errorf("join via %s: %w", join.Addr, err)
	}
	switch {
	case reply.Error != nil:
		return nil, reply.Error
	case reply.Response == nil:
		return nil, fmt.Errorf("join via %s: %w: empty answer", join.Addr, ErrProtocol)
	}
	return j.Finish(*reply.Response)
}

func askToJoin(ctx context.Context, n Network, join auth.JoinString, r auth.JoinRequest) (joinReply, error) {
	var reply joinReply
	c, err := dialTLS(ctx, n, join.Addr, auth.PinnedTLS(ProtoJoin, join.Pin))
	if err != nil {
		return reply, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.NetConn().Close() })
	defer stop()
	if err := writeMessage(c, &r, maxJoinMessage); err != nil {
		return reply, err
	}
	err = readMessage(c, &reply, maxJoinMessage)
	return reply, err
}

// writeMessage sends a length (4 bytes, little endian) and a msgpack map, in one write.
func writeMessage(c net.Conn, v any, limit int) error {
	b, err := wire.Append(make([]byte, 4, 512), v)
	if err != nil {
		return err
	}
	if len(b)-4 > limit {
		return fmt.Errorf("%w: a message of %d bytes, at most %d are allowed", ErrProtocol, len(b)-4, limit)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	_, err = c.Write(b)
	return err
}

// readMessage is the other side of writeMessage.
func readMessage(r io.Reader, v any, limit int) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n == 0 || n > uint32(limit) {
		return fmt.Errorf("%w: a message of %d bytes, at most %d are allowed", ErrProtocol, n, limit)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	if err := wire.Unmarshal(b, v, wire.Limits{Bytes: limit}); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}
