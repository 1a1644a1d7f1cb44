package text

import (
	"slices"
	"strings"
	"unicode/utf8"

	"lamina/shard/gguf"
)

// Tokenizer turns text into tokens and back. Made by NewTokenizer; safe for concurrent use.
type Tokenizer struct {
	*vocab
	bpe  *bpe // one of bpe, spm and wp is set
	spm  *spm
	wp   *wordpiece
	all  *specials // control and user-defined tokens
	user *specials // user-defined tokens alone
}

// NewTokenizer builds the tokenizer that the metadata of a model describes. meta is not used afterwards.
// Errors wrap ErrTokenizer.
func NewTokenizer(meta *gguf.File) (*Tokenizer, error) {
	v, err := readVocab(meta.KV)
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{vocab: v}
	switch {
	case v.sentencepiece:
		t.spm = newSPM(v)
	case v.wordpiece:
		t.wp = newWordPiece(v)
	default:
		if t.bpe, err = newBPE(v); err != nil {
			return nil, err
		}
	}
	t.all = newSpecials(v, kindControl, kindUser, kindUnknown)
	t.user = newSpecials(v, kindUser)
	return t, nil
}

// Encode gives the tokens of s. With parseSpecial the texts of control tokens in s, such as <|im_end|>,
// become those tokens, which a prompt from a chat template needs and the text of a stranger must not be
// given; user-defined tokens are found in any case. No BOS or EOS is added.
func (t *Tokenizer) Encode(s string, parseSpecial bool) []int32 {
	find := t.user
	if parseSpecial {
		find = t.all
	}
	ids := make([]int32, 0, len(s)/3+1)
	scratch := &merger{}
	first := true // at the start, or after a special token
	for s != "" {
		at, size, id := find.next(s)
		if at > 0 {
			switch {
			case t.spm != nil:
				ids = t.spm.encode(ids, s[:at], first, scratch)
			case t.wp != nil:
				ids = t.wp.encode(ids, s[:at])
			default:
				ids = t.bpe.encode(ids, s[:at], scratch)
			}
			first = false
		}
		if id >= 0 {
			ids = append(ids, id)
			first = true
		}
		s = s[at+size:]
	}
	return ids
}

// Vocab counts the tokens; ids are below it.
func (t *Tokenizer) Vocab() int { return len(t.texts) }

// AddBOS is true if the model wants BOS before the first token of a prompt.
func (t *Tokenizer) AddBOS() bool { return t.addBOS && t.bos >= 0 }

// AddEOS is true if the model wants the first of EOG after the last token of a text: an encoder does.
func (t *Tokenizer) AddEOS() bool { return t.addEOS && t.eos >= 0 }

// BOS is the token that begins a text; ok is false if the model has none.
func (t *Tokenizer) BOS() (id int32, ok bool) { return t.bos, t.bos >= 0 }

// EOG lists the tokens that end an answer; the one that the file names as EOS, if it does, comes first.
// The slice is the caller's.
func (t *Tokenizer) EOG() []int32 { return slices.Clone(t.eog) }

// IsEOG is true for a token that ends an answer.
func (t *Tokenizer) IsEOG(id int32) bool { return slices.Contains(t.eog, id) }

// Piece gives the bytes that a token stands for, for a special token its text: a copy. They need not be
// UTF-8: a character may be spread over tokens. A token that does not exist or is unused has none.
func (t *Tokenizer) Piece(id int32) []byte { return slices.Clone(t.piece(id)) }

// Decode gives the text of tokens, valid UTF-8: what is not becomes U+FFFD. Control tokens are written
// out if special is set and left out otherwise. A space that Encode put before the text is taken away.
func (t *Tokenizer) Decode(ids []int32, special bool) string {
	var b []byte
	for _, id := range ids {
		if special || !t.hidden(id) {
			b = append(b, t.piece(id)...)
		}
	}
	if t.addSpace && len(ids) > 0 && !t.hidden(ids[0]) && len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	return valid(b)
}

// valid makes UTF-8 of b; each broken sequence becomes one U+FFFD.
func valid(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			n = broken(b)
		}
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

// broken measures the sequence at the start of b that is not UTF-8: the longest that begins a
// character, or one byte (Unicode 16, section 3.9, "substitution of maximal subparts").
func broken(b []byte) int {
	for n := min(len(b), utf8.UTFMax-1); n > 1; n-- {
		if !utf8.FullRune(b[:n]) {
			return n
		}
	}
	return 1
}
