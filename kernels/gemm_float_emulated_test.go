package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// floatEmulatorOps says what the instructions do that only the products of floats, pooling and cells use.
var floatEmulatorOps = map[string]func(e *emulator, ins *asmIns){
	"MOVQ": func(e *emulator, ins *asmIns) { e.setInteger(ins.args[1], e.integer(ins.args[0])) },
	"ADDQ": func(e *emulator, ins *asmIns) {
		v := e.integer(ins.args[1]) + e.integer(ins.args[0])
		e.setInteger(ins.args[1], v)
		e.compare(v, 0)
	},
	"SUBQ": func(e *emulator, ins *asmIns) {
		v := e.integer(ins.args[1]) - e.integer(ins.args[0])
		e.setInteger(ins.args[1], v)
		e.compare(v, 0)
	},
	"CMOVQLT": func(e *emulator, ins *asmIns) {
		if v := e.integer(ins.args[0]); e.less { // the operand is read in any case
			e.reg[ins.args[1].n] = v
		}
	},
	"VORPS": lanewise(func(a, b uint32) uint32 { return a | b }),
	"VCMPPS": func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[2])
		b, a := e.words(ins.args[1], n, ins.bcst), e.words(ins.args[2], n, false)
		var w [16]uint32
		for i := range n {
			x, y := math.Float32frombits(a[i]), math.Float32frombits(b[i])
			holds, ok := map[int]bool{3: x != x || y != y, 0x15: !(x < y)}[ins.args[0].disp]
			if !ok {
				e.fail("unknown comparison")
			}
			if holds {
				w[i] = math.MaxUint32
			}
		}
		if d := ins.args[3]; d.kind == 'K' {
			e.mask[d.n] = 0
			for i := range n {
				e.mask[d.n] |= uint64(w[i]&1) << i
			}
			return
		}
		e.set(ins.args[3], n, w)
	},
	// By the sign of the first operand, or a mask: the second one where it is set, else the third or second.
	"VBLENDVPS": func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[3])
		m, w, no := e.words(ins.args[0], n, false), e.words(ins.args[1], n, false), e.words(ins.args[2], n, false)
		for i := range n {
			if m[i]>>31 == 0 {
				w[i] = no[i]
			}
		}
		e.set(ins.args[3], n, w)
	},
	"VBLENDMPS": func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[3])
		w, no := e.words(ins.args[0], n, false), e.words(ins.args[1], n, false)
		for i := range n {
			if e.mask[ins.args[2].n]>>i&1 == 0 {
				w[i] = no[i]
			}
		}
		e.set(ins.args[3], n, w)
	},
}

// setInteger writes a general register or memory.
func (e *emulator) setInteger(a asmArg, v uint64) {
	if a.kind == 'r' {
		e.reg[a.n] = v
		return
	}
	binary.LittleEndian.PutUint64(e.at(a, 8), v)
}

// emulatedFloats is emulated for the assembly of floats.
func emulatedFloats(t *testing.T, levels []string, f func(t *rapid.T, e *emulator, level string)) {
	old := active
	defer func() { active = old }()
	active = generic
	e := newEmulator(t, "float_amd64.s")
	for _, level := range levels {
		t.Run(level, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { f(t, e, level) })
		})
	}
}

// TestEmulatedGEMM runs every shape of tile.
func TestEmulatedGEMM(t *testing.T) {
	shapes := map[string][][2]int{"AVX2": {{4, 1}, {5, 1}, {6, 1}, {1, 4}, {2, 2}, {3, 2}, {1, 1}, {2, 1}, {3, 1}}}
	number := map[string]func(rows, panels int) int{
		"AVX2":   func(rows, panels int) int { return rows - 1 + 6*min(1, panels-1) },
		"AVX512": func(rows, panels int) int { return rows - 1 + 10*min(1, panels-1) },
	}
	for rows := 1; rows <= 10; rows++ {
		several := 2
		if rows <= 3 {
			several = 4
		}
		shapes["AVX512"] = append(shapes["AVX512"], [2]int{rows, 1}, [2]int{rows, several})
	}
	emulatedFloats(t, []string{"AVX2", "AVX512"}, func(t *rapid.T, e *emulator, level string) {
		shape := rapid.SampledFrom(shapes[level]).Draw(t, "shape")
		c := drawCall(t, shape[0], shape[1])
		want := slices.Clone(c.y)
		got := c.y
		c.y = want
		c.run()
		e.call(t, "gemm"+c.typ.String()+level, c.x, c.zero, c.at, c.taps, c.k, c.w, c.step, got, 4*c.stride, c.bias, c.how, c.low, c.high,
			number[level](c.rows, c.panels), c.tiles, 8*(c.every-c.taps*c.rows))
		sameBits(t, fmt.Sprintf("%s %dx%d", level, c.rows, c.panels), got, want)
	})
}

