package server

import (
	"net/http"
)

// healthz says that the process runs and answers.
func (s *Server) healthz(x *exchange) error {
	return x.text(http.StatusOK, "ok")
}

// readyz says whether the node can serve; what stands in the way is in the text. It is ready only if everything says so.
func (s *Server) readyz(x *exchange) error {
	err := s.cfg.Ready()
	if s.draining() {
		err = errDraining
	}
	if err != nil {
		x.w.Header().Set("Retry-After", "1")
		return x.text(http.StatusServiceUnavailable, "not ready: "+err.Error())
	}
	return x.text(http.StatusOK, "ready")
}

func (x *exchange) text(status int, line string) error {
	x.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	return x.write(status, []byte(line+"\n"))
}
