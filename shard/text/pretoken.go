package text

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A byte-level BPE model never merges across the words that its pre-tokenizer cuts. The pre-tokenizers
// are regular expressions with look-ahead in the models' own files; here they are written by hand.

// family is a group of models with one pre-tokenizer.
type family struct {
	known bool
	// llama: the newer expression of Llama 3 and Qwen2; else GPT-2's.
	llama bool
	// cased: the expression of GPT-4o, which tells capitals from other letters; contractions: it ends words with them.
	cased, contractions bool
	// digits is how many digits a word has at most (0: any number).
	digits int
	// alone: digits are cut out before anything else is looked at (SmolLM).
	alone bool
	// marks: combining marks count as letters (Qwen3.5).
	marks bool
	// nfc: text is brought to Unicode's composed form first.
	nfc bool
	// whole: a word that is a token is taken as it is, whatever the merges say.
	whole bool
	// bos: a BOS token is put first unless the file says otherwise.
	bos bool
}

// preFamilies lists the values of tokenizer.ggml.pre. The expressions, as the models state them:
//
//	GPT-2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//	SmolLM   the same between digits, each of which stands alone
//	Llama 3  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//	Qwen2    the same with \p{N} for \p{N}{1,3}
//	GPT-4o, Tekken  in pretoken_cased.go
//	Qwen3.5  the same with [\p{L}\p{M}]+ for \p{L}+ and \p{M} kept out of the fourth branch
func preFamilies() map[string]family {
	gpt2 := family{known: true}
	smollm := family{known: true, alone: true}
	llama3 := family{known: true, llama: true, digits: 3, whole: true, bos: true}
	glm := family{known: true, llama: true, digits: 3}
	qwen2 := family{known: true, llama: true, digits: 1, nfc: true}
	stable := family{known: true, llama: true, digits: 1}
	gpt4o := family{known: true, cased: true, contractions: true, digits: 3}
	tekken := family{known: true, cased: true, digits: 1, whole: true, bos: true}
	qwen35 := family{known: true, llama: true, digits: 1, nfc: true, marks: true}
	return map[string]family{
		"": gpt2, "default": gpt2, "gpt-2": gpt2, "phi-2": gpt2,
		"smollm": smollm, "starcoder": smollm, "refact": smollm, "codeshell": smollm, "command-r": smollm,
		"llama-bpe": llama3, "llama3": llama3, "llama-v3": llama3, "falcon3": llama3, "lfm2": llama3,
		"glm4": glm, "chatglm-bpe": glm, "dbrx": glm, "smaug-bpe": glm,
		"qwen2": qwen2, "deepseek-r1-qwen": qwen2, "megrez": qwen2,
		"stablelm2": stable, "hunyuan": stable,
		"qwen35": qwen35,
		"gpt-4o": gpt4o, "llama4": gpt4o, "tekken": tekken,
	}
}

