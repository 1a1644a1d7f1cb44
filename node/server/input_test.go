package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"lamina/node/api"
	"lamina/node/infer"
	"lamina/shard/sample"
)

// refusal sends a body and returns the error that comes back.
func refusal(t *testing.T, g *rig, path, body string) (int, api.Error) {
	t.Helper()
	resp := g.roundTrip(request("POST", path, body))
	var reply api.ErrorReply
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		t.Fatalf("%s %.80s: %v", path, body, err)
	}
	return resp.StatusCode, reply.Error
}

// with is a valid body with one field set to something.
func with(base, field, value string) string {
	return strings.TrimSuffix(base, "}") + fmt.Sprintf(",%q:%s}", field, value)
}

const (
	chatBase   = `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`
	promptBase = `{"model":"m","prompt":"Hi"}`
)

func list(n int, item string) string {
	return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
}

func TestWrongInput(t *testing.T) {
	g := newRig(t, nil)
	message := func(m string) string { return `{"model":"m","messages":[{"role":"user","content":"ok"},` + m + `]}` }
	biases := make(map[string]int)
	for i := range 1025 {
		biases[fmt.Sprint(i)] = 1
	}
	manyBiases, _ := json.Marshal(biases)
	for _, c := range []struct{ path, body, param, code string }{
		{"chat", `{`, "", "invalid_value"},
		{"chat", ``, "", "invalid_value"},
		{"chat", `[]`, "", "invalid_value"},
		{"chat", `{"messages":[{"role":"user","content":"Hi"}]}`, "model", "invalid_value"},
		{"chat", `{"model":7,"messages":[]}`, "model", "invalid_value"},
		{"chat", `{"model":"m"}`, "messages", "invalid_value"},
		{"chat", `{"model":"m","messages":[]}`, "messages", "invalid_value"},
		{"chat", `{"model":"m","messages":"Hi"}`, "messages", "invalid_value"},
		{"chat", `{"model":"m","messages":` + list(1025, `{"role":"user","content":"x"}`) + `}`, "messages", "invalid_value"},
		{"chat", `{"model":"m","model":"n","messages":[]}`, "", "invalid_value"},
		{"chat", strings.Repeat("[", 100), "", "invalid_value"},
		{"chat", message(`"Hi"`), "messages[1]", "invalid_value"},
		{"chat", message(`{"role":"king","content":"x"}`), "messages[1].role", "invalid_value"},
		{"chat", message(`{"content":"x"}`), "messages[1].role", "invalid_value"},
		{"chat", message(`{"role":7,"content":"x"}`), "messages[1].role", "invalid_value"},
		{"chat", message(`{"role":"tool","content":"x"}`), "messages[1].role", "unsupported_parameter"},
		{"chat", message(`{"role":"user"}`), "messages[1].content", "invalid_value"},
		{"chat", message(`{"role":"user","content":null}`), "messages[1].content", "invalid_value"},
		{"chat", message(`{"role":"user","content":{}}`), "messages[1].content", "invalid_value"},
		{"chat", message(`{"role":"user","content":[{"type":"text"}]}`), "messages[1].content[0].text", "invalid_value"},
		{"chat", message(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}`), "messages[1].content[0].type", "unsupported_parameter"},
		{"chat", message(`{"role":"assistant","content":"x","tool_calls":[{"id":"1"}]}`), "messages[1].tool_calls", "unsupported_parameter"},
		{"chat", with(chatBase, "temperature", "-3"), "temperature", "invalid_value"},
		{"chat", with(chatBase, "temperature", `"hot"`), "temperature", "invalid_value"},
		{"chat", with(chatBase, "temperature", "1e99"), "temperature", "invalid_value"},
		{"chat", with(chatBase, "top_p", "7"), "top_p", "invalid_value"},
		{"chat", with(chatBase, "min_p", "-0.1"), "min_p", "invalid_value"},
		{"chat", with(chatBase, "top_k", "-2"), "top_k", "invalid_value"},
		{"chat", with(chatBase, "presence_penalty", "3"), "presence_penalty", "invalid_value"},
		{"chat", with(chatBase, "frequency_penalty", "-3"), "frequency_penalty", "invalid_value"},
		{"chat", with(chatBase, "repetition_penalty", "0"), "repetition_penalty", "invalid_value"},
		{"chat", with(chatBase, "n", "0"), "n", "invalid_value"},
		{"chat", with(chatBase, "n", "9"), "n", "invalid_value"},
		{"chat", with(chatBase, "n", "1000000000000"), "n", "invalid_value"},
		{"chat", with(chatBase, "max_tokens", "0"), "max_tokens", "invalid_value"},
		{"chat", with(chatBase, "max_tokens", "1.5"), "max_tokens", "invalid_value"},
		{"chat", with(chatBase, "max_completion_tokens", "-1"), "max_completion_tokens", "invalid_value"},
		{"chat", with(chatBase, "seed", "1.5"), "seed", "invalid_value"},
		{"chat", with(chatBase, "stream", `"yes"`), "stream", "invalid_value"},
		{"chat", with(chatBase, "stream_options", `{"include_usage":true}`), "stream_options", "invalid_value"},
		{"chat", with(chatBase, "stop", "7"), "stop", "invalid_value"},
		{"chat", with(chatBase, "stop", `[7]`), "stop", "invalid_value"},
		{"chat", with(chatBase, "stop", `""`), "stop", "invalid_value"},
		{"chat", with(chatBase, "stop", list(17, `"x"`)), "stop", "invalid_value"},
		{"chat", with(chatBase, "stop", `"`+strings.Repeat("x", 257)+`"`), "stop", "invalid_value"},
		{"chat", with(chatBase, "logit_bias", `{"x":1}`), "logit_bias", "invalid_value"},
		{"chat", with(chatBase, "logit_bias", `{"1":101}`), "logit_bias", "invalid_value"},
		{"chat", with(chatBase, "logit_bias", `{"-1":1}`), "logit_bias", "invalid_value"},
		{"chat", with(chatBase, "logit_bias", string(manyBiases)), "logit_bias", "invalid_value"},
		{"chat", with(chatBase, "top_logprobs", "5"), "top_logprobs", "invalid_value"},
		{"chat", with(with(chatBase, "logprobs", "true"), "top_logprobs", "21"), "top_logprobs", "invalid_value"},
		{"chat", with(chatBase, "tools", `[{"type":"function"}]`), "tools", "unsupported_parameter"},
		{"chat", with(chatBase, "functions", `[{}]`), "functions", "unsupported_parameter"},
		{"chat", with(chatBase, "tool_choice", `"required"`), "tool_choice", "unsupported_parameter"},
		{"chat", with(chatBase, "response_format", `{"type":"json_object"}`), "response_format", "unsupported_parameter"},
		{"chat", with(chatBase, "response_format", `"text"`), "response_format", "invalid_value"},
		{"chat", with(chatBase, "modalities", `["audio"]`), "modalities", "unsupported_parameter"},
		{"chat", strings.Replace(chatBase, `"m"`, `"nonesuch"`, 1), "", "model_not_found"},
		{"chat", strings.Replace(chatBase, `"m"`, `"long"`, 1), "", "context_length_exceeded"},
		{"chat", strings.Replace(chatBase, `"m"`, `"full"`, 1), "", "no_capacity"},
		{"chat", strings.Replace(chatBase, `"m"`, `"busy"`, 1), "", "overloaded"},
		{"chat", strings.Replace(chatBase, `"m"`, `"late"`, 1), "", "deadline_exceeded"},
		{"chat", strings.Replace(chatBase, `"m"`, `"base"`, 1), "", "no_chat_template"},

		{"completions", `{"model":"m"}`, "prompt", "invalid_value"},
		{"completions", `{"model":"m","prompt":null}`, "prompt", "invalid_value"},
		{"completions", `{"model":"m","prompt":""}`, "prompt[0]", "invalid_value"},
		{"completions", `{"model":"m","prompt":[]}`, "prompt", "invalid_value"},
		{"completions", `{"model":"m","prompt":[[]]}`, "prompt[0]", "invalid_value"},
		{"completions", `{"model":"m","prompt":["a",""]}`, "prompt[1]", "invalid_value"},
		{"completions", `{"model":"m","prompt":["a",7]}`, "prompt", "invalid_value"},
		{"completions", `{"model":"m","prompt":[1,"a"]}`, "prompt", "invalid_value"},
		{"completions", `{"model":"m","prompt":{}}`, "prompt", "invalid_value"},
		{"completions", `{"model":"m","prompt":[1.5]}`, "prompt", "invalid_value"},
		{"completions", `{"model":"m","prompt":` + list(65, `"x"`) + `,"n":2}`, "prompt", "invalid_value"},
		{"completions", with(promptBase, "logprobs", "21"), "logprobs", "invalid_value"},
		{"completions", with(promptBase, "logprobs", "true"), "logprobs", "invalid_value"},
		{"completions", with(promptBase, "best_of", "3"), "best_of", "unsupported_parameter"},
		{"completions", with(promptBase, "suffix", `"x"`), "suffix", "unsupported_parameter"},

		{"infer", `{"prompt":"Hi"}`, "model", "invalid_value"},
		{"infer", `{"model":"m"}`, "prompt", "invalid_value"},
		{"infer", `{"model":"m","prompt":"Hi","tokens":[1]}`, "prompt", "invalid_value"},
		{"infer", `{"model":"m","messages":` + list(1025, `{"role":"user","content":"x"}`) + `}`, "messages", "invalid_value"},
		{"infer", with(promptBase, "options", `{"max_tokens":-1}`), "options.max_tokens", "invalid_value"},
		{"infer", with(promptBase, "options", `{"temperature":-1}`), "options", "invalid_value"},
		{"infer", with(promptBase, "options", `{"stop":[""]}`), "options.stop", "invalid_value"},
		{"infer", with(promptBase, "logprobs", "21"), "options", "invalid_value"},
		{"infer/tokenize", `{"text":"x"}`, "model", "invalid_value"},
		{"infer/detokenize", `{"tokens":[1]}`, "model", "invalid_value"},
	} {
		path := "/v1/" + c.path
		if c.path == "chat" {
			path = "/v1/chat/completions"
		}
		status, e := refusal(t, g, path, c.body)
		if e.Param != c.param || e.Code != c.code || e.Message == "" || e.Type == "" || status < 400 || status == 500 {
			t.Errorf("%s %.120s: %d %+v, want param %q, code %q", c.path, c.body, status, e, c.param, c.code)
		}
		if strings.Contains(e.Message, "Go ") || strings.Contains(e.Message, "json:") || strings.Contains(e.Message, "server.") {
			t.Errorf("%s %.120s: the text speaks of the program: %s", c.path, c.body, e.Message)
		}
	}
}

// What a request says reaches the service.
func TestParameters(t *testing.T) {
	g := newRig(t, nil)
	openAI := sample.Params{Temperature: 1, TopP: 1, RepeatPenalty: 1, RepeatLastN: -1, Seed: 42}
	native := sample.Default()
	native.Seed = 42
	change := func(p sample.Params, f func(*sample.Params)) sample.Params { f(&p); return p }
	for _, c := range []struct {
		path, body string
		want       infer.Request
	}{
		{"chat/completions", chatBase, infer.Request{Messages: []infer.Message{{Role: "user", Content: "Hi"}}, Sampling: openAI}},
		{"chat/completions", `{"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant","name":"bob","content":"c","tool_calls":[]}],
			"max_tokens":5,"max_completion_tokens":7,"temperature":0,"top_p":0.5,"top_k":-1,"min_p":0.1,"presence_penalty":1,"frequency_penalty":-1,
			"repetition_penalty":1.5,"logit_bias":{"5":-100},"seed":-1,"stop":["a","b"],"logprobs":true,"top_logprobs":4,"prompt_cache_key":"k","user":"u",
			"response_format":{"type":"text"},"tools":[],"tool_choice":"auto","ignore_eos":true}`,
			infer.Request{Messages: []infer.Message{{Role: "system", Content: "a\nb"}, {Role: "assistant", Name: "bob", Content: "c"}}, MaxTokens: 7, Stop: []string{"a", "b"}, Key: "k", IgnoreEOS: true,
				Sampling: sample.Params{TopP: 0.5, MinP: 0.1, PresencePenalty: 1, FrequencyPenalty: -1, RepeatPenalty: 1.5, RepeatLastN: -1, Seed: 1<<64 - 1, LogitBias: map[int32]float32{5: -100}, WantLogprobs: true, Logprobs: 4}}},
		{"completions", promptBase, infer.Request{Prompt: "Hi", MaxTokens: 16, Sampling: openAI}},
		{"completions", `{"model":"m","prompt":[3,4],"max_tokens":2,"echo":true,"logprobs":0,"stop":"x","top_k":5}`,
			infer.Request{Tokens: []int32{3, 4}, MaxTokens: 2, Echo: true, Stop: []string{"x"}, Sampling: change(openAI, func(p *sample.Params) { p.WantLogprobs, p.TopK = true, 5 })}},
		{"completions", `{"model":"m","prompt":" [ 1","best_of":1}`, infer.Request{Prompt: " [ 1", MaxTokens: 16, Sampling: openAI}},
		{"infer", promptBase, infer.Request{Prompt: "Hi", Sampling: native}},
		{"infer", `{"model":"m","tokens":[1],"key":"k","echo":true,"logprobs":3,"options":{"max_tokens":9,"temperature":0,"top_k":1,"seed":7,"stop":["x"],"logit_bias":{"3":1.5},"ignore_eos":true}}`,
			infer.Request{Tokens: []int32{1}, Key: "k", Echo: true, MaxTokens: 9, Stop: []string{"x"}, IgnoreEOS: true,
				Sampling: change(native, func(p *sample.Params) {
					p.Temperature, p.TopK, p.Seed, p.LogitBias, p.WantLogprobs, p.Logprobs = 0, 1, 7, map[int32]float32{3: 1.5}, true, 3
				})}},
	} {
		if resp := g.roundTrip(request("POST", "/v1/"+c.path, c.body)); resp.StatusCode != http.StatusOK {
			t.Errorf("%s %s: %d", c.path, c.body, resp.StatusCode)
			continue
		}
		c.want.Model, c.want.ID = "m", "req_0123456789abcdef"
		if got := g.svc.last(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %s:\ngot  %+v\nwant %+v", c.path, c.body, got, c.want)
		}
	}
}

// Several answers have seeds that count up, so that each can be had alone again.
func TestSeedsOfSeveralAnswers(t *testing.T) {
	g := newRig(t, nil)
	g.roundTrip(request("POST", "/v1/completions", `{"model":"m","prompt":["a","b"],"n":3,"seed":5}`))
	got := map[string]int{}
	for _, r := range g.svc.seen {
		got[fmt.Sprint(r.Prompt, r.Sampling.Seed)]++
	}
	want := map[string]int{"a5": 1, "a6": 1, "a7": 1, "b5": 1, "b6": 1, "b7": 1}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

func FuzzBodies(f *testing.F) {
	for _, s := range []string{chatBase, promptBase, `{"model":"m","prompt":[[1]]}`, `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"stop":["x"],"logit_bias":{"1":2}}`, "\x82\xa5model\xa1m\xa6prompt\xa2Hi"} {
		for which := range byte(4) {
			f.Add(which, []byte(s))
		}
	}
	g := newRig(f, nil)
	f.Fuzz(func(t *testing.T, which byte, body []byte) {
		path := []string{"/v1/chat/completions", "/v1/completions", "/v1/infer", "/v1/infer"}[which%4]
		r := request("POST", path, string(body))
		if which%4 == 3 {
			r.Header.Set("Content-Type", "application/msgpack")
		}
		switch code := g.roundTrip(r).StatusCode; code {
		case 200, 400, 404, 503, 504:
		case 500:
			if !strings.Contains(string(body), "secret") && !strings.Contains(string(body), "panic") {
				t.Errorf("%s answers 500 to %q", path, body)
			}
		default:
			t.Errorf("%s answers %d to %q", path, code, body)
		}
	})
}
