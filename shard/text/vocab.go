package text

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"lamina/shard/gguf"
)

// ErrTokenizer: the metadata holds no tokenizer that this package can build. The text names the key and
// what is wrong with it.
var ErrTokenizer = errors.New("tokenizer")

func tokenizerErrorf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrTokenizer, fmt.Sprintf(format, a...))
}

// The most tokens and merges of a vocabulary, and the longest text of a special token that is looked
// for in prompts.
const (
	maxVocab   = 2 << 20
	maxMerges  = 2 << 20
	maxSpecial = 256
)

// kind is the type of a token, with the numbers of GGUF.
type kind uint8

const (
	kindNormal  kind = 1
	kindUnknown kind = 2
	kindControl kind = 3
	kindUser    kind = 4
	kindUnused  kind = 5
	kindByte    kind = 6
)

// vocab holds the tokens: texts as the file writes them, pieces as the bytes they stand for.
type vocab struct {
	sentencepiece bool
	wordpiece     bool
	pre           string
	texts         []string
	kinds         []kind
	scores        []float32 // SentencePiece only
	merges        []string  // byte-level only

	pieces []byte // of all tokens, one after the other
	ends   []uint32
	byText map[string]int32 // what merges make: tokens by piece (byte-level) or text (SentencePiece), no control tokens
	bytes  [256]int32       // token of each byte, -1 for none

	bos, eos, eot, eom, unk int32 // -1: none
	addBOS, addEOS          bool
	addSpace                bool
	eog                     []int32 // eos first
}

// readVocab takes the vocabulary out of the metadata and checks it.
func readVocab(kv gguf.KV) (*vocab, error) {
	model, ok := kv.String("tokenizer.ggml.model")
	if !ok {
		return nil, tokenizerErrorf("the file has no tokenizer.ggml.model")
	}
	v := &vocab{}
	switch model {
	case "gpt2":
	case "llama":
		v.sentencepiece = true
	case "bert":
		v.wordpiece = true
	default:
		return nil, tokenizerErrorf("tokenizer.ggml.model %.40q is not supported, only gpt2, llama and bert are", model)
	}
	if err := v.readTokens(kv); err != nil {
		return nil, err
	}
	v.pre, _ = kv.String("tokenizer.ggml.pre")
	var err error
	switch {
	case v.sentencepiece:
		err = v.readScores(kv)
	case !v.wordpiece:
		err = v.readMerges(kv)
	}
	if err != nil {
		return nil, err
	}
	v.readSpecial(kv)
	v.markAnswerEnds()
	if err := v.makePieces(); err != nil {
		return nil, err
	}
	v.index()
	return v, nil
}

func (v *vocab) readTokens(kv gguf.KV) error {
	const key = "tokenizer.ggml.tokens"
	n, ok := kv.Len(key)
	if !ok || n == 0 {
		return tokenizerErrorf("%s is missing or empty", key)
	}
	if n > maxVocab {
		return tokenizerErrorf("%s has %d tokens, at most %d are accepted", key, n, maxVocab)
	}
	if v.texts, ok = kv.Strings(key); !ok {
		return tokenizerErrorf("%s is not a list of strings", key)
	}
	v.kinds = slices.Repeat([]kind{kindNormal}, n)
	const types = "tokenizer.ggml.token_type"
	m, ok := kv.Len(types)
	if !ok {
		return nil
	}
	if m != n {
		return tokenizerErrorf("%s has %d entries for %d tokens", types, m, n)
	}
	numbers, ok := kv.Ints(types)
	if !ok {
		return tokenizerErrorf("%s is not a list of integers", types)
	}
	for i, t := range numbers {
		v.kinds[i] = kindUnused
		if t >= int64(kindNormal) && t <= int64(kindByte) {
			v.kinds[i] = kind(t)
		}
	}
	return nil
}

func (v *vocab) readScores(kv gguf.KV) error {
	const key = "tokenizer.ggml.scores"
	if n, ok := kv.Len(key); !ok || n != len(v.texts) {
		return tokenizerErrorf("%s has %d entries for %d tokens", key, n, len(v.texts))
	}
	var ok bool
	if v.scores, ok = kv.Floats(key); !ok {
		return tokenizerErrorf("%s is not a list of numbers", key)
	}
	for i, s := range v.scores {
		if s != s {
			v.scores[i] = float32(math.Inf(-1))
		}
	}
	return nil
}

func (v *vocab) readMerges(kv gguf.KV) error {
	const key = "tokenizer.ggml.merges"
	n, ok := kv.Len(key)
	if !ok {
		return tokenizerErrorf("%s is missing", key)
	}
	if n > maxMerges {
		return tokenizerErrorf("%s has %d merges, at most %d are accepted", key, n, maxMerges)
	}
	if v.merges, ok = kv.Strings(key); !ok {
		return tokenizerErrorf("%s is not a list of strings", key)
	}
	return nil
}

