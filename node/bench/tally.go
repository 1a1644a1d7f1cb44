package bench

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"sync"
	"time"
)

// request is what was asked.
type request struct {
	n     int
	fresh bool // the server had no chance to have seen its beginning
	turn  turn
}

// tally gathers outcomes of one load.
type tally struct {
	begun time.Time
	mu    struct {
		sync.Mutex
		ok, failed                                  int
		errors                                      map[string]*ErrorCount
		groups                                      map[int]bool
		ttft, fresh, reused, gap, token, whole, lag Histogram
		in, out, cached, pieces                     int64
		uncounted, silent, early                    int
		end                                         time.Time
		line                                        timeline
		answers                                     [sha256.Size]byte
	}
}

func newTally(begun time.Time) *tally {
	t := &tally{begun: begun}
	t.mu.errors, t.mu.groups, t.mu.end = map[string]*ErrorCount{}, map[int]bool{}, begun
	t.mu.line.width = 100 * time.Millisecond
	return t
}

// firstOf says whether a request is the first that begins with a shared prefix.
func (t *tally) firstOf(group int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := t.mu.groups[group]
	t.mu.groups[group] = true
	return !seen
}

// add counts an outcome. Latencies are those of whole answers only.
func (t *tally) add(o *outcome, r request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &t.mu
	if o.fail != nil {
		t.addFailure(o)
		return
	}
	m.ok++
	if o.end.After(m.end) {
		m.end = o.end
	}
	m.lag.Add(o.begun.Sub(o.due))
	m.whole.Add(o.end.Sub(o.due))
	pieces := len(o.marks)
	answer := pieces
	if o.usage {
		answer = o.answer
		m.in, m.cached = m.in+int64(o.prompt), m.cached+int64(o.cached)
	} else {
		m.uncounted++
	}
	m.out, m.pieces = m.out+int64(answer), m.pieces+int64(pieces)
	if answer < r.turn.answer {
		m.early++
	}
	if pieces > 0 {
		first := o.first.Sub(o.due)
		m.ttft.Add(first)
		if r.fresh {
			m.fresh.Add(first)
		} else {
			m.reused.Add(first)
		}
	} else {
		m.silent++
	}
	for _, g := range o.gaps {
		m.gap.Add(g)
	}
	if pieces > 1 && answer > 1 {
		m.token.Add(o.last.Sub(o.first) / time.Duration(answer-1))
	}
	for _, at := range o.marks {
		m.line.add(at.Sub(t.begun))
	}
	// Whoever asks two servers the same sees here whether they said the same. The order of the requests' ends does not matter.
	h := sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, uint64(r.n)), o.text...))
	for i := range h {
		m.answers[i] ^= h[i]
	}
}

func (t *tally) addFailure(o *outcome) {
	if o.fail.kind == failStopped {
		return
	}
	t.mu.failed++
	if o.end.After(t.mu.end) {
		t.mu.end = o.end
	}
	e := t.mu.errors[o.fail.kind]
	if e == nil {
		e = &ErrorCount{Kind: o.fail.kind, Example: o.fail.Error()}
		t.mu.errors[o.fail.kind] = e
	}
	e.Count++
}

// Snapshot is how far a load is.
type Snapshot struct {
	Load                      Load
	Done, Failed, Running     int
	Want                      int // requests; 0: as many as Total holds
	Elapsed, Total            time.Duration
	Out                       int64 // tokens
	TTFT50, TTFT99, Gap50     time.Duration
	OutPerSecond, DonePerSecs float64
}

func (t *tally) fill(s *Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &t.mu
	s.Done, s.Failed, s.Out = m.ok, m.failed, m.out
	s.TTFT50, s.TTFT99, s.Gap50 = m.ttft.Quantile(.5), m.ttft.Quantile(.99), m.gap.Quantile(.5)
	if took := m.end.Sub(t.begun).Seconds(); took > 0 {
		s.OutPerSecond, s.DonePerSecs = float64(m.out)/took, float64(m.ok)/took
	}
}

// point sums up.
func (t *tally) point(l Load) *Point {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &t.mu
	p := &Point{Load: l, Requests: m.ok + m.failed, Failed: m.failed, Seconds: m.end.Sub(t.begun).Seconds(),
		TTFT: m.ttft.Summary(), Gap: m.gap.Summary(), PerToken: m.token.Summary(), Whole: m.whole.Summary(), Lag: m.lag.Summary(),
		InTokens: m.in, OutTokens: m.out, CachedTokens: m.cached, Pieces: m.pieces, Uncounted: m.uncounted, Silent: m.silent, Early: m.early}
	p.TTFT.Curve, p.Gap.Curve, p.Whole.Curve = m.ttft.curve(), m.gap.curve(), m.whole.curve()
	if m.reused.Count() > 0 {
		f, r := m.fresh.Summary(), m.reused.Summary()
		p.TTFTFresh, p.TTFTReused = &f, &r
	}
	if p.Seconds > 0 {
		p.OutPerSecond, p.InPerSecond, p.RequestsPerSecond = float64(m.out)/p.Seconds, float64(m.in)/p.Seconds, float64(m.ok)/p.Seconds
	}
	for _, e := range m.errors {
		p.Errors = append(p.Errors, *e)
	}
	slices.SortFunc(p.Errors, func(a, b ErrorCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Kind, b.Kind))
	})
	if m.ok > 0 {
		p.Answers = hex.EncodeToString(m.answers[:])
	}
	p.Timeline = m.line.points()
	return p
}

// timeline counts pieces by time, in at most maxBins bins: when they are full, two become one.
type timeline struct {
	width time.Duration
	bins  []int64
}

const maxBins = 120

func (l *timeline) add(at time.Duration) {
	i := int(max(at, 0) / l.width)
	for i >= maxBins {
		half := l.bins[:0]
		for j := 0; j < len(l.bins); j += 2 {
			n := l.bins[j]
			if j+1 < len(l.bins) {
				n += l.bins[j+1]
			}
			half = append(half, n)
		}
		l.bins, l.width, i = half, l.width*2, i/2
	}
	for len(l.bins) <= i {
		l.bins = append(l.bins, 0)
	}
	l.bins[i]++
}

// points are pieces a second over seconds, each at the middle of its bin.
func (l *timeline) points() []TimePoint {
	out := make([]TimePoint, len(l.bins))
	for i, n := range l.bins {
		out[i] = TimePoint{(time.Duration(i)*l.width + l.width/2).Seconds(), float64(n) / l.width.Seconds()}
	}
	return out
}
