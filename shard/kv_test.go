package shard_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"lamina/shard"
)

// share opens a sequence in every shard of a pipe, by prefix keys, brings all to the same length, and returns that.
func (p pipe) share(t testing.TB, tokens []int32, keys []shard.Key) (*flow, int) {
	t.Helper()
	f, have := &flow{}, len(tokens)
	for _, s := range p {
		q, err := s.NewSeq(len(tokens), keys)
		if err != nil {
			t.Fatal(err)
		}
		have = min(have, q.Len())
		f.seqs = append(f.seqs, q)
	}
	for _, q := range f.seqs {
		q.Rewind(have)
		if err := q.Reserve(len(tokens)); err != nil {
			t.Fatal(err)
		}
	}
	f.tokens = tokens[have:]
	return f, have
}

func (f *flow) name(keys []shard.Key) {
	for _, q := range f.seqs {
		q.Name(keys)
	}
}

// scope of the tests.
var scope = []byte("a tenant\x00a model")

// A sequence that begins with shared blocks gives the bits of one that computes them: however the model is cut, whatever
// follows, however much of the prefix is found, in all stages or in some.
func TestPrefixReuse(t *testing.T) {
	eachModel(t, func(t *testing.T, p parts, vocab int) {
		whole := p.open(t, shard.Options{Workers: workers(t, 1)})
		if whole[0].Info().Encoder {
			t.Skip("an encoder's positions depend on later ones")
		}
		if whole[0].Info().Context < 170 {
			t.Skip("a short model")
		}
		prefix := randomTokens(11, 140, vocab)
		var texts [][]int32
		var want [][]float32
		for i, n := range []int{30, 3, 1} {
			texts = append(texts, slices.Concat(prefix[:130+i*5], randomTokens(uint64(12+i), n, vocab)))
			want = append(want, whole.alone(t, texts[i], 200))
		}
		for at := range whole[0].Info().Layers {
			line := p.open(t, shard.Options{Workers: workers(t, 1)}, cuts(at)...)
			reuse(t, fmt.Sprintf("cut at %d", at), line, texts, want, vocab)
		}
	})
}

// cuts before a layer, or none before the first.
func cuts(at int) []int {
	if at == 0 {
		return nil
	}
	return []int{at}
}

func reuse(t *testing.T, what string, line pipe, texts [][]int32, want [][]float32, vocab int) {
	t.Helper()
	first := line.flow(t, texts[0], len(texts[0]))
	first.name(shard.Keys(scope, texts[0])) // named before they are full
	line.run(t, []*flow{first}, 50)
	sameBits(t, what+": the first", first.logits, want[0])
	for i, tokens := range texts[1:] {
		if i == 1 {
			first.free()
		}
		f, have := line.share(t, tokens, shard.Keys(scope, tokens))
		if have != 128 {
			t.Fatalf("%s: %d positions are shared, want 128", what, have)
		}
		line.run(t, []*flow{f}, 7)
		sameBits(t, what+": after shared blocks", f.logits, want[i+1][128*vocab:])
		f.free()
	}
	if len(line) == 1 {
		return
	}
	line[1].TrimKV(0) // the stage behind has lost it
	line[0].TrimKV(line[0].KVStats().BlockBytes)
	f, have := line.share(t, texts[0], shard.Keys(scope, texts[0]))
	if have != 0 {
		t.Fatalf("%s: %d positions are shared, want none", what, have)
	}
	line.run(t, []*flow{f}, 200)
	sameBits(t, what+": when one stage has lost it", f.logits, want[0])
	f.free()
}

// Rows that go into a block which others read leave it to them: the sequence has a copy.
func TestRewindCopiesOnWrite(t *testing.T) {
	p := cut(t, parse(t, models["llama"]()))
	line := p.open(t, shard.Options{Workers: workers(t, 1)}, 2)
	tokens := randomTokens(21, 200, vocab)
	other := slices.Concat(tokens[:100], randomTokens(22, 50, vocab))
	want, wantOther := line.alone(t, tokens, 200), line.alone(t, other, 200)
	keys := shard.Keys(scope, tokens)
	a := line.flow(t, tokens[:150], 200)
	line.run(t, []*flow{a}, 50)
	a.name(keys)
	b, have := line.share(t, other, shard.Keys(scope, tokens[:128]))
	if have != 128 {
		t.Fatalf("%d positions are shared", have)
	}
	for _, q := range b.seqs {
		q.Rewind(100)
	}
	b.tokens = other[100:]
	line.run(t, []*flow{b}, 11)
	sameBits(t, "the one that was rewound", b.logits, wantOther[100*vocab:])
	b.free()
	a.tokens = tokens[150:]
	line.run(t, []*flow{a}, 50)
	sameBits(t, "the one whose block was shared", a.logits, want)
	a.free()
	c, have := line.share(t, tokens, keys)
	if have != 128 && have != 192 {
		t.Fatalf("%d positions are left", have)
	}
	line.run(t, []*flow{c}, 200)
	sameBits(t, "from what is cached", c.logits, want[have*vocab:])
	c.free()
}