// supportedPre lists the names for an error.
func supportedPre() string {
	var names []string
	for name := range preFamilies() {
		if name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// class is what the expressions tell apart.
type class uint8

const (
	other class = iota
	letter
	mark
	number
	space   // white space but \r and \n
	newline // \r and \n
)

// classes holds the class of every character below U+10000; looking it up in package unicode's
// tables takes several times as long as the rest of the scan.
type classes [1 << 16]class

func newClasses(f family) *classes {
	var c classes
	fill := func(table *unicode.RangeTable, class class) {
		for _, r := range table.R16 {
			for x := int(r.Lo); x <= int(r.Hi); x += int(r.Stride) {
				c[x] = class
			}
		}
	}
	if f.marks {
		fill(unicode.M, mark)
	}
	fill(unicode.L, letter)
	fill(unicode.N, number)
	fill(unicode.White_Space, space)
	c['\r'], c['\n'] = newline, newline
	return &c
}

// classOf is the class of any character.
func classOf(r rune, f family) class {
	switch {
	case r == '\r' || r == '\n':
		return newline
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	case f.marks && unicode.Is(unicode.M, r):
		return mark
	}
	return other
}

// splitter cuts text into words.
type splitter struct {
	family
	classes *classes
}

func newSplitter(f family) *splitter { return &splitter{f, newClasses(f)} }

// at gives class and size of the character at s[i:]; size 0 is the end. A byte that is no UTF-8 is a
// character of class other.
func (p *splitter) at(s string, i int) (class, int) {
	if i >= len(s) {
		return other, 0
	}
	if c := s[i]; c < utf8.RuneSelf {
		return p.classes[c], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	switch {
	case r == utf8.RuneError && n == 1:
		return other, 1
	case r < 1<<16:
		return p.classes[r], n
	}
	return classOf(r, p.family), n
}

// run measures the characters of the classes in set (a bit for each) from s[i:] on.
func (p *splitter) run(s string, i int, set uint8) int {
	for {
		c, n := p.at(s, i)
		if n == 0 || set>>c&1 == 0 {
			return i
		}
		i += n
	}
}

const (
	letters = 1<<letter | 1<<mark
	numbers = 1 << number
	blanks  = 1<<space | 1<<newline
	breaks  = 1 << newline
	others  = 1 << other
)

// next gives the end of the first word of s, which is not empty.
func (p *splitter) next(s string) int {
	switch {
	case p.cased:
		return p.nextCased(s)
	case p.llama:
		return p.nextLlama(s)
	}
	return p.nextGPT2(s)
}

func (p *splitter) nextGPT2(s string) int {
	c, n := p.at(s, 0)
	if c == number && p.alone {
		return n
	}
	if end := contraction(s, false); end > 0 {
		return end
	}
	start := 0
	if s[0] == ' ' {
		c, n = p.at(s, 1)
		start = 1
	}
	switch {
	case n == 0: // a space at the end
		return 1
	case c == number && p.alone: // the space before a digit that stands alone
		return 1
	case c == letter || c == mark:
		return p.run(s, start, letters)
	case c == number:
		return p.run(s, start, numbers)
	case c == other:
		return p.run(s, start, others)
	}
	return p.blanks(s)
}

func (p *splitter) nextLlama(s string) int {
	if end := contraction(s, true); end > 0 {
		return end
	}
	c, n := p.at(s, 0)
	if c == letter || c == mark {
		return p.run(s, 0, letters)
	}
	if c == other || c == space { // one such character may begin a word of letters
		if after, _ := p.at(s, n); after == letter || after == mark {
			return p.run(s, n, letters)
		}
	}
	if c == number {
		return p.digitRun(s, n)
	}
	start := 0
	if s[0] == ' ' {
		start = 1
	}
	if end := p.run(s, start, others); end > start {
		return p.run(s, end, breaks)
	}
	return p.blankRun(s)
}

// blankRun ends a run of white space: with the last line break in it, if there is one.
func (p *splitter) blankRun(s string) int {
	end := p.run(s, 0, blanks)
	if last := strings.LastIndexAny(s[:end], "\r\n"); last >= 0 {
		return last + 1
	}
	return p.blanks(s)
}

// digitRun ends a word of digits whose first is n bytes long.
func (p *splitter) digitRun(s string, n int) int {
	for range p.digits - 1 {
		c, size := p.at(s, n)
		if size == 0 || c != number {
			break
		}
		n += size
	}
	return n
}

// blanks ends a run of white space: the last of it goes with the word that follows, if one does.
func (p *splitter) blanks(s string) int {
	end := p.run(s, 0, blanks)
	c, n := p.at(s, end)
	if n == 0 || (c == number && p.alone) {
		return end
	}
	_, last := utf8.DecodeLastRuneInString(s[:end])
	if end > last {
		return end - last
	}
	return end
}

// contraction measures 's, 't, 're, 've, 'm, 'll or 'd; fold takes upper case too, and the long s that
// folds to it.
func contraction(s string, fold bool) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	a, b := s[1], byte(0)
	if len(s) > 2 {
		b = s[2]
	}
	if fold {
		if strings.HasPrefix(s[1:], "ſ") {
			return 1 + len("ſ")
		}
		a, b = a|0x20, b|0x20
	}
	switch a {
	case 's', 't', 'm', 'd':
		return 2
	case 'r', 'v':
		if b == 'e' {
			return 3
		}
	case 'l':
		if b == 'l' {
			return 3
		}
	}
	return 0
}
