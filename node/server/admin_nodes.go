package server

import (
	"net/http"

	"lamina/node/api"
)

// removeNode is DELETE /v1/cluster/nodes/{name}.
func (s *Server) removeNode(x *exchange) error {
	if err := s.cfg.Admin.RemoveNode(x.r.Context(), x.r.PathValue("name")); err != nil {
		return err
	}
	return x.reply(http.StatusOK, api.DoneReply{Done: true})
}

// drainNode is POST /v1/cluster/nodes/{name}/drain.
func (s *Server) drainNode(x *exchange) error {
	var r api.DrainRequest
	if err := x.decode(&r); err != nil {
		return err
	}
	d, err := s.cfg.Admin.DrainNode(x.r.Context(), x.r.PathValue("name"), r.Off)
	if err != nil {
		return err
	}
	d.Spans = nonNil(d.Spans)
	return x.reply(http.StatusOK, d)
}

// drained is GET /v1/cluster/nodes/{name}/drain.
func (s *Server) drained(x *exchange) error {
	d, err := s.cfg.Admin.Drained(x.r.Context(), x.r.PathValue("name"))
	if err != nil {
		return err
	}
	d.Spans = nonNil(d.Spans)
	return x.reply(http.StatusOK, d)
}

// backup is GET /v1/cluster/backup.
func (s *Server) backup(x *exchange) error {
	b, err := s.cfg.Admin.Backup(x.r.Context())
	if err != nil {
		return err
	}
	b.Models, b.Keys = nonNil(b.Models), nonNil(b.Keys)
	return x.reply(http.StatusOK, b)
}

// restore is POST /v1/cluster/restore.
func (s *Server) restore(x *exchange) error {
	var b api.Backup
	if err := x.decode(&b); err != nil {
		return err
	}
	if b.Version < 1 || b.Version > api.BackupVersion {
		return invalid("version", "is %d; this node reads backups of version 1 to %d", b.Version, api.BackupVersion)
	}
	reply, err := s.cfg.Admin.Restore(x.r.Context(), b)
	if err != nil {
		return err
	}
	reply.Models, reply.Keys, reply.Refused = nonNil(reply.Models), nonNil(reply.Keys), nonNil(reply.Refused)
	return x.reply(http.StatusOK, reply)
}