// Rewind takes the names off what will be computed anew, and leaves what is known to those who look for it.
func TestRewindAndNames(t *testing.T) {
	p := cut(t, parse(t, models["llama"]()))
	line := p.open(t, shard.Options{Workers: workers(t, 1)})
	tokens, other := randomTokens(27, 140, vocab), randomTokens(28, 140, vocab)
	want := line.alone(t, tokens, 200)
	a := line.flow(t, tokens[:70], 140)
	a.name(shard.Keys(scope, tokens))
	line.run(t, []*flow{a}, 70)
	a.seqs[0].Rewind(10)
	a.tokens = other[10:]
	line.run(t, []*flow{a}, 70)
	b, have := line.share(t, tokens, shard.Keys(scope, tokens))
	if have != 64 {
		t.Fatalf("%d positions are found, want the 64 that were computed", have)
	}
	line.run(t, []*flow{b}, 70)
	sameBits(t, "after another's Rewind", b.logits, want[64*vocab:])
	b.free()
	a.free()
}

// Without memory for a copy, Rewind into a shared block leaves a sequence that Step refuses until Reserve succeeds.
func TestRewindWithoutMemory(t *testing.T) {
	p := cut(t, parse(t, models["llama"]()))
	memory := shard.NewKVMemory(0)
	line := p.open(t, shard.Options{Workers: workers(t, 1), KVMemory: memory})
	s := line[0]
	memory.SetBudget(2 * s.KVStats().BlockBytes)
	tokens := randomTokens(23, 128, vocab)
	want := line.alone(t, tokens, 128)
	a := line.flow(t, tokens, 128)
	line.run(t, []*flow{a}, 128)
	a.name(shard.Keys(scope, tokens))
	q, err := s.NewSeq(128, shard.Keys(scope, tokens))
	if err != nil || q.Len() != 128 {
		t.Fatal(err, q.Len())
	}
	q.Rewind(100)
	step := []shard.Rows{{Seq: q, Tokens: tokens[100:], Logits: 28}}
	if _, err := s.Step(step); !errors.Is(err, shard.ErrNoMemory) {
		t.Errorf("a step into a shared block: %v", err)
	}
	if err := q.Reserve(128); !errors.Is(err, shard.ErrNoMemory) {
		t.Errorf("Reserve with no memory: %v", err)
	}
	a.free()
	if err := q.Reserve(128); err != nil { // the only reader takes the block as it is
		t.Fatal(err)
	}
	out, err := s.Step(step)
	if err != nil {
		t.Fatal(err)
	}
	sameBits(t, "after Reserve", out[0], want[100*vocab:])
	if st := s.KVStats(); st.InUse != 2 || st.Cached != 0 {
		t.Errorf("%+v", st)
	}
	q.Free()
}

// Two sequences that compute the same keep one copy; keys that lie make nothing wrong for others.
func TestNamedTwice(t *testing.T) {
	p := cut(t, parse(t, models["llama"]()))
	line := p.open(t, shard.Options{Workers: workers(t, 1)})
	s := line[0]
	tokens, lies := randomTokens(24, 150, vocab), randomTokens(25, 150, vocab)
	want, wantLies := line.alone(t, tokens, 200), line.alone(t, lies, 200)
	keys := shard.Keys(scope, tokens)
	var flows []*flow
	for range 3 {
		f := line.flow(t, tokens[:140], 150)
		f.name(keys)
		flows = append(flows, f)
	}
	liar := line.flow(t, lies[:140], 150)
	line.run(t, flows, 33)
	if st := s.KVStats(); st.InUse != 2+3+3 { // two shared, one each, and the liar's
		t.Errorf("%+v", st)
	}
	line.run(t, []*flow{liar}, 150)
	liar.name(keys)
	liar.tokens = lies[140:]
	for _, f := range flows {
		f.tokens = tokens[140:]
	}
	line.run(t, append(flows, liar), 5)
	for _, f := range flows {
		sameBits(t, "one of three", f.logits, want)
		f.free()
	}
	sameBits(t, "one with wrong keys", liar.logits, wantLies)
	liar.name([]shard.Key{keys[1], keys[1], keys[0]})
	liar.free()
	if st := s.KVStats(); st.InUse != 0 || st.Cached != 2 {
		t.Errorf("%+v", st)
	}
	f, have := line.share(t, tokens, slices.Concat(keys, keys, keys))
	if have != 128 {
		t.Errorf("%d positions are shared", have)
	}
	line.run(t, []*flow{f}, 30)
	sameBits(t, "after a liar", f.logits, want[have*vocab:])
	f.free()
}

func TestKeys(t *testing.T) {
	tokens := randomTokens(26, 300, vocab)
	keys := shard.Keys(scope, tokens)
	if len(keys) != 4 {
		t.Fatalf("%d keys of 300 tokens", len(keys))
	}
	if got := shard.Keys(scope, tokens[:255]); !slices.Equal(got, keys[:3]) {
		t.Error("the keys of fewer tokens are not the first of those of more")
	}
	seen := map[shard.Key]bool{}
	for i := range 5 {
		x := slices.Clone(tokens)
		if i > 0 {
			x[64*i-1]++ // the last of a block: it changes this key and all later ones
		}
		for j, k := range shard.Keys(scope, x) {
			if seen[k] != (i > 0 && j < i-1) {
				t.Errorf("change %d, key %d: seen before: %v", i, j, seen[k])
			}
			seen[k] = true
		}
	}
	for _, k := range shard.Keys([]byte("another tenant\x00a model"), tokens) {
		if seen[k] {
			t.Error("two scopes have a key in common")
		}
	}
}
