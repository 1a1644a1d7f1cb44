package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what a run found. Its JSON is for scripts: fields are added, not changed.
type Report struct {
	Begun   time.Time `json:"begun"`
	URL     string    `json:"url"`
	Model   string    `json:"model"`
	API     string    `json:"api"`
	Stream  bool      `json:"stream"`
	Kept    bool      `json:"kept_connections"`
	Prompt  Length    `json:"prompt"`
	Answer  Length    `json:"answer"`
	Prefix  int       `json:"prefix,omitempty"`
	Groups  int       `json:"groups,omitempty"`
	Turns   int       `json:"turns"`
	Seed    uint64    `json:"seed"`
	Points  []Point   `json:"points"`
	Remarks []string  `json:"remarks"`
}

// Point is what one load found. Times are in milliseconds and of whole answers only; an open loop's count from when the
// request was due.
type Point struct {
	Load
	Requests int          `json:"requests"`
	Failed   int          `json:"failed"`
	GaveUp   string       `json:"gave_up,omitempty"`
	Errors   []ErrorCount `json:"errors,omitempty"`
	Seconds  float64      `json:"seconds"`
	// TTFT is the time to the first text; Fresh is of requests whose beginning the server had not seen, Reused of the others.
	TTFT       Summary  `json:"ttft_ms"`
	TTFTFresh  *Summary `json:"ttft_fresh_ms,omitempty"`
	TTFTReused *Summary `json:"ttft_reused_ms,omitempty"`
	// Gap is between two pieces of the stream, PerToken an answer's time from first to last text by its tokens.
	Gap      Summary `json:"gap_ms"`
	PerToken Summary `json:"per_token_ms"`
	Whole    Summary `json:"end_to_end_ms"`
	// Lag is how late requests went out, by a full InFlight or a busy machine.
	Lag Summary `json:"lag_ms"`

	InTokens          int64   `json:"in_tokens"`
	OutTokens         int64   `json:"out_tokens"`
	CachedTokens      int64   `json:"cached_tokens"` // of InTokens, as the server says
	Pieces            int64   `json:"pieces"`
	InPerSecond       float64 `json:"in_tokens_per_second"`
	OutPerSecond      float64 `json:"out_tokens_per_second"`
	RequestsPerSecond float64 `json:"requests_per_second"`

	Uncounted int `json:"uncounted,omitempty"` // answers without usage
	Silent    int `json:"silent,omitempty"`    // answers without any text
	Early     int `json:"early,omitempty"`     // answers shorter than asked for
	// Answers is a digest of all texts, whatever their order: equal where the same seed got the same answers.
	Answers  string      `json:"answers_digest,omitempty"`
	Timeline []TimePoint `json:"timeline,omitempty"`
}

// ErrorCount is how often one kind of failure happened, and the first one's text.
type ErrorCount struct {
	Kind    string `json:"kind"`
	Count   int    `json:"count"`
	Example string `json:"example"`
}

// TimePoint is how many pieces a second came at a time, in seconds from the beginning of the load.
type TimePoint struct {
	At   float64 `json:"at"`
	Rate float64 `json:"rate"`
}

func newReport(c *Config) *Report {
	r := &Report{Begun: time.Now(), URL: c.base(), Model: c.Model, API: c.API, Stream: c.Stream, Kept: !c.Fresh, Prompt: c.Prompt, Answer: c.Answer,
		Prefix: c.Prefix, Turns: c.Turns, Seed: c.Seed, Remarks: []string{}}
	if c.Prefix > 0 {
		r.Groups = c.Groups
	}
	return r
}

// Failed is how many requests failed at all loads.
func (r *Report) Failed() int {
	n := 0
	for _, p := range r.Points {
		n += p.Failed
	}
	return n
}

func (r *Report) remark(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(r.Remarks, text) {
		r.Remarks = append(r.Remarks, text)
	}
}

