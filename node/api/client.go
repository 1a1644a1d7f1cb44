package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"lamina/cluster"
)

// DefaultAddr is where a node listens that was told nothing.
const DefaultAddr = "http://127.0.0.1:8080"

// maxReply bounds a reply that is not a stream.
const maxReply = 64 << 20

// ErrUnreachable: no node answers at the address.
var ErrUnreachable = errors.New("no node answers")

// Client asks one node. The zero value is not usable; see NewClient. Safe for use by many goroutines.
type Client struct {
	base  string
	key   string
	codec Codec
	http  *http.Client
}

// NewClient returns a client of the node at addr (http://HOST:PORT or HOST:PORT), with an API key or "".
func NewClient(addr, key string, codec Codec) (*Client, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("address %q: give the URL of a node, such as %s", addr, DefaultAddr)
	}
	// No client-wide timeout: answers stream for minutes. The caller's context ends a call.
	return &Client{base: strings.TrimRight(u.String(), "/"), key: key, codec: codec, http: &http.Client{}}, nil
}

// Addr is the node's base URL.
func (c *Client) Addr() string { return c.base }

// EnvClient returns a client for the node that LAMINA_ADDR names (default DefaultAddr), with the key of LAMINA_KEY.
func EnvClient() (*Client, error) {
	addr := os.Getenv("LAMINA_ADDR")
	if addr == "" {
		addr = DefaultAddr
	}
	return NewClient(addr, os.Getenv("LAMINA_KEY"), JSON)
}

// Generate asks for text. With r.Stream, emit gets every event in order (its error ends the answer and is returned), and
// the reply is put together from them; without, emit may be nil. Errors of the node are *Error.
func (c *Client) Generate(ctx context.Context, r GenerateRequest, emit func(GenerateEvent) error) (GenerateReply, error) {
	var reply GenerateReply
	if !r.Stream {
		return reply, c.call(ctx, http.MethodPost, "/v1/infer", r, &reply)
	}
	body, err := c.codec.Marshal(r)
	if err != nil {
		return reply, err
	}
	resp, err := c.send(ctx, http.MethodPost, "/v1/infer", bytes.NewReader(body), c.codec.Type())
	if err != nil {
		return reply, err
	}
	defer resp.Body.Close()
	err = readStream(resp.Body, c.codec, func(e GenerateEvent) error {
		if e.Error != nil {
			return e.Error
		}
		reply.Add(e)
		if emit == nil {
			return nil
		}
		return emit(e)
	})
	if err == nil && reply.FinishReason == "" {
		err = fmt.Errorf("%w: the connection closed in the middle of the answer", io.ErrUnexpectedEOF)
	}
	return reply, err
}

// Add puts what an event says into the reply.
func (r *GenerateReply) Add(e GenerateEvent) {
	switch e.Type {
	case EventStart:
		r.ID, r.Model, r.Digest, r.Route = e.ID, e.Model, e.Digest, e.Route
	case EventText:
		r.Text += e.Text
		r.Tokens = append(r.Tokens, e.Tokens...)
	case EventEnd:
		r.FinishReason, r.StopString = e.FinishReason, e.StopString
	}
	if e.Usage != nil {
		r.Usage = *e.Usage
	}
	if e.Timings != nil {
		r.Timings = *e.Timings
	}
}

// Tokenize returns the ids of a text.
func (c *Client) Tokenize(ctx context.Context, r TokenizeRequest) ([]int32, error) {
	var reply TokenizeReply
	err := c.call(ctx, http.MethodPost, "/v1/infer/tokenize", r, &reply)
	return reply.Tokens, err
}

// Detokenize returns the text of ids.
func (c *Client) Detokenize(ctx context.Context, r DetokenizeRequest) (string, error) {
	var reply DetokenizeReply
	err := c.call(ctx, http.MethodPost, "/v1/infer/detokenize", r, &reply)
	return reply.Text, err
}

