package server

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"lamina/cluster"
	"lamina/node/api"
	"lamina/node/auth"
	"lamina/node/infer"
)

func manifest(name string) (cluster.Model, map[string]string) {
	m := cluster.Model{Name: name, Arch: "llama", Layers: 1, Hidden: 8, Vocab: 16, Context: 32, KVBytes: 64, Created: time.Unix(1700000000, 0).UTC()}
	data := map[string]string{}
	for _, part := range []string{"meta", "embed", "layer.0", "head"} {
		digest := auth.HashSecret(part)
		data[digest] = part
		m.Blobs = append(m.Blobs, cluster.Blob{Name: part, Digest: digest, Size: int64(len(part))})
	}
	m.Digest = m.ManifestDigest()
	return m, data
}

// The Go client against the server: every cluster route, and the native ones, in both codecs.
func TestClientAgainstServer(t *testing.T) {
	for _, codec := range []api.Codec{api.JSON, api.Msgpack} {
		t.Run(codec.Type(), func(t *testing.T) {
			g := newRig(t, nil)
			web := httptest.NewServer(g.Handler())
			defer web.Close()
			c, err := api.NewClient(web.URL, g.admin, codec)
			if err != nil {
				t.Fatal(err)
			}
			ctx := context.Background()
			addAndRemove(ctx, t, g, c)
			keys(ctx, t, g, c, web.URL)
			ask(ctx, t, c)
		})
	}
}

func addAndRemove(ctx context.Context, t *testing.T, g *rig, c *api.Client) {
	m, data := manifest("org/tiny:q4")
	_, err := c.AddModel(ctx, m)
	if e := apiError(err); e.Code != "missing_blob" || e.Status != 409 {
		t.Errorf("a manifest without blobs: %v", err)
	}
	for digest, part := range data {
		if has, err := c.Has(ctx, digest); has || err != nil {
			t.Errorf("has %v %v", has, err)
		}
		err := c.Put(ctx, digest, int64(len(part)), strings.NewReader(strings.ToUpper(part)))
		if e := apiError(err); e.Code != "bad_blob" {
			t.Errorf("other bytes: %v", err)
		}
		if err := c.Put(ctx, digest, int64(len(part)), strings.NewReader(part)); err != nil {
			t.Error(err)
		}
		if has, err := c.Has(ctx, digest); !has || err != nil {
			t.Errorf("has %v %v", has, err)
		}
	}
	added, err := c.AddModel(ctx, m)
	if err != nil || added.Name != m.Name || len(added.Replicas) != 1 {
		t.Fatalf("%+v %v", added, err)
	}
	arrived := g.cl.models[m.Name]
	arrived.Created = arrived.Created.UTC() // the zone does not travel
	if !reflect.DeepEqual(arrived, m) {
		t.Errorf("the manifest arrived as %+v", arrived)
	}
	if _, err = c.AddModel(ctx, m); apiError(err).Code != "exists" {
		t.Errorf("added twice: %v", err)
	}
	if shown, err := c.Model(ctx, m.Name); err != nil || len(shown.Blobs) != 4 {
		t.Errorf("%+v %v", shown, err)
	}
	if list, err := c.Models(ctx); err != nil || len(list) != 1 {
		t.Errorf("%+v %v", list, err)
	}
	if nodes, err := c.Nodes(ctx); err != nil || len(nodes) != 1 || !nodes[0].Leader {
		t.Errorf("%+v %v", nodes, err)
	}
	manageNodes(ctx, t, c)
	saved, err := c.Backup(ctx)
	if err != nil || len(saved.Models) != 1 || saved.Keys == nil || saved.Index != 9 {
		t.Errorf("backup %+v %v", saved, err)
	}
	if r, err := c.Restore(ctx, saved); err != nil || len(r.Refused) != 1 || r.Refused[0].Model != m.Name {
		t.Errorf("restored what is there: %+v %v", r, err)
	}
	if err := c.RemoveModel(ctx, m.Name); err != nil {
		t.Error(err)
	}
	if err := c.RemoveModel(ctx, m.Name); apiError(err).Status != 404 {
		t.Errorf("removed twice: %v", err)
	}
	if r, err := c.Restore(ctx, saved); err != nil || len(r.Models) != 1 || len(r.Refused) != 0 {
		t.Errorf("restored what is not there: %+v %v", r, err)
	}
	saved.Version = 2
	if _, err := c.Restore(ctx, saved); apiError(err).Param != "version" {
		t.Errorf("a backup of the future: %v", err)
	}
	if err := c.Drop(ctx, m.Blobs[0].Digest); err != nil {
		t.Error(err)
	}
	if token, err := c.CreateToken(ctx, 60); err != nil || token.Expires != 60 {
		t.Errorf("%+v %v", token, err)
	}
	if _, err := c.CreateToken(ctx, 1<<40); apiError(err).Param != "seconds" {
		t.Errorf("a token for ever: %v", err)
	}
}

func manageNodes(ctx context.Context, t *testing.T, c *api.Client) {
	if err := c.RemoveNode(ctx, "n1"); apiError(err).Code != "node_alive" {
		t.Errorf("removed a node that runs: %v", err)
	}
	if err := c.RemoveNode(ctx, "n9"); apiError(err).Status != 404 {
		t.Errorf("removed no node: %v", err)
	}
	if d, err := c.DrainNode(ctx, "n1", api.DrainRequest{}); err != nil || !d.Draining || d.Spans == nil {
		t.Errorf("drain: %+v %v", d, err)
	}
	if d, err := c.Drained(ctx, "n1"); err != nil || !d.Draining || len(d.Spans) != 1 || d.Spans[0].End != 3 {
		t.Errorf("drained: %+v %v", d, err)
	}
	if d, err := c.DrainNode(ctx, "n1", api.DrainRequest{Off: true}); err != nil || d.Draining {
		t.Errorf("drain taken back: %+v %v", d, err)
	}
}

