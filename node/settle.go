package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"lamina/cluster"
	"lamina/node/blobs"
	"lamina/shard"
)

// settle moves the weights of a stage from the mapped files into memory of their own, on huge pages, part by part while it
// serves: decoding is faster from there, and the disk may then fail. A node that has not the memory stays on the files.
// An error says that a file cannot be read.
func (k *keeper) settle(ctx context.Context, st *stage, l *loadedShard, log *slog.Logger) error {
	begun := time.Now()
	for _, p := range shard.PartsOf(l.shard.Info(), l.shard.Span(), l.shard.Info().Tied) {
		b, ok := st.model.Blob(p.Name)
		if !ok || !l.mapped[p.Name] || p.Kind == shard.Meta {
			continue
		}
		if free := k.spare(); free < b.Size {
			log.Warn("weights stay on their files: the machine has not the memory to copy them", "part", p.Name, "bytes", b.Size, "free", free)
			return nil
		}
		if err := k.move(ctx, p, b, l); err != nil {
			if errors.Is(err, blobs.ErrCorrupt) || errors.Is(err, blobs.ErrNotFound) || ctx.Err() != nil {
				return err
			}
			log.Warn("weights stay on their files", "part", p.Name, "err", err)
			return nil
		}
	}
	log.Info("weights are in memory", "seconds", time.Since(begun).Seconds())
	return nil
}

// move puts a copy of one part into the place of its mapping.
func (k *keeper) move(ctx context.Context, p shard.Part, b cluster.Blob, l *loadedShard) error {
	data, free, err := k.blobs.Load(ctx, b)
	if err != nil {
		return fmt.Errorf("part %s: %w", p.Name, err)
	}
	if err := l.shard.Replace(p, data); err != nil {
		free()
		return err
	}
	old := l.frees[p.Name]
	l.frees[p.Name], l.mapped[p.Name] = free, false
	old()
	return nil
}
