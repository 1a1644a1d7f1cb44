package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// The two ways to ask.
const (
	Chat        = "chat"
	Completions = "completions"
)

// ErrConfig: a setting cannot work; the text names it and what to do.
var ErrConfig = errors.New("bench")

// Config says what to send where. Run copies it.
type Config struct {
	// URL of the server, with or without /v1 at its end.
	URL string
	// Key is sent as a bearer token; empty: none.
	Key string
	// Model is the name to ask for; empty: the first that the server lists.
	Model string
	// API is Chat or Completions.
	API string
	// Loads are measured one after the other.
	Loads []Load
	// Requests ends a load after so many; 0 with PerStream and Duration 0 too: four a stream, at least eight.
	Requests int
	// PerStream is Requests as a multiple of the concurrency (of the rate: so many seconds' worth).
	PerStream int
	// Duration ends a load after so long; what runs then may finish.
	Duration time.Duration
	// Warmup is how many requests precede each load and are not counted.
	Warmup int
	// Prompt and Answer are lengths in tokens. Prompt is what follows Prefix, the chat template included.
	Prompt, Answer Length
	// Prefix is how many tokens at the beginning requests of one group share; there are Groups of them.
	Prefix, Groups int
	// Turns is how many requests a conversation has, each with all that was said before; Think is the pause between two.
	Turns int
	Think time.Duration
	// Stream asks for the answer in pieces; without, only whole answers can be timed.
	Stream bool
	// Fields go into the body of every request as they are: sampling, and what only one server knows.
	Fields map[string]json.RawMessage
	// Fresh makes a connection for each request; else they are kept.
	Fresh bool
	// Timeout bounds a request.
	Timeout time.Duration
	// InFlight bounds how many requests of an open loop run at once; later ones wait, and their clock runs.
	InFlight int
	// Seed of prompts, lengths and arrivals.
	Seed uint64

	// Dial makes connections; nil: by the operating system.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Progress is told four times a second how far the load is; nil: nobody is. Never two calls at once.
	Progress func(Snapshot)
}

// Load is one strength of load: so many requests at once, or, if Rate is over zero, so many arrivals a second.
type Load struct {
	Concurrency int     `json:"concurrency,omitempty"`
	Rate        float64 `json:"rate,omitempty"`
	Even        bool    `json:"even,omitempty"` // arrivals at equal distances instead of a Poisson process
}

// Label is the load as tables head it.
func (l Load) Label() string {
	if l.Rate > 0 {
		return fmt.Sprintf("%g/s", l.Rate)
	}
	return fmt.Sprintf("%d", l.Concurrency)
}

// Default returns the settings that a bare command has; URL is still to be set.
func Default() Config {
	return Config{API: Chat, Loads: []Load{{Concurrency: 1}}, Warmup: 1, Prompt: Fixed(128), Answer: Fixed(64), Groups: 1, Turns: 1,
		Stream: true, Timeout: 10 * time.Minute, InFlight: 1024}
}

// Bounds of what can be asked for.
const (
	maxConcurrency = 1 << 14
	maxRate        = 1e5
	maxTokens      = 1 << 20
	maxRequests    = 1 << 24
	maxTurns       = 1 << 10
)

// Validate names the first setting that cannot work.
func (c *Config) Validate() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%w: address %q: give the URL of a server, such as http://127.0.0.1:8080", ErrConfig, c.URL)
	case c.API != Chat && c.API != Completions:
		return fmt.Errorf("%w: API %q: it is %s or %s", ErrConfig, c.API, Chat, Completions)
	case len(c.Loads) == 0:
		return fmt.Errorf("%w: no load: give a concurrency or a rate", ErrConfig)
	case c.Timeout <= 0 || c.Duration < 0 || c.Think < 0:
		return fmt.Errorf("%w: times must be positive", ErrConfig)
	}
	for _, l := range c.Loads {
		if !(l.Rate >= 0 && l.Rate <= maxRate) || l.Rate == 0 && (l.Concurrency < 1 || l.Concurrency > maxConcurrency) {
			return fmt.Errorf("%w: load %s: a concurrency from 1 to %d, or a rate up to %g a second", ErrConfig, l.Label(), maxConcurrency, maxRate)
		}
	}
	for _, r := range []struct {
		name       string
		n, min, up int
	}{
		{"requests", c.Requests, 0, maxRequests}, {"requests a stream", c.PerStream, 0, maxRequests}, {"warm-up", c.Warmup, 0, maxRequests},
		{"shared prefix", c.Prefix, 0, maxTokens}, {"groups", c.Groups, 1, maxRequests}, {"turns", c.Turns, 1, maxTurns},
		{"requests in flight", c.InFlight, 1, maxRequests},
	} {
		if r.n < r.min || r.n > r.up {
			return fmt.Errorf("%w: %s: %d is not from %d to %d", ErrConfig, r.name, r.n, r.min, r.up)
		}
	}
	return nil
}

// base is the URL that paths such as /chat/completions follow.
func (c *Config) base() string {
	u := strings.TrimRight(c.URL, "/")
	if !strings.HasSuffix(u, "/v1") {
		u += "/v1"
	}
	return u
}

// requests is how many a load has; 0: as many as its duration holds.
func (c *Config) requests(l Load) int {
	streams := l.Concurrency
	if l.Rate > 0 {
		streams = max(int(l.Rate+0.5), 1)
	}
	switch {
	case c.PerStream > 0:
		return min(c.PerStream*streams, maxRequests)
	case c.Requests > 0 || c.Duration > 0:
		return c.Requests
	}
	return max(4*streams, 8)
}
