package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// The files of an identity in the data directory. node.crt is written last: without it there is no identity.
const (
	fileCACert    = "ca.crt"
	fileCAKey     = "ca.key"
	fileNodeCert  = "node.crt"
	fileNodeKey   = "node.key"
	fileGossipKey = "gossip.key"
	fileAdminKey  = "admin.key"
	fileSeeds     = "seeds"
)

// maxFile bounds what is read from a file of the identity.
const maxFile = 64 << 10

// writeFile replaces dir/name so that after a crash there is either the old or the new content: a temporary file
// is written, synced and renamed, then the directory is synced. Only the owner may read it.
func writeFile(dir, name string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// readFile reads dir/name and refuses it if strangers on the machine may read it too. A group may: container platforms set
// the group of volumes.
func readFile(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, fmt.Errorf("%s is not a file of an identity", path)
	}
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("%s may be read by anyone on this machine (mode %#o): chmod 600 it", path, st.Mode().Perm())
	}
	data := make([]byte, st.Size())
	n, err := f.ReadAt(data, 0)
	if n < len(data) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// exists says whether the data directory holds an identity.
func exists(dir string) (bool, error) {
	_, err := os.Lstat(filepath.Join(dir, fileNodeCert))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// AdminKey returns the API key in the data directory, made there if there is none: the key that the command line on this
// machine uses. Whoever calls it sees to it that the cluster knows the key.
func AdminKey(dir string) (key APIKey, made bool, err error) {
	key, err = ReadAdminKey(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	key = NewAPIKey()
	if err := writeFile(dir, fileAdminKey, []byte(key.String()+"\n")); err != nil {
		return APIKey{}, false, err
	}
	return key, true, nil
}

// ReadAdminKey returns the API key in the data directory; an error that wraps fs.ErrNotExist if there is none.
func ReadAdminKey(dir string) (APIKey, error) {
	data, err := readFile(dir, fileAdminKey)
	if err != nil {
		return APIKey{}, err
	}
	key, err := ParseAPIKey(trimLine(data))
	if err != nil {
		return APIKey{}, fmt.Errorf("%s: %w", filepath.Join(dir, fileAdminKey), err)
	}
	return key, nil
}
