package pipeline

import (
	"math/rand/v2"
	"testing"
	"time"
)

// crowd keeps a number of short chats going: whoever has an answer asks the next. It returns the times to the first token and the gaps of
// those that ended in the last part of the time, and the tokens a second.
func (f *flow) crowd(streams, prompt, answer int, warm, measured time.Duration) (first, gaps []time.Duration, rate float64) {
	seq := uint64(0)
	open := make([]*flowRide, streams)
	tokens := 0
	for f.now.Sub(epoch0) < warm+measured {
		for i, r := range open {
			if r != nil && !r.d.over {
				continue
			}
			if r != nil && f.now.Sub(epoch0) > warm {
				first = append(first, r.times[0].Sub(r.begun))
				gaps = append(gaps, r.gaps(epoch0, f.now.Add(1))...)
				tokens += len(r.times)
			}
			if r != nil {
				delete(f.rides, r.r.Seq)
			}
			seq++
			open[i] = f.ask(f.request(seq, prompt, answer))
		}
		f.run(f.now.Sub(epoch0) + time.Millisecond)
	}
	return first, gaps, float64(tokens) / measured.Seconds()
}

// Many short chats at once, on a machine that others use too: their prompts do not wait in a queue behind a few that decode. (They did: few decode,
// so the idle gap is short, so prompts get little, so few decode; and what many decodes take was never measured, since prompts always waited.)
func TestFlowManyShortChats(t *testing.T) {
	const fixed, row, decode = 4 * time.Millisecond, time.Millisecond, 1200 * time.Microsecond
	for _, hops := range []int{1, 2} {
		for _, streams := range []int{4, 8, 16, 32} {
			h := time.Duration(hops)
			rng := rand.New(rand.NewPCG(uint64(streams), 9))
			exact := steps(fixed/h, row/h, decode/h)
			f := newFlow(t, hops, 100*time.Microsecond, Limits{Guesses: -1}, func(rows, decodes int) time.Duration {
				took := exact(rows, decodes) // and others use the machine now and then
				if rng.IntN(5) == 0 {
					took += time.Duration(rng.Int64N(int64(took)))
				}
				return took
			})
			first, gaps, rate := f.crowd(streams, 85, 64, 20*time.Second, 20*time.Second)
			best := 64 / (85*row + 64*decode + 64*fixed/time.Duration(streams)).Seconds() * float64(hops)
			t.Logf("%d stages, %d streams: %.0f tokens/s (%.2f of what can be), first token p50 %v p99 %v, gap p50 %v p99 %v", hops, streams, rate, rate/best,
				quantile(first, 0.5), quantile(first, 0.99), quantile(gaps, 0.5), quantile(gaps, 0.99))
			least, most := 0.85, 500*time.Millisecond
			if hops > 1 { // few sequences do not fill two stages
				least, most = 0.55, 800*time.Millisecond
			}
			if rate < least*best || quantile(first, 0.5) > most {
				t.Errorf("%d stages, %d streams: at least %.2f of what can be and a first token within %v are wanted", hops, streams, least, most)
			}
		}
	}
}
