package pipeline

// Needs tells whether a sequence that this node drives or serves cannot go on without another node. Links suspect a silent
// node sooner while that is so.
func (h *Host) Needs(node string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, r := range h.rides {
		if r.needs(node) {
			return true
		}
	}
	for _, r := range h.stages {
		if r.needs(node) {
			return true
		}
	}
	return false
}

func (r *ride) needs(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.d.over && r.d.routed(node)
}

func (r *runner) needs(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.st.seqs {
		if q.has(node) {
			return true
		}
	}
	return false
}