// finish says what a reader of the figures must know.
func (r *Report) finish() {
	for _, p := range r.Points {
		ok := p.Requests - p.Failed
		for _, e := range p.Errors {
			r.remark("load %v: %d x %s, such as: %s", p.Label(), e.Count, e.Kind, e.Example)
		}
		if p.GaveUp != "" {
			r.remark("load %v: %s.", p.Label(), p.GaveUp)
		}
		if p.Early > 0 {
			r.remark("load %v: %d of %d answers were shorter than asked for.", p.Label(), p.Early, ok)
		}
		if p.Silent > 0 && r.Stream {
			r.remark("load %v: %d of %d answers had no text, and so no first token.", p.Label(), p.Silent, ok)
		}
		if p.Uncounted > 0 && p.Uncounted < ok {
			r.remark("load %v: the server counted no tokens in %d of %d answers; there a piece of the stream is a token.", p.Label(), p.Uncounted, ok)
		}
		if p.Pieces > 0 && float64(p.OutTokens) > 1.05*float64(p.Pieces) {
			r.remark("load %v: a piece of the stream holds %.2f tokens on average; gaps are between pieces.", p.Label(), float64(p.OutTokens)/float64(p.Pieces))
		}
		if p.Rate > 0 && p.Lag.P99 > 5 {
			r.remark("load %v: requests went out late, p99 %s ms (this machine or the bound of requests in flight); latency counts from when they were due.", p.Label(), figure(p.Lag.P99))
		}
	}
	if !r.Stream {
		r.remark("Answers came whole: there is no first token to time.")
	}
}

// figure writes a number with three digits that count.
func figure(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 1:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}

// head says what was asked.
func (r *Report) head() string {
	kept := "kept connections"
	if !r.Kept {
		kept = "a connection for each request"
	}
	prompt := fmt.Sprintf("prompts of %v tokens", r.Prompt)
	if r.Prefix > 0 {
		prompt += fmt.Sprintf(" after %d shared ones (%d groups)", r.Prefix, r.Groups)
	}
	if r.Turns > 1 {
		prompt += fmt.Sprintf(" in %d turns", r.Turns)
	}
	return fmt.Sprintf("%s at %s: %s, %s, answers of %v, %s, seed %d", r.Model, r.URL, r.API, prompt, r.Answer, kept, r.Seed)
}

// Text writes the report as a table with remarks.
func (r *Report) Text(w io.Writer) error {
	fmt.Fprintf(w, "%s\n\n", r.head())
	load := "STREAMS"
	if len(r.Points) > 0 && r.Points[0].Rate > 0 {
		load = "ARRIVALS"
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\t\t\tTTFT ms\t\t\tGAP ms\t\t\tEND TO END ms\t\t\tTOKENS/s\t\tTOKENS\t\t\n")
	fmt.Fprintf(t, "%s\tREQS\tFAILED\tp50\tp90\tp99\tp50\tp90\tp99\tp50\tp90\tp99\tout\tin\tin\tout\tREQ/s\t\n", load)
	for _, p := range r.Points {
		cells := []string{p.Label(), fmt.Sprint(p.Requests), fmt.Sprint(p.Failed)}
		for _, s := range []Summary{p.TTFT, p.Gap, p.Whole} {
			if s.Count == 0 {
				cells = append(cells, "-", "-", "-")
			} else {
				cells = append(cells, figure(s.P50), figure(s.P90), figure(s.P99))
			}
		}
		ok := float64(max(p.Requests-p.Failed, 1))
		cells = append(cells, figure(p.OutPerSecond), figure(p.InPerSecond), figure(float64(p.InTokens)/ok), figure(float64(p.OutTokens)/ok), figure(p.RequestsPerSecond))
		fmt.Fprintln(t, strings.Join(cells, "\t")+"\t")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range r.Points {
		if p.TTFTReused != nil {
			fmt.Fprintf(w, "\nload %s: first token of a beginning that is new p50 %s ms (%d), of one that was sent before p50 %s ms (%d): %.1f times", p.Label(),
				figure(p.TTFTFresh.P50), p.TTFTFresh.Count, figure(p.TTFTReused.P50), p.TTFTReused.Count, p.TTFTFresh.P50/max(p.TTFTReused.P50, 1e-6))
			fmt.Fprintln(w)
		}
	}
	if len(r.Remarks) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\n%s\n", strings.Join(r.Remarks, "\n"))
	return err
}
