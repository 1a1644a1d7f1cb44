package kernels

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"
)

// childEnv makes this program, started again, one of the neighbours of the benchmarks below.
const childEnv = "KERNELS_NEIGHBOUR"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "spin":
		go spin()
	case "decode":
		go testing.Benchmark(func(b *testing.B) { decodeAlways(b) })
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until whoever started it closes this, or dies
}

// spin keeps a processor busy.
func spin() {
	for n := uint64(1); n != 0; n |= 1 { // always
	}
}

// decodeAlways says how many steps it made in each second.
func decodeAlways(b *testing.B) {
	w := NewWorkers(2)
	defer w.Close()
	step := smallModel(b).step(w, 1)
	for {
		fmt.Println(stepsIn(time.Second, step))
	}
}

// neighbours starts programs that do a thing until the benchmark ends, and returns what they print. Each has a session of its own,
// which to Linux's scheduler (autogroups, as with services) counts as much as this program, however many threads it has.
func neighbours(b *testing.B, what string, n int) (out []*bufio.Scanner) {
	for range n {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), childEnv+"="+what)
		ownSession(c)
		in, err1 := c.StdinPipe()
		stdout, err2 := c.StdoutPipe()
		if err := c.Start(); err != nil || err1 != nil || err2 != nil {
			b.Fatal(err, err1, err2)
		}
		out = append(out, bufio.NewScanner(stdout))
		b.Cleanup(func() { _ = in.Close(); _ = c.Process.Kill(); _ = c.Wait() })
	}
	return out
}

// stepsIn returns the steps of a second that were made in about a while.
func stepsIn(d time.Duration, step func()) float64 {
	begun := time.Now()
	for n := 1; ; n++ {
		step()
		if t := time.Since(begun); t > d {
			return float64(n) / t.Seconds()
		}
	}
}

func middle(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

// BenchmarkNeighbours decodes with one thread and with two beside 0 to 4 programs that only spin, in turns: two must not be slower than one.
// With 4 spinners on 2 cores a fair share is half a core for each thread.
func BenchmarkNeighbours(b *testing.B) {
	old := runtime.GOMAXPROCS(runtime.NumCPU() + 2) // as in a node
	defer runtime.GOMAXPROCS(old)
	for _, c := range []struct {
		name string
		make func(*testing.B) *benchModel
	}{{"small", smallModel}, {"large", largeModel}} {
		m := c.make(b)
		for _, n := range []int{0, 1, 2, 4} {
			b.Run(fmt.Sprintf("%s/spinners%d", c.name, n), func(b *testing.B) {
				w1, w2 := NewWorkers(1), NewWorkers(2)
				defer w1.Close()
				defer w2.Close()
				neighbours(b, "spin", n)
				one, two := m.step(w1, 1), m.step(w2, 1)
				var ones, twos []float64
				for b.Loop() {
					ones = append(ones, stepsIn(400*time.Millisecond, one))
					twos = append(twos, stepsIn(400*time.Millisecond, two))
				}
				worst := slices.Min(twos)
				b.ReportMetric(middle(ones), "t1-tokens/s")
				b.ReportMetric(middle(twos), "t2-tokens/s")
				b.ReportMetric(worst, "t2-worst")
				b.ReportMetric(middle(twos)/middle(ones), "t2/t1")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkTwoProcesses decodes with two threads beside another program that does the same: each should get half.
func BenchmarkTwoProcesses(b *testing.B) {
	old := runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	defer runtime.GOMAXPROCS(old)
	w := NewWorkers(2)
	defer w.Close()
	step := smallModel(b).step(w, 1)
	alone := stepsIn(time.Second, step)
	other := neighbours(b, "decode", 1)[0]
	other.Scan() // its first second
	var ours, theirs []float64
	for b.Loop() {
		ours = append(ours, stepsIn(time.Second, step))
		other.Scan()
		var rate float64
		if _, err := fmt.Sscan(other.Text(), &rate); err != nil {
			b.Fatal(err)
		}
		theirs = append(theirs, rate)
	}
	b.ReportMetric(alone, "alone-tokens/s")
	b.ReportMetric(middle(ours), "this-tokens/s")
	b.ReportMetric(middle(theirs), "other-tokens/s")
	b.ReportMetric((middle(ours)+middle(theirs))/alone, "both/alone")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkDo is the cost of a dispatch to a team of two that is awake.
func BenchmarkDo(b *testing.B) {
	w := NewWorkers(2)
	defer w.Close()
	for b.Loop() {
		w.Do(2, func(int) {})
	}
}
