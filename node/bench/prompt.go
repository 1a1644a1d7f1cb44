package bench

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
)

// vocabulary is what prompts are made of: common words, which most tokenizers know as one token each.
var vocabulary = strings.Fields(`
able about above across action after again against age ago air all almost alone along already also always among amount
and animal another answer any appear area arm around art ask away back bad ball bank base be beat because become bed
before began behind being believe below best better between big bird black blood blue board boat body book both bottom
box boy bread break bring brother brought brown build built burn business but buy call came can car care carry case cat
catch cause center century certain change check child children choose church city class clean clear close cloth cold
color come common company complete consider contain continue control cook cool copy corn corner correct cost could
country course cover cross crowd cry current cut dark daughter day dead deal dear death decide deep degree design did
differ direct discuss doctor does dog dollar done door doubt down draw dream dress drink drive drop dry during each ear
early earth ease east eat edge effect egg eight either else end enemy energy engine enough enter equal even evening
event ever every exact example except expect eye face fact fair fall family far farm fast father favor fear feed feel
feet fell felt few field fight figure fill final find fine finger finish fire first fish fit five flat floor flow flower
fly follow food foot for force foreign forest form forward found four free fresh friend from front fruit full fun game
garden gas gave general gentle get girl give glass go gold gone good got govern grand grass gray great green grew ground
group grow guess guide gun had hair half hand happen happy hard has hat have he head hear heart heat heavy held help her
here high hill him his history hit hold hole home hope horse hot hour house how huge human hundred hunt hurry ice idea if
imagine inch include industry iron island it job join jump just keep kept key kill kind king knew know lady lake land
language large last late laugh law lay lead learn least leave led left leg length less let letter level lie life lift
light like line list listen little live local long look lost lot loud love low machine made main major make man many map
mark market mass master match material matter may me mean measure meat meet men method middle might mile milk million
mind mine minute miss modern moment money month moon more morning most mother motion mountain mouth move much music must
name nation natural nature near necessary neck need never new next night nine no noise noon nor north nose note nothing
notice noun now number object ocean of off office often oil old on once one only open operate or order other our out over
own page paint pair paper part party pass past pattern pay people perhaps period person picture piece place plain plan
plane plant play point poor port position possible pound power present press pretty print problem process produce product
program property provide public pull push put question quick quiet quite race rain raise ran range rather reach read
ready real reason receive record red region remember repeat reply report rest result rich ride right ring rise river road
rock room root rose round row rule run safe said sail salt same sand sat save saw say scale school science sea season
second section see seed seem sell send sense sentence separate serve set settle seven several shall shape share sharp she
ship shoe shop short should shoulder show side sight sign silver simple since sing sister sit six size skill skin sky
sleep slow small smell smile snow so soft soil soldier solve some son song soon sound south space speak special speech
speed spell spend spoke spot spread spring square stand star start state station stay steel step stick still stone stood
stop store story straight strange stream street string strong student study subject such sudden sugar suggest suit summer
sun supply support sure surface surprise swim system table tail take talk tall teach team tell ten term test than thank
that the their them then there these they thick thin thing think third this those though thought thousand three through
time tiny to together told tone too took tool top total touch toward town track trade train travel tree triangle trip
trouble true try tube turn twenty two type under unit until up us use usual valley value very view village visit voice
wait walk wall want war warm was wash watch water wave way we wear weather week weight well went were west what wheel when
where which while white who whole why wide wife wild will win wind window winter wire wish with woman women wonder wood
word work world would write written wrong yard year yellow yes yet you young your
`)

// words appends n random words to b.
func words(b *strings.Builder, n int, rng *rand.Rand) {
	for range n {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(vocabulary[rng.IntN(len(vocabulary))])
	}
}

// random is a source of its own for each purpose, so that what one draws does not move the others.
func random(seed uint64, purpose string, n ...int) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(purpose))
	for _, x := range n {
		for i := range 8 {
			h.Write([]byte{byte(x >> (8 * i))})
		}
	}
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// scale turns tokens into words: a prompt of w words has fixed + each*w tokens at this server.
type scale struct{ fixed, each float64 }

// scaleOf finds the scale from two prompts' counts. Counts that make no sense give a word a token.
func scaleOf(w1, t1, w2, t2 int) scale {
	s := scale{each: float64(t2-t1) / float64(w2-w1)}
	s.fixed = float64(t1) - s.each*float64(w1)
	if !(s.each >= 0.5 && s.each <= 16) || s.fixed < -1 || s.fixed > 1<<16 {
		return scale{each: 1}
	}
	return s
}

// words is how many make up a whole prompt of so many tokens.
func (s scale) words(tokens int) int {
	return max(int(math.Round((float64(tokens)-s.fixed)/s.each)), 1)
}

// more is how many words have so many tokens besides what the prompt has already.
func (s scale) more(tokens int) int {
	return max(int(math.Round(float64(tokens)/s.each)), 1)
}

// turn is what a user says in one request, and how long the answer may get.
type turn struct {
	text   string
	answer int
}

// conversation is what one user asks: one turn, or several. It is a function of the seed, the load and its number.
type conversation struct {
	n     int
	group int // which shared prefix it begins with
	turns []turn
}

// talk makes the conversation n of a load. purpose keeps loads and warm-ups apart.
func (c *Config) talk(s scale, purpose string, n int) conversation {
	rng := random(c.Seed, purpose, n)
	v := conversation{n: n}
	for i := range c.Turns {
		var b strings.Builder
		tokens := c.Prompt.draw(rng)
		switch {
		case i > 0:
			words(&b, s.more(tokens), rng)
		case c.Prefix > 0:
			shared := s.more(c.Prefix)
			v.group = rng.IntN(c.Groups)
			words(&b, shared, random(c.Seed, purpose+" group", v.group))
			words(&b, max(s.words(c.Prefix+tokens)-shared, 1), rng)
		default:
			words(&b, s.words(tokens), rng)
		}
		v.turns = append(v.turns, turn{b.String(), c.Answer.draw(rng)})
	}
	return v
}
