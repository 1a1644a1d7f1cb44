package main

import (
	"context"
	"fmt"

	"lamina/node"
	"lamina/node/api"
	"lamina/node/server"
)

// local answers from a file, in this process.
type local struct {
	a *app
	l *node.Local
}

func openFile(ctx context.Context, a *app, c *runCmd) (asker, error) {
	bar := newBar(a.err, "loading "+c.Model)
	cfg := node.LocalConfig{Threads: c.Threads, Memory: int64(c.Memory)}
	if bar.line.tty { // a pipe or a log wants the answer only
		cfg.Progress = func(done, total int64) { bar.set("", done, total) }
	}
	l, err := node.OpenFile(ctx, c.Model, cfg)
	bar.close()
	if err != nil {
		return nil, err
	}
	return local{a, l}, nil
}

func (l local) ask(ctx context.Context, r api.GenerateRequest, emit func(api.GenerateEvent) error) error {
	return server.Ask(ctx, l.l.Service, r, "run", emit)
}

func (l local) name() string { return l.l.Model }

func (l local) close() {
	if err := l.l.Close(); err != nil {
		fmt.Fprintln(l.a.err, "lamina:", err)
	}
}