// Nodes lists the nodes of the cluster.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var reply NodesReply
	err := c.call(ctx, http.MethodGet, "/v1/cluster/nodes", nil, &reply)
	return reply.Nodes, err
}

// RemoveNode takes a node that is not running out of the cluster.
func (c *Client) RemoveNode(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/v1/cluster/nodes/"+url.PathEscape(name), nil, &DoneReply{})
}

// DrainNode asks for a node's layers to be served by others, or takes that back; it tells what the node still serves.
func (c *Client) DrainNode(ctx context.Context, name string, r DrainRequest) (DrainReply, error) {
	var reply DrainReply
	return reply, c.call(ctx, http.MethodPost, "/v1/cluster/nodes/"+url.PathEscape(name)+"/drain", r, &reply)
}

// Drained tells how far a node is drained.
func (c *Client) Drained(ctx context.Context, name string) (DrainReply, error) {
	var reply DrainReply
	return reply, c.call(ctx, http.MethodGet, "/v1/cluster/nodes/"+url.PathEscape(name)+"/drain", nil, &reply)
}

// Backup returns what the cluster has agreed on, for Restore.
func (c *Client) Backup(ctx context.Context) (Backup, error) {
	var b Backup
	return b, c.call(ctx, http.MethodGet, "/v1/cluster/backup", nil, &b)
}

// Restore makes the models and keys of a backup known. What is known already stays as it is.
func (c *Client) Restore(ctx context.Context, b Backup) (RestoreReply, error) {
	var reply RestoreReply
	return reply, c.call(ctx, http.MethodPost, "/v1/cluster/restore", b, &reply)
}

// Models lists the models of the cluster and where their layers are.
func (c *Client) Models(ctx context.Context) ([]Model, error) {
	var reply ModelsReply
	err := c.call(ctx, http.MethodGet, "/v1/cluster/models", nil, &reply)
	return reply.Models, err
}

// Model returns one model with its blobs.
func (c *Client) Model(ctx context.Context, name string) (Model, error) {
	var reply ModelsReply
	if err := c.call(ctx, http.MethodGet, "/v1/cluster/models/"+escapeName(name), nil, &reply); err != nil {
		return Model{}, err
	}
	if len(reply.Models) != 1 {
		return Model{}, fmt.Errorf("%w: the node answered with %d models for one name", ErrMessage, len(reply.Models))
	}
	return reply.Models[0], nil
}

// AddModel makes a manifest known whose blobs the node holds already (PutBlob). It returns the model as it was agreed.
func (c *Client) AddModel(ctx context.Context, m cluster.Model) (Model, error) {
	var reply ModelsReply
	if err := c.call(ctx, http.MethodPost, "/v1/cluster/models", m, &reply); err != nil {
		return Model{}, err
	}
	if len(reply.Models) != 1 {
		return Model{}, fmt.Errorf("%w: the node answered with %d models for one manifest", ErrMessage, len(reply.Models))
	}
	return reply.Models[0], nil
}

// RemoveModel takes a model out of the cluster.
func (c *Client) RemoveModel(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/v1/cluster/models/"+escapeName(name), nil, &DoneReply{})
}

// Has says whether the node holds a blob.
func (c *Client) Has(ctx context.Context, digest string) (bool, error) {
	resp, err := c.send(ctx, http.MethodHead, "/v1/cluster/blobs/"+url.PathEscape(digest), nil, "")
	var e *Error
	if errors.As(err, &e) && e.Status == http.StatusNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, resp.Body.Close()
}

// Put sends a blob of size bytes. The node checks that its SHA-256 is digest.
func (c *Client) Put(ctx context.Context, digest string, size int64, r io.Reader) error {
	req, err := c.request(ctx, http.MethodPut, "/v1/cluster/blobs/"+url.PathEscape(digest), io.NopCloser(r), "application/octet-stream")
	if err != nil {
		return err
	}
	req.ContentLength = size
	return c.finish(req, &BlobReply{})
}