// drawCall draws a call of the kernels of a shape, with no room beyond what it may touch.
func drawCall(t *rapid.T, rows, panels int) *floatCall {
	c := &floatCall{rows: rows, panels: panels, typ: rapid.SampledFrom([]Type{F32, F16, BF16}).Draw(t, "type"),
		taps: rapid.IntRange(1, 3).Draw(t, "taps"), k: rapid.IntRange(1, 11).Draw(t, "k"), stride: panels*panelRows + rapid.IntRange(0, 3).Draw(t, "stride"),
		add: rapid.Bool().Draw(t, "add"), clip: rapid.Bool().Draw(t, "clip"), low: -0.5, high: 0.75}
	m := floatMatrix(t, c.typ, panels*panelRows, c.taps*c.k)
	c.w, c.step = slices.Clip(m.Data), len(m.Data)/panels
	pixels := rapid.IntRange(1, 4).Draw(t, "pixels")
	c.x, c.zero = exact(t, "x", pixels*c.k), make([]float32, c.k)
	c.tiles = rapid.IntRange(1, 3).Draw(t, "tiles")
	c.every = c.taps*rows + rapid.IntRange(0, 2).Draw(t, "skip")
	for range c.tiles*c.every - (c.every - c.taps*rows) {
		at := rapid.IntRange(-1, pixels-1).Draw(t, "pixel") * 4 * c.k
		if at < 0 {
			at = outside
		}
		c.at = append(c.at, at)
	}
	c.at = slices.Clip(c.at)
	c.bias, c.y = exact(t, "bias", panels*panelRows), exact(t, "y", (c.tiles*rows-1)*c.stride+panels*panelRows)
	return c
}

// TestEmulatedPixels runs depthwise convolution and pooling.
func TestEmulatedPixels(t *testing.T) {
	emulatedFloats(t, []string{"AVX2"}, func(t *rapid.T, e *emulator, level string) {
		c := pixelCall{taps: rapid.IntRange(1, 4).Draw(t, "taps"), rows: rapid.IntRange(1, 6).Draw(t, "rows"), blocks: rapid.IntRange(1, 2).Draw(t, "blocks"),
			how: rapid.IntRange(0, 3).Draw(t, "how"), low: -0.5, high: 0.75, zero: make([]float32, lanes)}
		pixels, channels := rapid.IntRange(1, 4).Draw(t, "pixels"), c.blocks*lanes
		c.stride = channels
		for range c.taps * c.rows {
			at := rapid.IntRange(-1, pixels-1).Draw(t, "pixel") * 4 * channels
			if at < 0 {
				at = outside
			}
			c.at = append(c.at, at)
		}
		c.at = slices.Clip(c.at)
		c.x, c.w, c.bias = exact(t, "x", pixels*channels), exact(t, "w", c.taps*channels), exact(t, "bias", channels)
		y, count := exact(t, "y", c.rows*channels), make([]float32, c.rows)
		for i := range count {
			count[i] = float32(i + 2)
		}
		c.count = count
		for op, name := range []string{opDepth: "depth", opMax: "maxTaps", opMean: "meanTaps"} {
			c.op, c.y = pixelOp(op), slices.Clone(y)
			c.generic(lanes)
			got := slices.Clip(slices.Clone(y))
			args := []any{c.x, c.zero, c.at, c.taps, got, 4 * c.stride, c.rows, c.blocks}
			switch c.op {
			case opDepth:
				args = append(args, c.w, c.bias, c.how, c.low, c.high)
			case opMean:
				args = append(args, count)
			}
			e.call(t, name+level, args...)
			sameBits(t, name, got, c.y)
		}
	})
}

