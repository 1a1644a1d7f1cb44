package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

// An emulator runs the text of the generated assembly, so that AVX-512 is tested on machines that do not have it, and
// every access to memory is checked against the slices that were passed. It knows the instructions that the generator
// uses (emulatorOps) and stops at any other. What it thinks of AVX2 is checked by the CPU: the same tests run on both.
type emulator struct {
	code map[string]*asmFunc
	data map[string][]byte // read-only symbols

	frame []byte
	mem   []segment
	reg   [16]uint64
	vec   [32][16]uint32
	mask  [8]uint64
	zero  bool // flags: equal, and less as signed numbers
	less  bool
}

type asmFunc struct {
	frame  int // bytes of stack
	code   []asmIns
	labels map[string]int
}

type asmIns struct {
	text string
	name string // without suffixes
	bcst bool   // .BCST: the first operand is one 32-bit word for all lanes
	args []asmArg
}

// asmArg is an operand: a register of a kind (r, K, X, Y, Z), an immediate ($), memory (m), a parameter (p), a symbol
// (s) or a label (l).
type asmArg struct {
	kind        byte
	n           int // register or base
	index       int // -1: none
	scale, disp int
	name        string
}

type segment struct {
	base  uint64
	bytes []byte
}

// emulatorError is what emulated code did wrong.
type emulatorError string

func (e *emulator) fail(format string, args ...any) {
	panic(emulatorError(fmt.Sprintf(format, args...)))
}

var generalRegs = map[string]int{"AX": 0, "CX": 1, "DX": 2, "BX": 3, "SP": 4, "SI": 6, "DI": 7, "R8": 8, "R9": 9, "R10": 10, "R11": 11, "R12": 12, "R13": 13, "R14": 14, "R15": 15}

var (
	asmData  = regexp.MustCompile(`^DATA (\w+)<>\+(\d+)\(SB\)/4, \$(\w+)$`)
	asmMem   = regexp.MustCompile(`^(-?\d*)\((\w+)\)(?:\((\w+)\*(\d)\))?$`)
	asmParam = regexp.MustCompile(`^\w+\+(\d+)\(FP\)$`)
	asmSym   = regexp.MustCompile(`^(\w+)<>\+(\d+)\(SB\)$`)
	asmVec   = regexp.MustCompile(`^([KXYZ])(\d+)$`)
)

// newEmulator reads an assembly file of this folder.
func newEmulator(t *testing.T, file string) *emulator {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	e := &emulator{code: map[string]*asmFunc{}, data: map[string][]byte{}}
	var f *asmFunc
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "//")
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || strings.HasPrefix(line, "GLOBL"):
		case strings.HasPrefix(line, "DATA"):
			m := asmData.FindStringSubmatch(line)
			word, _ := strconv.ParseUint(m[3], 0, 32)
			e.data[m[1]] = binary.LittleEndian.AppendUint32(e.data[m[1]], uint32(word))
		case strings.HasPrefix(line, "TEXT"):
			f = &asmFunc{labels: map[string]int{}}
			fmt.Sscanf(line[strings.LastIndex(line, "$")+1:], "%d", &f.frame)
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "TEXT ·"), "(")
			e.code[name] = f
		case strings.HasSuffix(line, ":"):
			f.labels[strings.TrimSuffix(line, ":")] = len(f.code)
		default:
			f.code = append(f.code, parseIns(line))
		}
	}
	return e
}

func parseIns(line string) asmIns {
	if strings.HasPrefix(line, "BYTE ") {
		return parseBytes(line)
	}
	op, rest, _ := strings.Cut(line, " ")
	name, suffix, _ := strings.Cut(op, ".")
	ins := asmIns{text: line, name: name, bcst: suffix == "BCST"}
	if rest != "" {
		for _, a := range strings.Split(rest, ",") {
			ins.args = append(ins.args, parseArg(strings.TrimSpace(a)))
		}
	}
	return ins
}

func parseArg(s string) asmArg {
	number := func(s string) int { n, _ := strconv.ParseInt(s, 0, 64); return int(n) }
	if n, ok := generalRegs[s]; ok {
		return asmArg{kind: 'r', n: n}
	}
	if m := asmVec.FindStringSubmatch(s); m != nil {
		return asmArg{kind: m[1][0], n: number(m[2])}
	}
	if s[0] == '$' {
		return asmArg{kind: '$', disp: number(s[1:])}
	}
	if m := asmParam.FindStringSubmatch(s); m != nil {
		return asmArg{kind: 'p', disp: number(m[1])}
	}
	if m := asmSym.FindStringSubmatch(s); m != nil {
		return asmArg{kind: 's', name: m[1], disp: number(m[2])}
	}
	if m := asmMem.FindStringSubmatch(s); m != nil {
		a := asmArg{kind: 'm', n: generalRegs[m[2]], index: -1, disp: number(m[1])}
		if m[3] != "" {
			a.index, a.scale = generalRegs[m[3]], number(m[4])
		}
		return a
	}
	return asmArg{kind: 'l', name: s}
}

