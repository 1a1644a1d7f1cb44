package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lamina/node/api"
)

type runCmd struct {
	Model       string   `arg:"" help:"Name of a model of the cluster, or a GGUF file to run in this process."`
	Prompt      []string `arg:"" optional:"" help:"What to ask. Without it, a chat at the terminal, or what comes by standard input."`
	System      string   `help:"What the model is told before everything else." placeholder:"TEXT"`
	Raw         bool     `help:"Continue the prompt as it stands, without the model's chat template."`
	MaxTokens   int      `help:"Longest answer; 0 is the node's default." default:"0" placeholder:"N"`
	Temperature *float32 `help:"0 takes the likeliest token every time." placeholder:"T"`
	TopP        *float32 `help:"Keep the likeliest tokens that reach this probability together." placeholder:"P"`
	TopK        *int     `help:"Keep so many of the likeliest tokens." placeholder:"K"`
	MinP        *float32 `help:"Drop tokens less likely than this share of the likeliest." placeholder:"P"`
	Seed        *uint64  `help:"Equal seeds give equal answers." placeholder:"N"`
	Stop        []string `help:"Text that ends the answer." placeholder:"TEXT" sep:"none"`
	Verbose     bool     `help:"Say at the end how fast it was and which nodes answered." short:"v"`
	Threads     int      `help:"For a file: threads that compute; 0 is every CPU." default:"0" placeholder:"N"`
	Memory      byteSize `help:"For a file: memory for weights and caches; 0 is 80 % of what is free." default:"0" placeholder:"BYTES"`
	clientFlags
}

// asker answers requests: a node by its API, or a file in this process.
type asker interface {
	// ask hands every event of the answer to emit.
	ask(ctx context.Context, r api.GenerateRequest, emit func(api.GenerateEvent) error) error
	// name is the model's, as requests have it.
	name() string
	close()
}

// maxPrompt bounds what is read from standard input.
const maxPrompt = 8 << 20

// Run asks once, or chats.
func (c *runCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	prompt := strings.Join(c.Prompt, " ")
	if _, tty := terminal(a.in); prompt == "" && !tty {
		data, err := io.ReadAll(io.LimitReader(a.in, maxPrompt+1))
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		if len(data) > maxPrompt {
			return fmt.Errorf("standard input has more than %s; that is no prompt", size(maxPrompt))
		}
		if prompt = strings.TrimSpace(string(data)); prompt == "" {
			return errors.New("nothing to ask: give a prompt, or run it at a terminal to chat")
		}
	}
	k, err := c.open(ctx, a)
	if err != nil {
		return err
	}
	defer k.close()
	if prompt == "" {
		cancel() // from here on Ctrl-C ends an answer, not the program
		return newChat(a, c, k).loop()
	}
	end, err := answer(ctx, a.out, k, c.request(k.name(), prompt))
	fmt.Fprintln(a.out)
	if err == nil && c.Verbose {
		fmt.Fprintln(a.err, end)
	}
	return err
}

// open finds what answers.
func (c *runCmd) open(ctx context.Context, a *app) (asker, error) {
	if isFile(c.Model) {
		return openFile(ctx, a, c)
	}
	cl, err := c.client()
	if err != nil {
		return nil, err
	}
	return remote{cl, c.Model}, nil
}

// isFile tells a file from a model's name, which may have slashes too.
func isFile(model string) bool {
	return strings.EqualFold(filepath.Ext(model), ".gguf") || filepath.IsAbs(model) ||
		strings.HasPrefix(model, "."+string(os.PathSeparator)) || strings.HasPrefix(model, ".."+string(os.PathSeparator))
}

// request is a prompt with the command's settings.
func (c *runCmd) request(model, prompt string) api.GenerateRequest {
	r := api.GenerateRequest{Model: model, Stream: true, Options: c.options()}
	if c.Raw {
		r.Prompt = c.System + prompt
		return r
	}
	if c.System != "" {
		r.Messages = append(r.Messages, api.Message{Role: "system", Content: c.System})
	}
	r.Messages = append(r.Messages, api.Message{Role: "user", Content: prompt})
	return r
}

func (c *runCmd) options() api.Options {
	return api.Options{MaxTokens: c.MaxTokens, Temperature: c.Temperature, TopP: c.TopP, TopK: c.TopK, MinP: c.MinP, Seed: c.Seed, Stop: c.Stop}
}

// ending is what is known of an answer at its end.
type ending struct{ reply api.GenerateReply }

// answer asks and writes the text as it comes.
func answer(ctx context.Context, w io.Writer, k asker, r api.GenerateRequest) (ending, error) {
	var end ending
	err := k.ask(ctx, r, func(e api.GenerateEvent) error {
		end.reply.Add(e)
		_, err := io.WriteString(w, e.Text)
		return err
	})
	return end, err
}

// String says how fast the answer was, and who gave it.
func (e ending) String() string {
	u, t := e.reply.Usage, e.reply.Timings
	out := fmt.Sprintf("prompt %d tokens in %s", u.PromptTokens, millis(t.PrefillMS))
	if t.PrefillMS > 0 {
		out += fmt.Sprintf(" (%.1f tokens/s)", float64(u.PromptTokens)/t.PrefillMS*1000)
	}
	out += fmt.Sprintf("; answer %d tokens", u.CompletionTokens)
	if t.DecodeMS > 0 && u.CompletionTokens > 1 {
		out += fmt.Sprintf(" in %s (%.1f tokens/s)", millis(t.DecodeMS), float64(u.CompletionTokens-1)/t.DecodeMS*1000)
	}
	return out + "; " + e.reply.Route
}

func millis(ms float64) string {
	return time.Duration(ms * float64(time.Millisecond)).Round(time.Millisecond).String()
}

// remote asks a node.
type remote struct {
	c     *api.Client
	model string
}

func (r remote) ask(ctx context.Context, req api.GenerateRequest, emit func(api.GenerateEvent) error) error {
	_, err := r.c.Generate(ctx, req, emit)
	return err
}

func (r remote) name() string { return r.model }
func (r remote) close()       {}
