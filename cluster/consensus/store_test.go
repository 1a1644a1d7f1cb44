package consensus

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

func openTest(t *testing.T) (*store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raft.db")
	s, err := openStore(path, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

func TestStoreEntries(t *testing.T) {
	s, path := openTest(t)
	if first, err := s.FirstIndex(); first != 0 || err != nil {
		t.Errorf("an empty log begins at %d, %v", first, err)
	}
	var e raft.Log
	if err := s.GetLog(1, &e); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("missing entry: %v", err)
	}
	at := time.Unix(5, 7)
	var entries []*raft.Log
	for i := uint64(3); i <= 300; i++ {
		entries = append(entries, &raft.Log{Index: i, Term: i / 2, Type: raft.LogNoop, Data: []byte{byte(i)}, AppendedAt: at})
	}
	if err := s.StoreLogs(entries); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(3, 10); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(290, 400); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := openStore(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	if first != 11 || last != 289 {
		t.Errorf("after deletion the log is %d to %d, want 11 to 289", first, last)
	}
	if err := s.GetLog(200, &e); err != nil || e.Index != 200 || e.Term != 100 || e.Type != raft.LogNoop ||
		!bytes.Equal(e.Data, []byte{200}) || !e.AppendedAt.Equal(at) {
		t.Errorf("entry 200 came back as %+v, %v", e, err)
	}
}

func TestStoreStable(t *testing.T) {
	s, _ := openTest(t)
	if _, err := s.Get([]byte("k")); err == nil || err.Error() != "not found" {
		t.Errorf("missing key: %v", err)
	}
	if _, err := s.GetUint64([]byte("k")); err == nil || err.Error() != "not found" {
		t.Errorf("missing number: %v", err)
	}
	if err := s.SetUint64([]byte("k"), 1<<63+5); err != nil {
		t.Fatal(err)
	}
	if n, err := s.GetUint64([]byte("k")); n != 1<<63+5 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if err := s.Set([]byte("k"), []byte("short")); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get([]byte("k")); string(v) != "short" || err != nil {
		t.Errorf("got %q, %v", v, err)
	}
	if _, err := s.GetUint64([]byte("k")); err == nil {
		t.Error("five bytes pass for a number")
	}
}

func TestStoreInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "raft.db")
		s, err := openStore(path, true)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := openStore(path, true); err == nil || !strings.Contains(err.Error(), "in use by another process") {
			t.Errorf("opened twice: %v", err)
		}
	})
}

func TestStoreDamage(t *testing.T) {
	s, path := openTest(t)
	if err := s.StoreLog(&raft.Log{Index: 1, Data: []byte("a command of some length")}); err != nil {
		t.Fatal(err)
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(logBucket))
		v := bytes.Clone(b.Get(indexKey(1)))
		v[len(v)-1] ^= 1
		return b.Put(indexKey(1), v)
	})
	if err != nil {
		t.Fatal(err)
	}
	var e raft.Log
	if err := s.GetLog(1, &e); err == nil || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), path) {
		t.Errorf("a flipped bit: %v", err)
	}
	text := filepath.Join(t.TempDir(), "raft.db")
	if err := os.WriteFile(text, bytes.Repeat([]byte("no database "), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(text, true); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("a text file: %v", err)
	}
}

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := raft.Log{
			Term: rapid.Uint64().Draw(t, "term"), Type: raft.LogType(rapid.Byte().Draw(t, "type")),
			Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data"), Extensions: rapid.SliceOf(rapid.Byte()).Draw(t, "ext"),
		}
		v := encodeEntry(&in)
		var out raft.Log
		if err := decodeEntry(v, &out); err != nil {
			t.Fatal(err)
		}
		if out.Term != in.Term || out.Type != in.Type || !bytes.Equal(out.Data, in.Data) || !bytes.Equal(out.Extensions, in.Extensions) || !out.AppendedAt.IsZero() {
			t.Fatalf("%+v became %+v", in, out)
		}
		i := rapid.IntRange(1, len(v)-1).Draw(t, "at")
		v[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if err := decodeEntry(v, &out); err == nil {
			t.Fatalf("a flipped bit at %d passes", i)
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(encodeEntry(&raft.Log{Data: []byte("data"), Extensions: []byte("ext")}))
	f.Fuzz(func(t *testing.T, v []byte) {
		var e raft.Log
		_ = decodeEntry(v, &e)
	})
}

func BenchmarkStoreLog(b *testing.B) {
	for name, noSync := range map[string]bool{"fsync": false, "nosync": true} {
		b.Run(name, func(b *testing.B) {
			s, err := openStore(filepath.Join(b.TempDir(), "raft.db"), noSync)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			e := raft.Log{Data: make([]byte, 300)}
			for b.Loop() {
				e.Index++
				if err := s.StoreLog(&e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