// readSpecial reads the tokens with a role. SentencePiece files may leave theirs to custom.
func (v *vocab) readSpecial(kv gguf.KV) {
	id := func(name string, def int32) int32 {
		n, ok := kv.Uint("tokenizer.ggml." + name + "_token_id")
		if !ok {
			n = uint64(uint32(def))
		}
		if n >= uint64(len(v.texts)) {
			return -1
		}
		return int32(n)
	}
	v.bos, v.eos, v.unk = -1, -1, -1
	if v.sentencepiece {
		v.bos, v.eos, v.unk = 1, 2, 0
	}
	v.bos, v.eos, v.unk = id("bos", v.bos), id("eos", v.eos), id("unknown", v.unk)
	v.eot, v.eom = id("eot", -1), id("eom", -1)
	if v.wordpiece { // "seperator" is how the key is spelt
		v.bos, v.eos = id("cls", v.named("[CLS]", v.bos)), id("seperator", v.named("[SEP]", v.eos))
		v.unk = v.named("[UNK]", v.unk)
	}

	v.addBOS = v.sentencepiece || v.wordpiece || preFamilies()[v.pre].bos
	if b, ok := kv.Bool("tokenizer.ggml.add_bos_token"); ok {
		v.addBOS = b
	}
	v.addSpace = v.sentencepiece || v.wordpiece
	v.addEOS, _ = kv.Bool("tokenizer.ggml.add_eos_token")
	v.addEOS = v.addEOS || v.wordpiece
	if b, ok := kv.Bool("tokenizer.ggml.add_space_prefix"); ok && v.sentencepiece {
		v.addSpace = b
	}
}

// named finds a token by its text, else def.
func (v *vocab) named(text string, def int32) int32 {
	if i := slices.Index(v.texts, text); i >= 0 {
		return int32(i)
	}
	return def
}

// endsAnswer is true for the texts of tokens that end an answer in the models at large. Files often
// name only one of theirs.
func endsAnswer(text string) bool {
	switch text {
	case "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>",
		"<|return|>", "<|call|>", "<|END_OF_TURN_TOKEN|>", "<|eos|>", "<|EOT|>", "</s>", "<eos>",
		"<end_of_turn>", "<end_of_utterance>", "<EOT>", "[EOT]", "<｜end▁of▁sentence｜>",
		"<|fim_pad|>", "<|repo_name|>", "<|file_sep|>":
		return true
	}
	return false
}

// markAnswerEnds collects the tokens that end an answer, the one named as EOS first. Those that are
// known by their text count as control tokens even if the file says they are user-defined.
func (v *vocab) markAnswerEnds() {
	add := func(id int32) {
		if id >= 0 && !slices.Contains(v.eog, id) {
			v.eog = append(v.eog, id)
		}
	}
	add(v.eos)
	add(v.eot)
	add(v.eom)
	found := map[string]int32{}
	for id, text := range v.texts {
		// A user-defined </s> is the tag of HTML (Gemma).
		if (v.kinds[id] == kindControl || v.kinds[id] == kindUser && text != "</s>") && endsAnswer(text) {
			if _, twice := found[text]; !twice {
				found[text] = int32(id)
			}
		}
	}
	// In the harmony format <|end|> closes a message and not the answer.
	_, harmony := found["<|return|>"]
	if _, calls := found["<|call|>"]; harmony && calls {
		delete(found, "<|end|>")
	}
	ids := make([]int32, 0, len(found))
	for _, id := range found {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		v.kinds[id] = kindControl
		add(id)
	}
}

// makePieces decodes the texts to the bytes they stand for.
func (v *vocab) makePieces() error {
	size := 0
	for _, t := range v.texts {
		size += len(t)
	}
	if size > math.MaxInt32 {
		return tokenizerErrorf("the tokens have %d bytes of text, at most 2 GiB are accepted", size)
	}
	v.pieces = make([]byte, 0, size)
	v.ends = make([]uint32, len(v.texts))
	decoder := newByteDecoder()
	for id, text := range v.texts {
		switch v.kinds[id] {
		case kindControl, kindUser, kindUnknown:
			v.pieces = append(v.pieces, text...)
		case kindByte:
			if b, ok := hexByte(text); ok {
				v.pieces = append(v.pieces, b)
			}
		case kindNormal:
			if v.sentencepiece || v.wordpiece {
				v.pieces = append(v.pieces, strings.ReplaceAll(text, spaceMark, " ")...)
			} else {
				v.pieces = decoder.decode(v.pieces, text)
			}
		}
		v.ends[id] = uint32(len(v.pieces))
	}
	return nil
}

// piece gives the bytes of a token; they must not be changed.
func (v *vocab) piece(id int32) []byte {
	if id < 0 || int(id) >= len(v.ends) {
		return nil
	}
	start := uint32(0)
	if id > 0 {
		start = v.ends[id-1]
	}
	return v.pieces[start:v.ends[id]:v.ends[id]]
}

// hidden is true for tokens that are no part of the text.
func (v *vocab) hidden(id int32) bool {
	if id < 0 || int(id) >= len(v.kinds) {
		return true
	}
	return v.kinds[id] == kindControl || v.kinds[id] == kindUnknown
}

// index fills byText and bytes. Of tokens with equal text the first counts.
func (v *vocab) index() {
	v.byText = make(map[string]int32, len(v.texts))
	for b := range v.bytes {
		v.bytes[b] = -1
	}
	pieces := string(v.pieces)
	start := uint32(0)
	for id, text := range v.texts {
		if !v.sentencepiece && !v.wordpiece {
			text = pieces[start:v.ends[id]]
		}
		start = v.ends[id]
		switch v.kinds[id] {
		case kindByte:
			if b, ok := hexByte(v.texts[id]); ok && v.bytes[b] < 0 {
				v.bytes[b] = int32(id)
			}
		case kindNormal, kindUser:
			if _, twice := v.byText[text]; !twice && text != "" {
				v.byText[text] = int32(id)
			}
		}
	}
	for b := range v.bytes {
		if id, ok := v.byText[string([]byte{byte(b)})]; ok && !v.sentencepiece && !v.wordpiece {
			v.bytes[b] = id
		}
	}
}
