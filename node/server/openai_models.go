package server

import (
	"fmt"
	"net/http"

	"lamina/node/infer"
)

// openAIModelInfo is a model as OpenAI's clients know it; context_length and ready are extensions.
type openAIModelInfo struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	Context int    `json:"context_length"`
	Ready   bool   `json:"ready"`
}

type openAIModelList struct {
	Object string            `json:"object"`
	Data   []openAIModelInfo `json:"data"`
}

func modelInfo(m infer.ModelInfo) openAIModelInfo {
	return openAIModelInfo{ID: m.Name, Object: "model", Created: created(m.Created), OwnedBy: "lamina", Context: m.Context, Ready: m.Ready}
}

// openAIModels is GET /v1/models.
func (s *Server) openAIModels(x *exchange) error {
	list, err := s.cfg.Service.Models(x.r.Context())
	if err != nil {
		return err
	}
	out := openAIModelList{Object: "list", Data: []openAIModelInfo{}}
	for _, m := range list {
		out.Data = append(out.Data, modelInfo(m))
	}
	return x.reply(http.StatusOK, out)
}

// openAIModel is GET /v1/models/{name}.
func (s *Server) openAIModel(x *exchange) error {
	list, err := s.cfg.Service.Models(x.r.Context())
	if err != nil {
		return err
	}
	name := x.r.PathValue("name")
	for _, m := range list {
		if m.Name == name {
			return x.reply(http.StatusOK, modelInfo(m))
		}
	}
	return fmt.Errorf("%w: %.140q; GET /v1/models lists the models", infer.ErrModelNotFound, name)
}
