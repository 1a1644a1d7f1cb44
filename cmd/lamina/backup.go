package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"lamina/node/api"
)

// maxBackup bounds a backup file, in bytes.
const maxBackup = 64 << 20

type backupCmd struct {
	File string `arg:"" help:"File to write; - is standard output."`
	clientFlags
}

// Run writes a backup.
func (c *backupCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	cl, err := c.client()
	if err != nil {
		return err
	}
	b, err := cl.Backup(ctx)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if c.File == "-" {
		_, err := a.out.Write(data)
		return err
	}
	if err := writeWhole(c.File, data); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "wrote %d models and %d keys of cluster %s to %s\n", len(b.Models), len(b.Keys), b.Cluster, c.File)
	return nil
}

// writeWhole writes a file that is either as it was or complete, and readable by its owner only.
func writeWhole(path string, data []byte) error {
	f, err := os.OpenFile(path+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

type restoreCmd struct {
	File string `arg:"" help:"File that lamina backup wrote; - is standard input."`
	clientFlags
}

// Run makes known what a backup holds.
func (c *restoreCmd) Run(a *app) error {
	ctx, cancel := interruptible()
	defer cancel()
	b, err := c.read(a.in)
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	r, err := cl.Restore(ctx, b)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "known now: %d of %d models, %d of %d keys\n", len(r.Models), len(b.Models), len(r.Keys), len(b.Keys))
	for _, x := range r.Refused {
		fmt.Fprintf(a.err, "not restored: %s: %s\n", strings.TrimSpace("model "+x.Model+" "+x.Key), x.Reason)
	}
	if len(r.Refused) > 0 {
		return fmt.Errorf("%d of the backup's models and keys were not restored", len(r.Refused))
	}
	return nil
}

func (c *restoreCmd) read(in io.Reader) (b api.Backup, err error) {
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return b, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxBackup+1))
	switch {
	case err != nil:
		return b, err
	case len(data) > maxBackup:
		return b, fmt.Errorf("%s is larger than %d bytes; it is no backup", c.File, maxBackup)
	}
	if err := api.DecodeJSON(data, &b, true); err != nil {
		return b, fmt.Errorf("%s is no backup that this program reads: %w", c.File, err)
	}
	return b, nil
}
