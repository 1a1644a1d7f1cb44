package lab

import (
	"bufio"
	"container/heap"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Line is what happens to packets from one node to another. The zero value does nothing to them.
type Line struct {
	Delay  time.Duration `json:"delay,omitempty"`
	Jitter time.Duration `json:"jitter,omitempty"` // added to the delay, evenly from 0 to this; packets may overtake each other
	Loss   float64       `json:"loss,omitempty"`   // share that is dropped
	Dup    float64       `json:"dup,omitempty"`    // share that comes twice
	Flip   float64       `json:"flip,omitempty"`   // share with one bit of its data inverted
}

// order is one line of instructions to the router process.
type order struct {
	From [4]byte `json:"from"`
	To   [4]byte `json:"to"`
	Line *Line   `json:"line"` // nil: as it was
}

// router delays and mistreats packets. It is pure but for its queue: read takes a packet and the time, and what is due comes
// out of next.
type router struct {
	rng   *rand.Rand
	lines map[[8]byte]Line
	queue queue
	count int
}

type held struct {
	due time.Time
	n   int // order of arrival
	p   packet
}

func newRouter(seed uint64) *router {
	return &router{rng: rand.New(rand.NewPCG(seed, 0x6c6162)), lines: make(map[[8]byte]Line)}
}

func pair(from, to [4]byte) (k [8]byte) {
	copy(k[:4], from[:])
	copy(k[4:], to[:])
	return k
}

func (r *router) obey(o order) {
	if o.Line == nil {
		delete(r.lines, pair(o.From, o.To))
		return
	}
	r.lines[pair(o.From, o.To)] = *o.Line
}

// take decides what becomes of a packet that came now. The packet is the router's from now on.
func (r *router) take(now time.Time, p packet) {
	if !p.valid() {
		return
	}
	l := r.lines[pair(p.ends())]
	if r.rng.Float64() < l.Loss {
		return
	}
	copies := 1
	if r.rng.Float64() < l.Dup {
		copies = 2
	}
	for range copies {
		q := append(packet{}, p...)
		if r.rng.Float64() < l.Flip {
			q.flip(r.rng.IntN(1<<16), r.rng.IntN(8))
		}
		due := now.Add(l.Delay)
		if l.Jitter > 0 {
			due = due.Add(time.Duration(r.rng.Int64N(int64(l.Jitter))))
		}
		r.count++
		heap.Push(&r.queue, held{due, r.count, q})
	}
}

// next returns a packet that is due, or when the next one will be (zero: there is none).
func (r *router) next(now time.Time) (p packet, wait time.Time) {
	if len(r.queue) == 0 {
		return nil, time.Time{}
	}
	if first := r.queue[0]; first.due.After(now) {
		return nil, first.due
	}
	return heap.Pop(&r.queue).(held).p, time.Time{}
}

type queue []held

// Len implements heap.Interface.
func (q queue) Len() int { return len(q) }

// Less implements heap.Interface.
func (q queue) Less(i, j int) bool {
	return q[i].due.Before(q[j].due) || q[i].due.Equal(q[j].due) && q[i].n < q[j].n
}

// Swap implements heap.Interface.
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(held)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// RunRouter is the router's process: it moves packets through the TUN device of that name until orders ends. Orders are lines
// of JSON; each is answered with a line when it is in force.
func RunRouter(device string, seed uint64, orders io.Reader, done io.Writer) error {
	tun, err := openTUN(device)
	if err != nil {
		return err
	}
	defer tun.Close()
	r := newRouter(seed)
	var mu sync.Mutex
	wake := make(chan struct{}, 1)
	go func() { // ends with the process: a read of a TUN device cannot be interrupted
		buf := make([]byte, 1<<16)
		for {
			n, err := tun.Read(buf)
			if err != nil {
				return
			}
			mu.Lock()
			r.take(time.Now(), append(packet{}, buf[:n]...))
			mu.Unlock()
			signal(wake)
		}
	}()
	go func() { // likewise
		for {
			mu.Lock()
			p, wait := r.next(time.Now())
			mu.Unlock()
			switch {
			case p != nil:
				_, _ = tun.Write(p) // what the kernel does not take is lost, as on a wire
			case wait.IsZero():
				<-wake
			default:
				select {
				case <-wake:
				case <-time.After(time.Until(wait)):
				}
			}
		}
	}()
	in := bufio.NewScanner(orders)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		mu.Lock()
		r.obey(o)
		mu.Unlock()
		if _, err := fmt.Fprintln(done, "ok"); err != nil {
			return err
		}
	}
	return in.Err()
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// openTUN makes a TUN device without packet information (linux/if_tun.h).
func openTUN(name string) (*os.File, error) {
	const setIff, flagTUN, flagNoInfo = 0x400454ca, 0x0001, 0x1000
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	var req [40]byte
	copy(req[:15], name)
	*(*uint16)(unsafe.Pointer(&req[16])) = flagTUN | flagNoInfo
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), setIff, uintptr(unsafe.Pointer(&req))); e != 0 {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("make the TUN device %s: %w", name, e)
	}
	return os.NewFile(uintptr(fd), name), nil
}
