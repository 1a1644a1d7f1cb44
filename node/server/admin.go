package server

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"lamina/cluster"
	"lamina/node/api"
)

// maxTokenLife bounds how long a join token may be used.
const maxTokenLife = 7 * 24 * time.Hour

// nodes is GET /v1/cluster/nodes.
func (s *Server) nodes(x *exchange) error {
	list, err := s.cfg.Admin.Nodes(x.r.Context())
	if err != nil {
		return err
	}
	return x.reply(http.StatusOK, api.NodesReply{Nodes: nonNil(list)})
}

// listModels is GET /v1/cluster/models.
func (s *Server) listModels(x *exchange) error {
	list, err := s.cfg.Admin.ListModels(x.r.Context())
	if err != nil {
		return err
	}
	for i := range list {
		list[i].Replicas = nonNil(list[i].Replicas)
	}
	return x.reply(http.StatusOK, api.ModelsReply{Models: nonNil(list)})
}

// showModel is GET /v1/cluster/models/{name}.
func (s *Server) showModel(x *exchange) error {
	m, err := s.cfg.Admin.ShowModel(x.r.Context(), x.r.PathValue("name"))
	if err != nil {
		return err
	}
	return x.replyModel(m)
}

func (x *exchange) replyModel(m api.Model) error {
	m.Replicas = nonNil(m.Replicas)
	return x.reply(http.StatusOK, api.ModelsReply{Models: []api.Model{m}})
}

// addModel is POST /v1/cluster/models: the body is a manifest, whose blobs were put before.
func (s *Server) addModel(x *exchange) error {
	var m cluster.Model
	if err := x.decode(&m); err != nil {
		return err
	}
	if err := m.Validate(); err != nil {
		return err
	}
	for _, b := range m.Blobs {
		size, ok, err := s.cfg.Blobs.HasBlob(x.r.Context(), b.Digest)
		if err != nil {
			return err
		}
		if !ok || size != b.Size {
			return newFault(http.StatusConflict, kindInvalid, "missing_blob", "blob %s (%s, %d bytes) is not on this node; put it first", b.Name, b.Digest, b.Size)
		}
	}
	added, err := s.cfg.Admin.AddModel(x.r.Context(), m)
	if err != nil {
		return err
	}
	return x.replyModel(added)
}

// removeModel is DELETE /v1/cluster/models/{name}.
func (s *Server) removeModel(x *exchange) error {
	if err := s.cfg.Admin.RemoveModel(x.r.Context(), x.r.PathValue("name")); err != nil {
		return err
	}
	return x.reply(http.StatusOK, api.DoneReply{Done: true})
}

// digest is the path's blob digest, checked.
func (x *exchange) digest() (string, error) {
	d := x.r.PathValue("digest")
	if err := api.CheckDigest(d); err != nil {
		return "", invalid("digest", "%v", err)
	}
	return d, nil
}

// hasBlob is HEAD /v1/cluster/blobs/{digest}.
func (s *Server) hasBlob(x *exchange) error {
	d, err := x.digest()
	if err != nil {
		return err
	}
	size, ok, err := s.cfg.Blobs.HasBlob(x.r.Context(), d)
	if err != nil {
		return err
	}
	if !ok {
		return newFault(http.StatusNotFound, kindInvalid, "not_found", "no such blob on this node")
	}
	x.w.Header().Set("Lamina-Blob-Size", strconv.FormatInt(size, 10))
	return x.reply(http.StatusOK, api.BlobReply{Digest: d, Size: size})
}

// putBlob is PUT /v1/cluster/blobs/{digest}. The size must be known before; what does not match is not kept.
func (s *Server) putBlob(x *exchange) error {
	d, err := x.digest()
	if err != nil {
		return err
	}
	size, limit := x.r.ContentLength, s.cfg.Limits.BlobBytes
	if size < 0 {
		return newFault(http.StatusLengthRequired, kindInvalid, "length_required", "a blob needs a Content-Length")
	}
	if size > limit {
		return &http.MaxBytesError{Limit: limit}
	}
	if e := x.r.Header.Get("Content-Encoding"); e != "" {
		return newFault(http.StatusUnsupportedMediaType, kindInvalid, "unsupported_encoding", "blobs are sent as they are, without Content-Encoding")
	}
	if err := s.cfg.Blobs.PutBlob(x.r.Context(), d, size, &patient{x: x, r: http.MaxBytesReader(x.w, x.r.Body, limit)}); err != nil {
		return err
	}
	return x.reply(http.StatusOK, api.BlobReply{Digest: d, Size: size})
}

// patient reads an upload: every piece that arrives buys time for the next, so that a large blob may take long and a
// stalled client may not.
type patient struct {
	x *exchange
	r io.Reader
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
	p.x.extendRead()
	n, err := p.r.Read(b)
	var big *http.MaxBytesError
	switch {
	case errors.Is(err, io.EOF):
		_ = p.x.rc.SetReadDeadline(time.Time{}) // see readBody
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.As(err, &big):
		err = gone(err)
	}
	return n, err
}

// dropBlob is DELETE /v1/cluster/blobs/{digest}.
func (s *Server) dropBlob(x *exchange) error {
	d, err := x.digest()
	if err != nil {
		return err
	}
	if err := s.cfg.Blobs.DropBlob(x.r.Context(), d); err != nil {
		return err
	}
	return x.reply(http.StatusOK, api.DoneReply{Done: true})
}

// createToken is POST /v1/cluster/tokens.
func (s *Server) createToken(x *exchange) error {
	var r api.TokenRequest
	if err := x.decode(&r); err != nil {
		return err
	}
	if r.Seconds < 0 || r.Seconds > int64(maxTokenLife/time.Second) {
		return invalid("seconds", "must be from 0 (an hour) to %d", int64(maxTokenLife/time.Second))
	}
	ttl := time.Duration(r.Seconds) * time.Second
	if ttl == 0 {
		ttl = time.Hour
	}
	t, err := s.cfg.Admin.CreateToken(x.r.Context(), ttl)
	if err != nil {
		return err
	}
	return x.reply(http.StatusOK, t)
}

// listKeys is GET /v1/cluster/keys.
func (s *Server) listKeys(x *exchange) error {
	list, err := s.cfg.Keys.ListKeys(x.r.Context())
	if err != nil {
		return err
	}
	return x.reply(http.StatusOK, api.KeysReply{Keys: nonNil(list)})
}

// createKey is POST /v1/cluster/keys.
func (s *Server) createKey(x *exchange) error {
	var r api.KeyRequest
	if err := x.decode(&r); err != nil {
		return err
	}
	role := cluster.Role(r.Role)
	if role != cluster.Admin && role != cluster.User {
		return invalid("role", "must be %q or %q", cluster.User, cluster.Admin)
	}
	if len(r.Name) > 200 {
		return invalid("name", "must not be longer than 200 bytes")
	}
	k, err := s.cfg.Keys.CreateKey(x.r.Context(), r.Name, role)
	if err != nil {
		return err
	}
	return x.reply(http.StatusOK, k)
}

// removeKey is DELETE /v1/cluster/keys/{id}.
func (s *Server) removeKey(x *exchange) error {
	if err := s.cfg.Keys.RemoveKey(x.r.Context(), x.r.PathValue("id")); err != nil {
		return err
	}
	return x.reply(http.StatusOK, api.DoneReply{Done: true})
}

// nonNil makes an empty list [] instead of null.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
