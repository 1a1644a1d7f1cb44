package node

import (
	"runtime"
	"testing"
)

// TestVigil: it is kept while there are steps, ends by itself, begins anew, and closes at once whatever it does.
func TestVigil(t *testing.T) {
	v := newVigil()
	for range 2 {
		v.step()
		for v.rests.Load() {
			runtime.Gosched()
		}
		for !v.rests.Load() { // it gives up when no step comes
			runtime.Gosched()
		}
	}
	v.step()
	v.close()
	var none *vigil
	none.step()
	none.close()
}
