package blobs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// good gives b; each call is noted.
func good(name string, b []byte, asked *[]int64) source {
	return source{name, func(from int64) (io.ReadCloser, int64, error) {
		*asked = append(*asked, from)
		return io.NopCloser(bytes.NewReader(b[from:])), int64(len(b)), nil
	}}
}

// failing gives n bytes and then an error.
func failing(name string, b []byte, n int64, asked *[]int64) source {
	return source{name, func(from int64) (io.ReadCloser, int64, error) {
		*asked = append(*asked, from)
		end := min(from+n, int64(len(b)))
		return io.NopCloser(io.MultiReader(bytes.NewReader(b[from:end]), iotest.ErrReader(errors.New("connection lost")))), int64(len(b)), nil
	}}
}

func TestFetchGoesOnWhereTheLastEnded(t *testing.T) {
	s, dir := newStore(t)
	b := content(1<<20, 1)
	d := Sum(b)
	var asked []int64
	none := source{"none", func(int64) (io.ReadCloser, int64, error) { asked = append(asked, -1); return nil, 0, ErrNotFound }}
	var told []int64
	err := s.Fetch(t.Context(), d, int64(len(b)), []Source{
		none, failing("a", b, 1000, &asked), failing("b", b, 5000, &asked), good("c", b, &asked),
	}, func(n int64) { told = append(told, n) })
	if err != nil {
		t.Fatal(err)
	}
	if want := []int64{-1, 0, 1000, 6000}; !slices.Equal(asked, want) {
		t.Errorf("asked from %v, want %v", asked, want)
	}
	if told[0] != 0 || told[len(told)-1] != int64(len(b)) || !slices.IsSorted(told) {
		t.Errorf("progress %v", told)
	}
	if data, err := s.Load(t.Context(), d); err != nil || !bytes.Equal(data.Bytes(), b) {
		t.Error(err)
	}
	if left := files(t, dir); len(left) != 1 {
		t.Errorf("files %v", left)
	}
	asked = nil
	if err := s.Fetch(t.Context(), d, int64(len(b)), []Source{none}, nil); err != nil || asked != nil {
		t.Errorf("fetched again: %v, %v", err, asked)
	}
}

func TestFetchAllFail(t *testing.T) {
	s, dir := newStore(t)
	b := content(100000, 1)
	d := Sum(b)
	var asked []int64
	none := source{"none", func(int64) (io.ReadCloser, int64, error) { asked = append(asked, -1); return nil, 0, ErrNotFound }}
	err := s.Fetch(t.Context(), d, int64(len(b)), []Source{none, failing("a", b, 1000, &asked)}, nil)
	if !errors.Is(err, ErrNoSource) || !strings.Contains(err.Error(), "a: connection lost") || !strings.Contains(err.Error(), "none: none: blob not found") {
		t.Errorf("got %v", err)
	}
	if want := []int64{-1, 0, 1000, 2000}; !slices.Equal(asked, want) {
		t.Errorf("asked from %v, want %v", asked, want)
	}
	if left := files(t, dir); len(left) != 1 || left[0] != dirPart+"/"+d.hex() {
		t.Errorf("the part was not kept: %v", left)
	}
	asked = nil
	if err := s.Fetch(t.Context(), d, int64(len(b)), []Source{good("b", b, &asked)}, nil); err != nil || !slices.Equal(asked, []int64{3000}) {
		t.Errorf("%v, asked from %v", err, asked)
	}
	if err := s.Fetch(t.Context(), Sum([]byte("x")), 1, nil, nil); !errors.Is(err, ErrNoSource) {
		t.Errorf("without sources: %v", err)
	}
}