func keys(ctx context.Context, t *testing.T, g *rig, c *api.Client, url string) {
	made, err := c.CreateKey(ctx, api.KeyRequest{Name: "bob", Role: "user"})
	if err != nil || made.Secret == "" {
		t.Fatal(made, err)
	}
	bob, err := api.NewClient(url, made.Secret, api.JSON)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Tokenize(ctx, api.TokenizeRequest{Model: "m", Text: "x"}); err != nil {
		t.Errorf("a user's key: %v", err)
	}
	if _, err := bob.Nodes(ctx); apiError(err).Status != 403 {
		t.Errorf("a user manages: %v", err)
	}
	if list, err := c.Keys(ctx); err != nil || len(list) != 3 {
		t.Errorf("%+v %v", list, err)
	}
	if err := c.RemoveKey(ctx, made.Key.ID); err != nil {
		t.Error(err)
	}
	if _, err := bob.Tokenize(ctx, api.TokenizeRequest{Model: "m", Text: "x"}); apiError(err).Status != 401 {
		t.Errorf("a revoked key: %v", err)
	}
}

func ask(ctx context.Context, t *testing.T, c *api.Client) {
	logprobs := 1
	for _, stream := range []bool{false, true} {
		r, err := c.Generate(ctx, api.GenerateRequest{Model: "m", Prompt: "Hi", Stream: stream, Logprobs: &logprobs}, nil)
		if err != nil || r.Text != "Hellö!" || len(r.Tokens) != 5 || *r.Tokens[1].Logprob != -0.25 || len(r.Tokens[0].Top) != 1 ||
			r.FinishReason != "stop" || r.Usage.CompletionTokens != 5 || r.Timings.DecodeMS != 4 || r.Route != "n1[0:2] n2[2:4]" {
			t.Errorf("stream %v: %+v %v", stream, r, err)
		}
		_, err = c.Generate(ctx, api.GenerateRequest{Model: "lost", Prompt: "Hi", Stream: stream}, nil)
		if e := apiError(err); e.Code != "node_lost" || !e.Retryable || (e.EmittedTokens == 2) != stream {
			t.Errorf("stream %v: %+v", stream, e)
		}
	}
	if ids, err := c.Tokenize(ctx, api.TokenizeRequest{Model: "m", Text: "abc"}); err != nil || fmt.Sprint(ids) != "[3 2]" {
		t.Errorf("%v %v", ids, err)
	}
	if text, err := c.Detokenize(ctx, api.DetokenizeRequest{Model: "m", Tokens: []int32{1}}); err != nil || text != "[1]" {
		t.Errorf("%v %v", text, err)
	}
}

func apiError(err error) api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return *e
	}
	return api.Error{}
}

// Without HTTP the events are the same.
func TestAsk(t *testing.T) {
	var kinds []string
	text := ""
	err := Ask(context.Background(), &fakeService{}, api.GenerateRequest{Model: "m", Prompt: "Hi"}, "id", func(e api.GenerateEvent) error {
		kinds = append(kinds, e.Type)
		text += e.Text
		return nil
	})
	if got := strings.Join(kinds, " "); err != nil || got != "start text text text text text end" || text != "Hellö!" {
		t.Errorf("%s %q %v", got, text, err)
	}
	if err := Ask(context.Background(), &fakeService{}, api.GenerateRequest{Model: "m"}, "id", nil); err == nil {
		t.Error("an empty request was answered")
	}
}

// Every error that callees may return has a line in the table, and no line shows what it should not.
func TestErrorTable(t *testing.T) {
	for _, err := range []error{
		infer.ErrInvalid, infer.ErrModelNotFound, infer.ErrContextLength, infer.ErrModelLoading, infer.ErrNoCapacity, infer.ErrOverloaded,
		infer.ErrNodeLost, infer.ErrDeadline, infer.ErrNoChatTemplate, cluster.ErrInvalid, cluster.ErrNotFound, cluster.ErrExists, cluster.ErrStale,
		cluster.ErrConflict, auth.ErrKey, ErrMissingBlob, ErrBadBlob, ErrBlobInUse, ErrNoQuorum, ErrNoSpace, context.DeadlineExceeded, context.Canceled,
	} {
		f, known := faultOf(fmt.Errorf("wrapped: %w", err))
		if !known || f.status == 500 || f.code == "" || f.kind == "" || f.text == "" {
			t.Errorf("%v: %+v", err, f)
		}
		if (f.status == 503 || f.status == 429) && f.retry == 0 {
			t.Errorf("%v: %d without Retry-After", err, f.status)
		}
	}
	f, known := faultOf(errors.New("open /etc/secret: no such file"))
	if known || f.status != 500 || strings.Contains(f.text, "secret") {
		t.Errorf("an unknown error: %+v", f)
	}
	seen := map[string]int{}
	for _, m := range mappings() {
		if old, there := seen[m.code]; there && old != m.status {
			t.Errorf("code %s has the statuses %d and %d", m.code, old, m.status)
		}
		seen[m.code] = m.status
	}
}
