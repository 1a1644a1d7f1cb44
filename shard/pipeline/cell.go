package pipeline

import "sync"

// core is what a cell guards.
type core interface {
	take() []outgoing
	undeliverable(o outgoing, err error)
}

// cell serialises the calls of a core, and the sending of its frames, so that they leave in the order in which the core put
// them out although any goroutine may send them.
type cell struct {
	mu      sync.Mutex // guards the core and sending
	idle    sync.Cond  // signalled when sending ends
	sending bool
}

// flush sends what the core has put out. If another goroutine is at it already, that one will send it: with wait,
// flush returns when it has, else at once. No lock is held during a send, so frames for this node may come back in.
func (c *cell) flush(h *Host, core core, wait bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sending {
		if !wait {
			return
		}
		c.idle.Wait()
	}
	c.sending = true
	for batch := core.take(); len(batch) > 0; batch = core.take() {
		c.mu.Unlock()
		failed, errs := c.send(h, batch)
		c.mu.Lock()
		for i, o := range failed {
			core.undeliverable(o, errs[i])
		}
	}
	c.sending = false
	c.idle.Broadcast()
}

// send sends a batch and returns what could not be.
func (c *cell) send(h *Host, batch []outgoing) (failed []outgoing, errs []error) {
	for i := range batch {
		if err := h.send(batch[i].to, &batch[i].f, follows(batch[i+1:], batch[i].to)); err != nil {
			failed, errs = append(failed, batch[i]), append(errs, err)
		}
	}
	return failed, errs
}

// follows tells whether another frame for the same node is in the rest of a batch. Of a group's frames most go to one
// node, so the answer is near.
func follows(rest []outgoing, to string) bool {
	for i := range rest {
		if rest[i].to == to {
			return true
		}
	}
	return false
}
