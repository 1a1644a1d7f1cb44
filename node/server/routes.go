package server

import (
	"net/http"
	"strings"

	"lamina/cluster"
)

// need is what a route asks of the caller.
type need uint8

const (
	everyone need = iota // health: answers say nothing about the cluster's content
	user                 // a key of any role; nobody's, where keys are not required
	admin                // a key of role admin, always
)

// dialect decides the shape of errors and the codecs of a route.
type dialect uint8

const (
	native dialect = iota // JSON and MessagePack, api.ErrorReply
	openAI                // JSON, OpenAI's error object
	plain                 // text for machines that watch
)

// route is a line of the list. model says that the request runs a model: it takes one of the places in flight.
type route struct {
	pattern string
	need    need
	dialect dialect
	model   bool
	handle  func(*exchange) error
}

// routes is everything that the server answers. What is not here does not exist.
func (s *Server) routes() []route {
	return []route{
		{"GET /healthz", everyone, plain, false, s.healthz},
		{"GET /readyz", everyone, plain, false, s.readyz},
		{"GET /metrics", user, plain, false, s.metrics},

		{"GET /v1/models", user, openAI, false, s.openAIModels},
		{"GET /v1/models/{name...}", user, openAI, false, s.openAIModel},
		{"POST /v1/chat/completions", user, openAI, true, s.chat},
		{"POST /v1/completions", user, openAI, true, s.completions},
		{"GET /v1/chat/completions/{id}", user, openAI, true, s.resume("/v1/chat/completions", s.chat)},
		{"GET /v1/completions/{id}", user, openAI, true, s.resume("/v1/completions", s.completions)},

		{"POST /v1/responses", user, openAI, true, s.respond},
		{"GET /v1/responses/{id}", user, openAI, false, s.getResponse},
		{"POST /v1/responses/{id}/cancel", user, openAI, false, s.cancelResponse},

		{"POST /v1/infer", user, native, true, s.infer},
		{"GET /v1/infer/{id}", user, native, true, s.resume("/v1/infer", s.infer)},
		{"POST /v1/infer/tokenize", user, native, false, s.tokenize},
		{"POST /v1/infer/detokenize", user, native, false, s.detokenize},

		{"GET /v1/cluster/nodes", admin, native, false, s.nodes},
		{"DELETE /v1/cluster/nodes/{name}", admin, native, false, s.removeNode},
		{"POST /v1/cluster/nodes/{name}/drain", admin, native, false, s.drainNode},
		{"GET /v1/cluster/nodes/{name}/drain", admin, native, false, s.drained},
		{"GET /v1/cluster/backup", admin, native, false, s.backup},
		{"POST /v1/cluster/restore", admin, native, false, s.restore},
		{"GET /v1/cluster/models", admin, native, false, s.listModels},
		{"GET /v1/cluster/models/{name...}", admin, native, false, s.showModel},
		{"POST /v1/cluster/models", admin, native, false, s.addModel},
		{"DELETE /v1/cluster/models/{name...}", admin, native, false, s.removeModel},
		{"HEAD /v1/cluster/blobs/{digest}", admin, native, false, s.hasBlob},
		{"PUT /v1/cluster/blobs/{digest}", admin, native, false, s.putBlob},
		{"DELETE /v1/cluster/blobs/{digest}", admin, native, false, s.dropBlob},
		{"POST /v1/cluster/tokens", admin, native, false, s.createToken},
		{"GET /v1/cluster/keys", admin, native, false, s.listKeys},
		{"POST /v1/cluster/keys", admin, native, false, s.createKey},
		{"DELETE /v1/cluster/keys/{id}", admin, native, false, s.removeKey},
	}
}

// allows says whether a role is enough.
func (n need) allows(r cluster.Role) bool {
	switch n {
	case everyone:
		return true
	case user:
		return r == cluster.User || r == cluster.Admin
	case admin:
		return r == cluster.Admin
	}
	return false
}

// unknown answers what no route matches: 405 where the path exists under other methods, else 404.
func (s *Server) unknown(x *exchange) error {
	var methods []string
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		probe := &http.Request{Method: m, URL: x.r.URL, Host: x.r.Host}
		if _, pattern := s.mux.Handler(probe); pattern != "" && pattern != "/" {
			methods = append(methods, m)
		}
	}
	if len(methods) > 0 {
		x.w.Header().Set("Allow", strings.Join(methods, ", "))
		return newFault(http.StatusMethodNotAllowed, kindInvalid, "method_not_allowed", "this path takes %s", strings.Join(methods, ", "))
	}
	return newFault(http.StatusNotFound, kindInvalid, "not_found", "there is no such path here")
}
