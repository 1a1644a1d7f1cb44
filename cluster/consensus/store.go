package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// store is raft's LogStore and StableStore on one bbolt file.
//
// Layout: bucket "log" maps the index (8 bytes, big endian) to an entry; bucket "stable" holds raft's own
// few values. Numbers in values are big endian.
type store struct{ db *bolt.DB }

var (
	_ raft.LogStore    = (*store)(nil)
	_ raft.StableStore = (*store)(nil)
)

const (
	logBucket    = "log"
	stableBucket = "stable"
)

// openStore opens or makes the file. Another process that holds it is an error after a second, not a hang.
func openStore(path string, noSync bool) (*store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, NoSync: noSync, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("consensus: %s is in use by another process; stop it first: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("consensus: open %s: %w; if the file is damaged, move the data folder away and join again", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists([]byte(logBucket))
		if err == nil {
			_, err = tx.CreateBucketIfNotExists([]byte(stableBucket))
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("consensus: prepare %s: %w", path, err), db.Close())
	}
	return &store{db}, nil
}

// Close closes the file.
func (s *store) Close() error { return s.db.Close() }

// FirstIndex implements raft.LogStore.
func (s *store) FirstIndex() (uint64, error) {
	return s.end(func(c *bolt.Cursor) []byte { k, _ := c.First(); return k })
}

// LastIndex implements raft.LogStore.
func (s *store) LastIndex() (uint64, error) {
	return s.end(func(c *bolt.Cursor) []byte { k, _ := c.Last(); return k })
}

func (s *store) end(of func(*bolt.Cursor) []byte) (index uint64, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		if k := of(tx.Bucket([]byte(logBucket)).Cursor()); len(k) == 8 {
			index = binary.BigEndian.Uint64(k)
		}
		return nil
	})
	return index, err
}

// GetLog implements raft.LogStore.
func (s *store) GetLog(index uint64, entry *raft.Log) error {
	return s.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket([]byte(logBucket)).Get(indexKey(index))
		if v == nil {
			return raft.ErrLogNotFound
		}
		entry.Index = index
		if err := decodeEntry(v, entry); err != nil {
			return fmt.Errorf("consensus: entry %d in %s: %w", index, s.db.Path(), err)
		}
		return nil
	})
}

// StoreLog implements raft.LogStore.
func (s *store) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore: all or nothing, on disk when it returns.
func (s *store) StoreLogs(entries []*raft.Log) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(logBucket))
		for _, e := range entries {
			if err := b.Put(indexKey(e.Index), encodeEntry(e)); err != nil {
				return fmt.Errorf("consensus: store entry %d: %w", e.Index, err)
			}
		}
		return nil
	})
}

// DeleteRange implements raft.LogStore; both ends are included.
func (s *store) DeleteRange(min, max uint64) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(logBucket)).Cursor()
		for k, _ := c.Seek(indexKey(min)); len(k) == 8 && binary.BigEndian.Uint64(k) <= max; k, _ = c.Next() {
			if err := c.Delete(); err != nil {
				return fmt.Errorf("consensus: delete entries %d to %d: %w", min, max, err)
			}
		}
		return nil
	})
}

// errNotFound is what raft compares with, by its text.
var errNotFound = errors.New("not found")

// Set implements raft.StableStore.
func (s *store) Set(key, value []byte) error {
	return s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte(stableBucket)).Put(key, value) })
}

// Get implements raft.StableStore; a missing key is the error "not found".
func (s *store) Get(key []byte) (value []byte, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket([]byte(stableBucket)).Get(key)
		if v == nil {
			return errNotFound
		}
		value = append([]byte{}, v...) // bbolt's bytes live in the transaction only
		return nil
	})
	return value, err
}

// SetUint64 implements raft.StableStore.
func (s *store) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore; a missing key is the error "not found".
func (s *store) GetUint64(key []byte) (uint64, error) {
	v, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("consensus: value of %q in %s has %d bytes, not 8", key, s.db.Path(), len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

func indexKey(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// An entry: version 1, type, CRC-32C of what follows, term, time in nanoseconds (0: none), length of the
// extensions, extensions, data. bbolt checks its own pages only in part; the sum finds the rest.
const (
	entryVersion = 1
	entrySum     = 2
	entryHead    = 2 + 4 + 8 + 8 + 4
)

func encodeEntry(e *raft.Log) []byte {
	out := make([]byte, 0, entryHead+len(e.Extensions)+len(e.Data))
	out = append(out, entryVersion, byte(e.Type), 0, 0, 0, 0)
	out = binary.BigEndian.AppendUint64(out, e.Term)
	var at int64
	if !e.AppendedAt.IsZero() {
		at = e.AppendedAt.UnixNano()
	}
	out = binary.BigEndian.AppendUint64(out, uint64(at))
	out = binary.BigEndian.AppendUint32(out, uint32(len(e.Extensions)))
	out = append(out, e.Extensions...)
	out = append(out, e.Data...)
	binary.BigEndian.PutUint32(out[entrySum:], checksum(out))
	return out
}

func decodeEntry(v []byte, e *raft.Log) error {
	if len(v) < entryHead || v[0] != entryVersion {
		return errors.New("unknown format; it was written by a newer program or is damaged")
	}
	if binary.BigEndian.Uint32(v[entrySum:]) != checksum(v) {
		return errors.New("checksum differs: the file is damaged; move the data folder away and join again")
	}
	body := v[entrySum+4:]
	ext := binary.BigEndian.Uint32(body[16:])
	rest := body[20:]
	if uint64(ext) > uint64(len(rest)) {
		return errors.New("extensions are longer than the entry")
	}
	e.Type, e.Term = raft.LogType(v[1]), binary.BigEndian.Uint64(body)
	e.AppendedAt = time.Time{}
	if at := int64(binary.BigEndian.Uint64(body[8:])); at != 0 {
		e.AppendedAt = time.Unix(0, at)
	}
	e.Extensions, e.Data = nil, append([]byte{}, rest[ext:]...)
	if ext > 0 {
		e.Extensions = append([]byte{}, rest[:ext]...)
	}
	return nil
}

// checksum covers the type and all that follows the sum.
func checksum(v []byte) uint32 {
	t := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(v[1:2], t), t, v[entrySum+4:])
}
