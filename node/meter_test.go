package node

import (
	"context"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lamina/cluster"
	"lamina/cluster/gossip"
	"lamina/kernels"
)

var testDigest = "sha256:" + strings.Repeat("0123456789abcdef", 4)

func reported(t *testing.T, m *meter) (gossip.ModelRates, float64) {
	t.Helper()
	models, net := m.report()
	list := gossip.Meta{Models: models}.ModelRates()
	if len(list) != 1 {
		t.Fatalf("%d models are reported", len(list))
	}
	return list[0], net
}

func near(a, b float64) bool { return math.Abs(a-b) <= 0.03*b }

func TestMeasureSpeed(t *testing.T) {
	w := kernels.NewWorkers(2)
	defer w.Close()
	if r, layer := measureSpeed(w); !(r.One > 0 && r.Eight > 0 && r.Many > 0 && layer > 0) {
		t.Errorf("measured %+v and %v a layer", r, layer)
	}
}

// Steps are told apart by their rows, disturbed ones do not count, and small changes are not told.
func TestMeterTellsWhatStepsTake(t *testing.T) {
	m := newMeter()
	for i := range 40 {
		took := 100 * time.Nanosecond
		if i%3 == 0 {
			took *= 50 // the machine was busy
		}
		m.step(testDigest, 1, 1000, 900, took)
		m.step(testDigest, 8, 1000, 900, 2*took)
		m.step(testDigest, 100, 1000, 900, 10*took)
		m.step(testDigest, 3, 1000, 900, time.Nanosecond) // neither one nor eight
		m.step(testDigest, 1, 1000, 900, 0)               // a clock that stands
	}
	m.sequence(testDigest, 1)
	got, _ := reported(t, m)
	if !near(got.One, 10) || !near(got.Eight, 5) || !near(got.Many, 90) || got.Sequences != 1 || got.Model != gossip.ModelName(testDigest) {
		t.Errorf("measured %+v", got)
	}
	for range 40 {
		m.step(testDigest, 1, 1000, 900, 105*time.Nanosecond)
	}
	if again, _ := reported(t, m); again.One != got.One {
		t.Errorf("a change of 5 %% is told: %v", again)
	}
	for range 40 {
		m.step(testDigest, 1, 1000, 900, 200*time.Nanosecond)
	}
	if again, _ := reported(t, m); !near(again.One, 5) {
		t.Errorf("a change to half is told as %v", again)
	}
	m.forget(testDigest)
	if models, _ := m.report(); models == "" {
		t.Error("a model with open sequences was forgotten")
	}
	m.sequence(testDigest, -1)
	m.forget(testDigest)
	if models, _ := m.report(); models != "" {
		t.Error("a model that is not run any more is reported")
	}
}

// The first steps of a model are cold: a few make no estimate.
func TestMeterWaitsForEnough(t *testing.T) {
	m := newMeter()
	for range fewest - 1 {
		m.step(testDigest, 1, 1000, 900, time.Nanosecond)
	}
	if models, _ := m.report(); models != "" {
		t.Errorf("reported after %d steps", fewest-1)
	}
}

// The line is at least as fast as the fastest transfer, and an estimate that does not hold wears off.
func TestMeterOfTheLine(t *testing.T) {
	m := newMeter()
	m.fetched(1000, 10)
	m.fetched(1000, 1000)
	m.received(1000, 1000)
	if _, net := m.report(); net < 80 {
		t.Errorf("one slow transfer brings the line to %v", net)
	}
	for range 60 {
		m.received(1000, 1000)
	}
	if _, net := m.report(); net > 2 {
		t.Errorf("many slow ones leave it at %v", net)
	}
}

func TestTransferMeasuresTheLine(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(serveProbe))
	defer srv.Close()
	n := &Node{run: t.Context(), out: slog.New(slog.DiscardHandler), client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", srv.Listener.Addr().String())
		},
	}}}
	defer n.client.CloseIdleConnections()
	bytes, took, err := n.transfer("n2")
	if err != nil || bytes != probeBytes/2 || took <= 0 {
		t.Errorf("%d bytes in %v, %v", bytes, took, err)
	}
}

// A burst of requests is not a load; one that lasts is.
func TestLeaderAveragesTheLoad(t *testing.T) {
	open := 0
	l := &leader{dead: time.Minute, members: func() []gossip.Peer {
		meta := gossip.Meta{Models: gossip.PackModels([]gossip.ModelRates{{Model: testDigest, One: 2, Sequences: open}})}
		return []gossip.Peer{{ID: "n1", Alive: true, Meta: meta}}
	}}
	l.mu.seen = map[cluster.NodeID]sighting{}
	s := cluster.State{Members: []cluster.Member{{ID: "n1"}}, Models: []cluster.Model{{Name: "m", Digest: testDigest}}}
	now := time.Unix(1000, 0)
	sequences := func(after time.Duration) float64 {
		for range after / time.Second {
			now = now.Add(time.Second)
			l.look(s, now)
		}
		m := l.live(now)["n1"].Models[testDigest]
		if !near(m.One, 2) {
			t.Fatalf("the rate is %v", m.One)
		}
		return m.Sequences
	}
	sequences(5 * time.Second)
	open = 100
	if got := sequences(3 * time.Second); got > 15 {
		t.Errorf("three seconds of 100 sequences count as %v", got)
	}
	if got := sequences(3 * time.Minute); got < 95 {
		t.Errorf("three minutes of 100 sequences count as %v", got)
	}
	open = 0
	if got := sequences(3 * time.Second); got < 80 {
		t.Errorf("three seconds without any count as %v", got)
	}
}