// TestEmulatedCells runs the cells of recurrent networks.
func TestEmulatedCells(t *testing.T) {
	emulatedFloats(t, []string{"AVX2", "AVX512"}, func(t *rapid.T, e *emulator, level string) {
		steps := rapid.IntRange(1, 3).Draw(t, "steps")
		n := steps * lanes
		h, c, gates, peep := exact(t, "h", n), exact(t, "c", n), exact(t, "gates", 4*n), exact(t, "peep", 3*n)
		clone := func(x []float32) []float32 { return slices.Clip(slices.Clone(x)) }
		part := func(i int) []float32 { return gates[i*n : (i+1)*n : (i+1)*n] }
		check := func(name string, got, want []float32, args ...any) {
			t.Helper()
			e.call(t, name+level, args...)
			sameBits(t, name+level, got, want)
		}
		for _, p := range [][]float32{nil, peep} {
			wantH, wantC, gotH, gotC := clone(h), clone(c), clone(h), clone(c)
			lstmCell(wantH, wantC, gates, p)
			arg := any(0)
			if p != nil {
				arg = p
			}
			check("lstm", gotH, wantH, gotH, gotC, gates, arg, n, steps)
			sameBits(t, "the cell", gotC, wantC)
		}
		want, got := clone(h), clone(h)
		gruBlend(want, part(0), part(1))
		check("gruBlend", got, want, got, part(0), part(1), steps)
		want, got = clone(h), clone(h)
		gruCell(want, part(0), part(1), part(2), part(3))
		check("gruCell", got, want, got, part(0), part(1), part(2), part(3), steps)
		sigmoidMul(want, part(0), h)
		check("sigmoidMul", got, want, got, part(0), h, steps)
		want, got = clone(gates), clone(gates)
		Sigmoid(want)
		check("sigmoid", got, want, got, 4*steps)
		want, got = clone(gates), clone(gates)
		Tanh(want)
		check("tanh", got, want, got, 4*steps)
	})
}

// TestEmulatedDepthRow runs depthwise convolution of results in a row.
func TestEmulatedDepthRow(t *testing.T) {
	emulatedFloats(t, []string{"AVX2"}, func(t *rapid.T, e *emulator, level string) {
		shape, tiles := rapid.IntRange(0, 5).Draw(t, "shape"), rapid.IntRange(1, 3).Draw(t, "tiles")
		pixels := linePixels * tiles
		width, stride := 3+shape/2*2, 1+shape%2
		rows, groups, lines := rapid.IntRange(1, 4).Draw(t, "rows"), rapid.IntRange(1, 3).Draw(t, "groups"), rapid.IntRange(1, 3).Draw(t, "lines")
		channels, line := lanes*groups, (pixels-1)*stride+width
		x, w, bias := exact(t, "x", lines*line*channels), exact(t, "w", rows*width*channels), exact(t, "bias", channels)
		how := rapid.IntRange(0, 3).Draw(t, "how")
		y, at := exact(t, "y", pixels*channels), make([]int, rows)
		for i := range at {
			if at[i] = rapid.IntRange(-1, lines-1).Draw(t, "line") * 4 * line * channels; at[i] < 0 {
				at[i] = outside
			}
		}
		want := slices.Clone(y)
		for i := range want {
			r, c := i/channels, i%channels
			sum := bias[c]
			if how&1 != 0 {
				sum += y[i]
			}
			for k := range rows * width {
				v := float32(0)
				if o := at[k/width]; o >= 0 {
					v = x[o/4+(r*stride+k%width)*channels+c]
				}
				sum = fma32(v, w[(c/lanes*rows*width+k)*lanes+c%lanes], sum)
			}
			want[i] = sum
		}
		if how&2 != 0 {
			bound(want, -0.5, 0.75)
		}
		e.call(t, "depthRow"+level, x, make([]float32, lanes), at, rows, 4*channels, y, 4*channels, groups, w, bias, how, float32(-0.5), float32(0.75), shape, tiles, linePixels*stride*4*channels)
		sameBits(t, "depthRow", y, want)
	})
}
