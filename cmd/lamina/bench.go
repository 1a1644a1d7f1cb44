package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lamina/node/bench"
)

type benchCmd struct {
	Model string `arg:"" optional:"" help:"Name of the model; default: the first that the server lists."`

	Addr        string        `help:"URL of the server, Lamina or another with the OpenAI API (default: ${default})." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Key         string        `help:"API key. The one of the data folder is not used: the server may be a stranger." placeholder:"KEY"`
	Concurrency []int         `help:"Closed loop: so many requests at once; several are measured one after the other, as 1,4,16 (default: 1)." short:"c" placeholder:"N"`
	Rate        []float64     `help:"Open loop: so many arrivals a second whatever the server does; latency counts from when a request was due." short:"r" placeholder:"R"`
	Even        bool          `help:"Open loop: arrivals at equal distances instead of at random (Poisson)."`
	Requests    string        `help:"Requests for each load, as 100, or 5x for five a stream (default: 4x, at least 8)." short:"n" placeholder:"N|Nx"`
	Duration    time.Duration `help:"Start requests for so long, as 30s; what runs then is finished." short:"d" placeholder:"TIME"`
	Warmup      int           `help:"Requests before each load that are not counted (default: ${default})." default:"1" placeholder:"N"`
	Prompt      bench.Length  `help:"Tokens of a prompt, chat template included: 85, 20-200, 32/512, exp:100, normal:100:20 (default: ${default})." default:"128" placeholder:"LENGTH"`
	Answer      bench.Length  `help:"Tokens of an answer, in the same forms (default: ${default})." default:"64" placeholder:"LENGTH"`
	Prefix      int           `help:"Tokens at the beginning that the prompts of a group share, before those of --prompt." placeholder:"N"`
	Groups      int           `help:"How many different shared beginnings there are (default: ${default})." default:"1" placeholder:"N"`
	Turns       int           `help:"Requests of a conversation, each with all that was said before (default: ${default})." default:"1" placeholder:"N"`
	Think       time.Duration `help:"Pause between an answer and the next turn." placeholder:"TIME"`
	Completions bool          `help:"Ask /v1/completions instead of /v1/chat/completions."`
	Stream      bool          `help:"Answers in pieces; without, only whole answers can be timed (default: yes)." default:"true" negatable:""`
	IgnoreEOS   bool          `help:"Ask for answers of full length (ignore_eos; default: yes)." name:"ignore-eos" default:"true" negatable:""`
	Temperature *float32      `help:"Sampling; not sent by default, and the server's own holds." placeholder:"T"`
	TopP        *float32      `help:"Sampling." placeholder:"P"`
	TopK        *int          `help:"Sampling." placeholder:"K"`
	MinP        *float32      `help:"Sampling." placeholder:"P"`
	Field       []string      `help:"Another field of the request's body, as cache_prompt=false." placeholder:"NAME=JSON" sep:"none"`
	FreshConns  bool          `help:"A new connection for each request; else they are kept."`
	Timeout     time.Duration `help:"Longest time for a request (default: ${default})." default:"10m" placeholder:"TIME"`
	InFlight    int           `help:"Open loop: most requests at once; more wait, and their clock runs (default: ${default})." default:"1024" placeholder:"N"`
	MaxErrors   int           `help:"Fail only if more requests than this failed (default: ${default})." default:"0" placeholder:"N"`
	Seed        uint64        `help:"Equal seeds give equal prompts (default: random, so that no earlier run is in a cache)." placeholder:"N"`
	JSON        bool          `help:"Print JSON for scripts." name:"json"`
	Plot        []string      `help:"Draw the figures into a file, .svg or .png." placeholder:"FILE" sep:"none" type:"path"`
}

// Help is what lamina bench --help says besides the flags.
func (benchCmd) Help() string {
	return `Makes load and measures time to the first token (TTFT), gaps between tokens, whole answers, tokens a second, and errors by kind. Nothing is retried.

Examples:

  lamina bench smollm2 -c 1,4,8,16 --prompt 85 --answer 64
      four strengths of load in one table

  lamina bench smollm2 --rate 2,4,8 -d 30s --plot load.svg
      open loop: Poisson arrivals; up to which rate does it keep up?

  lamina bench smollm2 -c 4 --prefix 512 --groups 4 -n 32
      shared beginnings: the first token of a new one and of one that was sent before

  lamina bench smollm2 -c 8 --turns 5 --prompt 40
      conversations: each turn sends all that was said

  lamina bench --addr http://127.0.0.1:8081 -c 16 --field cache_prompt=false --json > llama-server.json
      the same for llama-server, Ollama or vLLM`
}

// Run makes the loads and prints what they found. It fails if more requests failed than --max-errors.
func (c *benchCmd) Run(a *app) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	for _, p := range c.Plot {
		if ext := strings.ToLower(filepath.Ext(p)); ext != ".svg" && ext != ".png" {
			return fmt.Errorf("--plot %s: a plot is an .svg or a .png file", p)
		}
	}
	ctx, cancel := interruptible()
	defer cancel()
	l := newLine(a.err)
	if l.tty { // a pipe or a log wants the result only
		cfg.Progress = func(s bench.Snapshot) { l.set(progressText(s)) }
	}
	rep, err := bench.Run(ctx, cfg)
	l.close()
	if rep == nil || err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if err := c.print(a, rep); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	if n := rep.Failed(); n > c.MaxErrors {
		return fmt.Errorf("%d requests failed, and --max-errors is %d", n, c.MaxErrors)
	}
	return nil
}

func (c *benchCmd) print(a *app, rep *bench.Report) error {
	for _, p := range c.Plot {
		if err := plotFile(p, rep); err != nil {
			return err
		}
	}
	if c.JSON {
		return a.json(rep)
	}
	return rep.Text(a.out)
}

func plotFile(path string, rep *bench.Report) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if strings.EqualFold(filepath.Ext(path), ".png") {
		return rep.PNG(f)
	}
	return rep.SVG(f)
}

// config is what the flags say.
func (c *benchCmd) config() (bench.Config, error) {
	cfg := bench.Default()
	cfg.URL, cfg.Key, cfg.Model = c.Addr, c.Key, c.Model
	if !strings.Contains(cfg.URL, "://") {
		cfg.URL = "http://" + cfg.URL
	}
	if c.Completions {
		cfg.API = bench.Completions
	}
	cfg.Duration, cfg.Warmup, cfg.Prompt, cfg.Answer = c.Duration, c.Warmup, c.Prompt, c.Answer
	cfg.Prefix, cfg.Groups, cfg.Turns, cfg.Think = c.Prefix, c.Groups, c.Turns, c.Think
	cfg.Stream, cfg.Fresh, cfg.Timeout, cfg.InFlight = c.Stream, c.FreshConns, c.Timeout, c.InFlight
	if cfg.Seed = c.Seed; cfg.Seed == 0 {
		cfg.Seed = rand.Uint64N(1e9) + 1
	}
	if err := c.loads(&cfg); err != nil {
		return cfg, err
	}
	if n, perStream := strings.CutSuffix(c.Requests, "x"); c.Requests != "" {
		k, err := strconv.Atoi(n)
		if err != nil || k < 1 {
			return cfg, fmt.Errorf("--requests %q: write a number, as 100, or with an x for so many a stream, as 5x", c.Requests)
		}
		if cfg.Requests = k; perStream {
			cfg.Requests, cfg.PerStream = 0, k
		}
	}
	return cfg, c.fields(&cfg)
}

func (c *benchCmd) loads(cfg *bench.Config) error {
	if len(c.Rate) > 0 && len(c.Concurrency) > 0 {
		return errors.New("--concurrency is a closed loop and --rate an open one: give one of them")
	}
	if len(c.Rate)+len(c.Concurrency) > 0 {
		cfg.Loads = nil
	}
	for _, n := range c.Concurrency {
		cfg.Loads = append(cfg.Loads, bench.Load{Concurrency: n})
	}
	for _, r := range c.Rate {
		if !(r > 0) {
			return fmt.Errorf("--rate %g: a rate is more than 0 a second", r)
		}
		cfg.Loads = append(cfg.Loads, bench.Load{Rate: r, Even: c.Even})
	}
	return nil
}

// fields are those of the request's body besides what the load says.
func (c *benchCmd) fields(cfg *bench.Config) error {
	cfg.Fields = map[string]json.RawMessage{}
	var err error
	set := func(name string, v any) {
		if data, e := json.Marshal(v); e != nil {
			err = e
		} else {
			cfg.Fields[name] = data
		}
	}
	if c.IgnoreEOS {
		set("ignore_eos", true)
	}
	if c.Temperature != nil {
		set("temperature", *c.Temperature)
	}
	if c.TopP != nil {
		set("top_p", *c.TopP)
	}
	if c.TopK != nil {
		set("top_k", *c.TopK)
	}
	if c.MinP != nil {
		set("min_p", *c.MinP)
	}
	for _, f := range c.Field {
		name, value, ok := strings.Cut(f, "=")
		if !ok || name == "" || !json.Valid([]byte(value)) {
			return fmt.Errorf("--field %q: write NAME=JSON, as seed=7 or stop='[\"\\n\"]'", f)
		}
		cfg.Fields[name] = json.RawMessage(value)
	}
	return err
}

// progressText is the line that changes while a load runs.
func progressText(s bench.Snapshot) string {
	out := fmt.Sprintf("load %s: %d", s.Load.Label(), s.Done)
	if s.Want > 0 {
		out += fmt.Sprintf(" of %d", s.Want)
	}
	out += fmt.Sprintf(" done, %d running", s.Running)
	if s.Failed > 0 {
		out += fmt.Sprintf(", %d failed", s.Failed)
	}
	if s.Done > 0 {
		out += fmt.Sprintf(", %.1f tokens/s, TTFT %v, gap %v", s.OutPerSecond, s.TTFT50.Round(time.Millisecond), s.Gap50.Round(100*time.Microsecond))
	}
	var left time.Duration
	switch {
	case s.Total > 0:
		left = max(s.Total-s.Elapsed, 0)
	case s.Want > 0 && s.Done > 0:
		left = time.Duration(float64(s.Elapsed) / float64(s.Done) * float64(s.Want-s.Done))
	}
	if left > 0 {
		out += fmt.Sprintf(", %v left", left.Round(time.Second))
	}
	return out
}
