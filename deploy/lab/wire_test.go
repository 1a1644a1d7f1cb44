package lab

import (
	"slices"
	"testing"
	"time"
)

var (
	a = [4]byte{10, 77, 1, 1}
	b = [4]byte{10, 77, 2, 1}
)

// drain returns the first data byte of all that comes out, with the time at which it does.
func drain(r *router, now time.Time) (data []byte, at []time.Duration) {
	begun := now
	for {
		p, wait := r.next(now)
		if p != nil {
			data, at = append(data, p[28]), append(at, now.Sub(begun))
			continue
		}
		if wait.IsZero() {
			return data, at
		}
		now = wait
	}
}

func TestRouter(t *testing.T) {
	now := time.Unix(100, 0)
	send := func(l Line, n int) (*router, []byte, []time.Duration) {
		r := newRouter(7)
		r.obey(order{a, b, &l})
		for i := range n {
			r.take(now, segment(protoUDP, []byte{byte(i)}))
		}
		data, at := drain(r, now)
		return r, data, at
	}
	ascending := func(n int) (out []byte) {
		for i := range n {
			out = append(out, byte(i))
		}
		return out
	}
	if _, data, at := send(Line{}, 100); !slices.Equal(data, ascending(100)) || at[99] != 0 {
		t.Errorf("a line that does nothing: %v at %v", data, at)
	}
	if _, data, at := send(Line{Delay: time.Second}, 3); !slices.Equal(data, ascending(3)) || at[0] != time.Second {
		t.Errorf("delay: %v at %v", data, at)
	}
	if _, data, at := send(Line{Jitter: time.Second}, 100); slices.Equal(data, ascending(100)) || len(data) != 100 || at[99] < time.Second/2 {
		t.Errorf("jitter: %v at %v", data, at)
	}
	if _, data, _ := send(Line{Loss: 0.5}, 200); len(data) < 70 || len(data) > 130 {
		t.Errorf("half of 200 are lost: %d came", len(data))
	}
	if _, data, _ := send(Line{Dup: 0.5}, 200); len(data) < 270 || len(data) > 330 {
		t.Errorf("half of 200 come twice: %d came", len(data))
	}
	changed := 0
	if _, data, _ := send(Line{Flip: 0.5}, 200); true {
		for i, v := range data {
			if v != byte(i) {
				changed++
			}
		}
	}
	if changed < 70 || changed > 130 {
		t.Errorf("half of 200 are changed: %d are", changed)
	}
	r, _, _ := send(Line{Loss: 1}, 1)
	r.obey(order{From: a, To: b})
	r.take(now, segment(protoUDP, []byte{9}))
	if data, _ := drain(r, now); len(data) != 1 {
		t.Error("a line that was healed loses packets")
	}
	r.take(now, packet{1, 2, 3})
	if data, _ := drain(r, now); len(data) != 0 {
		t.Error("what is no packet came through")
	}
}
