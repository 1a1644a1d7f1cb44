package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/term"

	"lamina/node"
	"lamina/node/api"
)

// app is what commands work with besides their flags.
type app struct {
	in       io.Reader
	out, err io.Writer
}

// interruptible returns a context that ends at Ctrl-C or SIGTERM.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// terminal is the file behind a stream if that is a terminal.
func terminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// json prints a value for scripts.
func (a *app) json(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// clientFlags say which node a command asks, and with which key.
type clientFlags struct {
	Addr string `help:"URL of the node to ask (default: ${default})." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Key  string `help:"API key; else the one in admin.key of the data folder." placeholder:"KEY"`
	Data string `help:"Data folder of a node on this machine, for its key (default: ${data})." placeholder:"DIR"`
}

// client makes the client of a command. Without a key it still serves for what needs none.
func (f clientFlags) client() (*api.Client, error) {
	key := f.Key
	if key == "" {
		dir := f.Data
		if dir == "" {
			dir = node.DefaultData()
		}
		path := filepath.Join(dir, "admin.key")
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the key of this machine's node: %w", err)
		}
		key = strings.TrimSpace(string(data))
	}
	return api.NewClient(f.Addr, key, api.JSON)
}

// explain is an error as a person reads it, with what to do.
func explain(err error) string {
	text := err.Error()
	var e *api.Error
	if !errors.As(err, &e) {
		return text
	}
	switch e.Code {
	case "invalid_api_key":
		return text + "\nSet LAMINA_KEY, or LAMINA_DATA to the data folder of a node of this cluster on this machine."
	case "no_chat_template":
		return text + "\nGive --raw to continue the text as it stands."
	case "http_404":
		return text + "\nIs there a lamina node at this address?"
	}
	if e.RequestID != "" && e.Status >= 500 {
		return text + ", request " + e.RequestID
	}
	return text
}