// Drop removes a blob that no model of the cluster names.
func (c *Client) Drop(ctx context.Context, digest string) error {
	return c.call(ctx, http.MethodDelete, "/v1/cluster/blobs/"+url.PathEscape(digest), nil, &DoneReply{})
}

// CreateToken makes a join token that is good for seconds (0: an hour) and one node.
func (c *Client) CreateToken(ctx context.Context, seconds int64) (TokenReply, error) {
	var reply TokenReply
	return reply, c.call(ctx, http.MethodPost, "/v1/cluster/tokens", TokenRequest{Seconds: seconds}, &reply)
}

// Keys lists the API keys.
func (c *Client) Keys(ctx context.Context) ([]Key, error) {
	var reply KeysReply
	err := c.call(ctx, http.MethodGet, "/v1/cluster/keys", nil, &reply)
	return reply.Keys, err
}

// CreateKey makes an API key. Its secret is in the reply and nowhere else.
func (c *Client) CreateKey(ctx context.Context, r KeyRequest) (KeyReply, error) {
	var reply KeyReply
	return reply, c.call(ctx, http.MethodPost, "/v1/cluster/keys", r, &reply)
}

// RemoveKey revokes an API key.
func (c *Client) RemoveKey(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/cluster/keys/"+url.PathEscape(id), nil, &DoneReply{})
}

// escapeName makes a model's name safe in a path; its slashes stay.
func escapeName(name string) string {
	return strings.ReplaceAll(url.PathEscape(name), "%2F", "/")
}

// call sends a message, or none if in is nil, and decodes the reply into out.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := c.codec.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := c.request(ctx, method, path, body, c.codec.Type())
	if err != nil {
		return err
	}
	return c.finish(req, out)
}

// finish does a request and decodes its reply.
func (c *Client) finish(req *http.Request, out any) error {
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := readBounded(resp.Body)
	if err != nil {
		return err
	}
	return c.codec.decodeReply(data, out)
}

func (c *Client) send(ctx context.Context, method, path string, body io.Reader, contentType string) (*http.Response, error) {
	req, err := c.request(ctx, method, path, body, contentType)
	if err != nil {
		return nil, err
	}
	return c.do(req)
}

func (c *Client) request(ctx context.Context, method, path string, body io.Reader, contentType string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", c.codec.Type())
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	return req, nil
}

// do sends a request; whatever is not 2xx becomes an *Error.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		if ctxErr := context.Cause(req.Context()); ctxErr != nil {
			return nil, ctxErr
		}
		return nil, fmt.Errorf("%w at %s; is one running (lamina up), and is LAMINA_ADDR right? (%w)", ErrUnreachable, c.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.codec.errorOf(resp)
}

// errorOf makes an *Error of a reply that is not 2xx, whoever wrote it.
func (c Codec) errorOf(resp *http.Response) error {
	e := Error{Code: fmt.Sprintf("http_%d", resp.StatusCode), Message: "the server says " + resp.Status}
	data, err := readBounded(resp.Body)
	if codec, known := CodecOf(resp.Header.Get("Content-Type")); err == nil && known {
		var reply ErrorReply
		if codec.decodeReply(data, &reply) == nil && reply.Error.Message != "" {
			e = reply.Error
		}
	}
	e.Status = resp.StatusCode
	return &e
}

// decodeReply decodes what a node sent. A newer node may say more than this client knows, so JSON is read leniently.
func (c Codec) decodeReply(data []byte, out any) error {
	if c == JSON {
		return DecodeJSON(data, out, false)
	}
	return c.Unmarshal(data, out)
}

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxReply+1))
	if err == nil && len(data) > maxReply {
		err = fmt.Errorf("%w: the reply is larger than %d bytes", ErrMessage, maxReply)
	}
	return data, err
}