func TestFetchWrongBytes(t *testing.T) {
	b := content(200000, 1)
	d := Sum(b)
	bad := bytes.Clone(b)
	bad[5] ^= 1
	var asked []int64
	for _, c := range []struct {
		name    string
		part    []byte // that an earlier attempt left
		sources func() []Source
		want    error
		asked   []int64
	}{
		{"one lies", nil, func() []Source { return []Source{good("bad", bad, &asked), good("good", b, &asked)} }, nil, []int64{0, 0}},
		{"all lie", nil, func() []Source { return []Source{good("bad", bad, &asked), good("bad2", bad, &asked)} }, ErrNoSource, []int64{0, 0}},
		{"the first half lies", nil, func() []Source { return []Source{failing("bad", bad, 1000, &asked), good("good", b, &asked)} }, nil, []int64{0, 1000, 0}},
		{"the part is wrong", bad[:500], func() []Source { return []Source{good("good", b, &asked)} }, nil, []int64{500, 0}},
		{"the part is complete and wrong", bad, func() []Source { return []Source{good("good", b, &asked)} }, nil, []int64{0}},
		{"the part is complete and right", b, func() []Source { return []Source{good("good", b, &asked)} }, nil, nil},
		{"the part is too long", append(bytes.Clone(b), 1), func() []Source { return []Source{good("good", b, &asked)} }, nil, []int64{0}},
		{"zeros after a crash", make([]byte, 150000), func() []Source { return []Source{good("good", b, &asked)} }, nil, []int64{150000, 0}},
		{"another size", nil, func() []Source { return []Source{good("long", append(bytes.Clone(b), 1), &asked)} }, ErrNoSource, []int64{0}},
		{"more than announced", nil, func() []Source {
			return []Source{source{"endless", func(int64) (io.ReadCloser, int64, error) { return io.NopCloser(endless{}), int64(len(b)), nil }}}
		}, ErrNoSource, nil},
	} {
		s, dir := newStore(t)
		asked = nil
		if c.part != nil {
			if err := os.WriteFile(filepath.Join(dir, dirPart, d.hex()), c.part, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := s.Fetch(t.Context(), d, int64(len(b)), c.sources(), nil)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !slices.Equal(asked, c.asked) {
			t.Errorf("%s: asked from %v, want %v", c.name, asked, c.asked)
		}
		if data, lerr := s.Load(t.Context(), d); (lerr == nil) != (c.want == nil) || lerr == nil && !bytes.Equal(data.Bytes(), b) {
			t.Errorf("%s: then %v", c.name, lerr)
		}
	}
}

func TestFetchStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, err := Open(dir, Config{Reserve: 1, Stall: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		b := content(100000, 1)
		var asked []int64
		stuck := source{"stuck", func(from int64) (io.ReadCloser, int64, error) {
			r, w := io.Pipe()
			go func() { _, _ = w.Write(b[from : from+1000]) }()
			return r, int64(len(b)), nil
		}}
		slow := source{"slow", func(from int64) (io.ReadCloser, int64, error) { // steady, if slow: never given up
			r, w := io.Pipe()
			go func() {
				for at := from; at < 50000; at += 5000 {
					time.Sleep(9 * time.Second)
					if _, err := w.Write(b[at:min(at+5000, 50000)]); err != nil {
						return
					}
				}
				_ = w.CloseWithError(errors.New("enough"))
			}()
			return r, int64(len(b)), nil
		}}
		began := time.Now()
		if err := s.Fetch(t.Context(), Sum(b), int64(len(b)), []Source{stuck, slow, good("good", b, &asked)}, nil); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); !slices.Equal(asked, []int64{50000}) || d != 10*time.Second+10*9*time.Second {
			t.Errorf("asked from %v after %v", asked, d)
		}
	})
}

func TestFetchCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, err := Open(dir, Config{Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		b := content(100000, 1)
		stuck := source{"stuck", func(from int64) (io.ReadCloser, int64, error) {
			r, w := io.Pipe()
			go func() { _, _ = w.Write(b[from : from+1000]) }()
			return r, int64(len(b)), nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Fetch(ctx, Sum(b), int64(len(b)), []Source{stuck}, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		var asked []int64
		if err := s.Fetch(t.Context(), Sum(b), int64(len(b)), []Source{good("good", b, &asked)}, nil); err != nil || !slices.Equal(asked, []int64{1000}) {
			t.Errorf("%v, asked from %v", err, asked)
		}
	})
}

// TestFetchTogether has many callers for few blobs: each blob comes once, no more than the bound at a time, and a
// caller that gives up does not take the others with it.
func TestFetchTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.TempDir(), Config{Reserve: 1, Fetches: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var opened, now, most atomic.Int32
		src := func(b []byte) Source {
			return source{"a", func(from int64) (io.ReadCloser, int64, error) {
				opened.Add(1)
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(time.Second)
				now.Add(-1)
				return io.NopCloser(bytes.NewReader(b[from:])), int64(len(b)), nil
			}}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		for i := range 5 {
			b := content(1000, uint64(i))
			for j := range 10 {
				wg.Go(func() {
					c, want := t.Context(), error(nil)
					if j == 9 {
						c, want = ctx, context.DeadlineExceeded
					}
					if err := s.Fetch(c, Sum(b), 1000, []Source{src(b)}, nil); want == nil && err != nil {
						t.Errorf("%d %d: %v", i, j, err)
					}
				})
			}
		}
		wg.Wait()
		if most.Load() > 2 {
			t.Errorf("%d at once, 2 are allowed", most.Load())
		}
		if n := opened.Load(); n > 10 { // one per blob, and one more where the impatient came first
			t.Errorf("opened %d times for 5 blobs", n)
		}
	})
}

func TestHandler(t *testing.T) {
	s, dir := newStore(t)
	b := content(1<<20, 1)
	d := mustPut(t, s, b)
	empty := mustPut(t, s, nil)
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	get := func(method, path, rng string) *http.Response {
		t.Helper()
		req, _ := http.NewRequest(method, srv.URL+path, nil)
		if rng != "" {
			req.Header.Set("Range", rng)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	for _, c := range []struct {
		method, path, rng string
		want              int
	}{
		{"GET", "/blobs/" + d.String(), "", 200},
		{"HEAD", "/blobs/" + d.String(), "", 200},
		{"GET", "/blobs/" + d.String(), "bytes=1000-", 206},
		{"GET", "/blobs/" + d.String(), "bytes=9999999-", 416},
		{"GET", "/blobs/" + empty.String(), "", 200},
		{"GET", "/blobs/" + Sum([]byte("x")).String(), "", 404},
		{"GET", "/blobs/../../etc/passwd", "", 400},
		{"GET", "/blobs/sha256:..%2f..%2fetc%2fpasswd", "", 400},
		{"GET", "/blobs/", "", 400},
		{"GET", "/", "", 404},
		{"PUT", "/blobs/" + d.String(), "", 405},
		{"DELETE", "/blobs/" + d.String(), "", 405},
	} {
		if resp := get(c.method, c.path, c.rng); resp.StatusCode != c.want {
			t.Errorf("%s %s %s: %s", c.method, c.path, c.rng, resp.Status)
		}
	}
	resp := get("GET", "/blobs/"+d.String(), "bytes=1000-1999")
	if got, _ := io.ReadAll(resp.Body); !bytes.Equal(got, b[1000:2000]) || strings.Contains(resp.Header.Get("Content-Type"), "html") {
		t.Errorf("%d bytes, %v", len(got), resp.Header)
	}
	_ = dir
}

func TestHTTPSource(t *testing.T) {
	from, _ := newStore(t)
	b := content(1<<20, 1)
	d := mustPut(t, from, b)
	empty := mustPut(t, from, nil)
	srv := httptest.NewServer(from.Handler())
	defer srv.Close()
	src := HTTPSource{Client: srv.Client(), Base: srv.URL, Node: "n1"}
	to, dir := newStore(t)
	if err := os.WriteFile(filepath.Join(dir, dirPart, d.hex()), b[:300000], 0o600); err != nil {
		t.Fatal(err)
	}
	first := int64(-1)
	if err := to.Fetch(t.Context(), d, int64(len(b)), []Source{src}, func(n int64) {
		if first < 0 {
			first = n
		}
	}); err != nil || first != 300000 {
		t.Errorf("%v, begun at %d", err, first)
	}
	if err := to.Fetch(t.Context(), empty, 0, []Source{src}, nil); err != nil {
		t.Errorf("empty: %v", err)
	}
	if err := to.Fetch(t.Context(), Sum([]byte("x")), 1, []Source{src}, nil); !errors.Is(err, ErrNoSource) {
		t.Errorf("unknown: %v", err)
	}
}

// TestHTTPSourceLies asks servers that answer ranges wrongly.
func TestHTTPSourceLies(t *testing.T) {
	b := content(10000, 1)
	d := Sum(b)
	for name, answer := range map[string]http.HandlerFunc{
		"the whole for a range": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) },
		"another range": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-9999/10000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(b)
		},
		"no range": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) },
		"another size": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 5000-9999/99999999999")
			w.WriteHeader(http.StatusPartialContent)
		},
		"an error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	} {
		srv := httptest.NewServer(answer)
		s, dir := newStore(t)
		if err := os.WriteFile(filepath.Join(dir, dirPart, d.hex()), b[:5000], 0o600); err != nil {
			t.Fatal(err)
		}
		src := HTTPSource{Client: srv.Client(), Base: srv.URL, Node: "n1"}
		if err := s.Fetch(t.Context(), d, int64(len(b)), []Source{src}, nil); !errors.Is(err, ErrNoSource) {
			t.Errorf("%s: %v", name, err)
		}
		srv.Close()
	}
}