// call runs a function. Arguments are slices (for pointers), ints and float32s.
func (e *emulator) call(t failer, name string, args ...any) {
	t.Helper()
	f := e.code[name]
	if f == nil {
		t.Fatalf("no function %s in the assembly", name)
	}
	e.mem, e.frame = e.mem[:0], e.frame[:0]
	for _, a := range args {
		switch a := a.(type) {
		case int:
			e.push(uint64(a))
		case float32:
			e.frame = binary.LittleEndian.AppendUint32(e.frame, math.Float32bits(a))
		case []float32:
			e.push(e.segment(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(a))), 4*len(a))))
		case []uint16:
			e.push(e.segment(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(a))), 2*len(a))))
		case []int:
			e.push(e.segment(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(a))), 8*len(a))))
		case []int8:
			e.push(e.segment(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(a))), len(a))))
		case []int32:
			e.push(e.segment(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(a))), 4*len(a))))
		case []byte:
			e.push(e.segment(a))
		default:
			t.Fatalf("emulator: argument of type %T", a)
		}
	}
	e.reg[4] = e.segment(make([]byte, f.frame+8)) + 8 // as badly aligned as it may be
	at := 0
	defer func() {
		if p := recover(); p != nil {
			msg, ok := p.(emulatorError)
			if !ok {
				panic(p)
			}
			t.Fatalf("%s: %s: %s", name, f.code[at].text, msg)
		}
	}()
	e.run(f, &at)
}

func (e *emulator) push(v uint64) {
	for len(e.frame)%8 != 0 {
		e.frame = append(e.frame, 0)
	}
	e.frame = binary.LittleEndian.AppendUint64(e.frame, v)
}

// segment gives bytes an address, far from all others.
func (e *emulator) segment(b []byte) uint64 {
	base := uint64(len(e.mem)+1) << 40
	e.mem = append(e.mem, segment{base, b})
	return base
}

func (e *emulator) run(f *asmFunc, at *int) {
	for steps := 0; ; steps++ {
		if steps > 50_000_000 {
			e.fail("does not end")
		}
		ins := &f.code[*at]
		switch ins.name {
		case "RET":
			return
		case "JMP", "JNZ", "JEQ", "JLT", "JGE":
			taken := map[string]bool{"JMP": true, "JNZ": !e.zero, "JEQ": e.zero, "JLT": e.less, "JGE": !e.less}[ins.name]
			if taken {
				to, ok := f.labels[ins.args[0].name]
				if !ok {
					e.fail("no such label")
				}
				*at = to
				continue
			}
		default:
			op := floatEmulatorOps[ins.name]
			if op == nil {
				op = quantEmulatorOps[ins.name]
			}
			if op == nil {
				op = emulatorOps[ins.name]
			}
			if op == nil {
				e.fail("unknown instruction")
			}
			op(e, ins)
		}
		*at++
	}
}

// at is the memory of an operand.
func (e *emulator) at(a asmArg, n int) []byte {
	var b []byte
	off := a.disp
	switch a.kind {
	case 'p':
		b = e.frame
	case 's':
		b = e.data[a.name]
	case 'm':
		addr := e.address(a)
		for _, s := range e.mem {
			if addr>>40 == s.base>>40 {
				b, off = s.bytes, int(addr-s.base)
			}
		}
	}
	if off < 0 || off+n > len(b) {
		e.fail("%d bytes at offset %d of %d", n, off, len(b))
	}
	return b[off : off+n]
}

func (e *emulator) address(a asmArg) uint64 {
	addr := e.reg[a.n] + uint64(a.disp)
	if a.index >= 0 {
		addr += e.reg[a.index] * uint64(a.scale)
	}
	return addr
}

// lanesOf is the number of 32-bit lanes of a vector register.
func lanesOf(a asmArg) int { return map[byte]int{'X': 4, 'Y': 8, 'Z': 16}[a.kind] }

// words reads n 32-bit words: a vector register, memory, or one word for all.
func (e *emulator) words(a asmArg, n int, bcst bool) (w [16]uint32) {
	switch a.kind {
	case 'X', 'Y', 'Z':
		return e.vec[a.n]
	}
	for i := range n {
		if bcst {
			w[i] = binary.LittleEndian.Uint32(e.at(a, 4))
		} else {
			w[i] = binary.LittleEndian.Uint32(e.at(a, 4*n)[4*i:])
		}
	}
	return w
}

// set writes a vector register, of which the lanes beyond n become zero, or memory.
func (e *emulator) set(a asmArg, n int, w [16]uint32) {
	if a.kind == 'm' {
		for i, b := 0, e.at(a, 4*n); i < n; i++ {
			binary.LittleEndian.PutUint32(b[4*i:], w[i])
		}
		return
	}
	clear(w[n:])
	e.vec[a.n] = w
}
