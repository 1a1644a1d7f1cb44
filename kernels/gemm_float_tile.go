package kernels

import "math"

// maxFloatRows is the most rows that a kernel for float weights takes at once, maxFloatPanels the most panels.
const (
	maxFloatRows   = 10
	maxFloatPanels = 4
)

// outside is the offset of a row that lies outside of the input: whatever address it is added to, the sum is negative.
const outside = math.MinInt / 2

// floatCall is one call of a kernel for float weights: some tiles one after the other, each of rows rows times some panels, where each
// row is taps pieces of k floats. Piece t of row r of tile i begins at[i*every+t*rows+r] bytes after x[0], or with zero[0] if that
// is outside.
type floatCall struct {
	typ       Type
	x, zero   []float32
	at        []int
	taps, k   int
	w         []byte // from the first tap's first column of the first panel on
	step      int    // bytes between panels
	y         []float32
	stride    int // floats between rows of y
	bias      []float32
	add, clip bool
	low, high float32
	rows      int
	panels    int
	tiles     int
	every     int // places in at from tile to tile
	how       int // add and clip as bits
}

// run computes the results of a call: for each, an FMA for each column in order, tap by tap, from the bias (to which what y
// holds is added if add is set) on; then the bounds.
func (c *floatCall) run() {
	if c.how = 0; c.add {
		c.how = 1
	}
	if c.clip {
		c.how |= 2
	}
	if !gemmFast(c) {
		c.generic()
	}
}

// generic is the truth that the assembly equals.
func (c *floatCall) generic() {
	f := formOf(c.typ)
	for row := range c.tiles * c.rows {
		at := c.at[row/c.rows*c.every+row%c.rows:]
		for p := range c.panels {
			acc := (*[panelRows]float32)(c.y[row*c.stride+p*panelRows:])
			bias := c.bias[p*panelRows : (p+1)*panelRows]
			if c.add {
				for i, b := range bias {
					acc[i] += b
				}
			} else {
				copy(acc[:], bias)
			}
			for t := range c.taps {
				x := c.zero
				if o := at[t*c.rows]; o >= 0 {
					x = c.x[o/4:]
				}
				c.tap(f, acc, x[:c.k], c.w[p*c.step:], t*c.k)
			}
			if c.clip {
				bound(acc[:], c.low, c.high)
			}
		}
	}
}

// tap adds the products of a piece of a row with the columns of a panel from column on.
func (c *floatCall) tap(f *form, acc *[panelRows]float32, x []float32, w []byte, column int) {
	for k, v := range x {
		for i := range acc {
			acc[i] = fma32(f.float(w, (column+k)*panelRows+i), v, acc[i])
		}
	}
}

// bound brings x within low and high. NaN stays NaN, and a zero that equals a bound keeps its sign.
func bound(x []float32, low, high float32) {
	for i, v := range x {
		if low > v {
			x[i] = low
		}
		if high < x[i] {
			x[i] = high
		}
	}
}
