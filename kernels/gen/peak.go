package main

// peak emits the loops of package peak, each for AVX2 and AVX-512.
func peak(a *Asm) {
	a.pkg = "peak"
	for _, v := range []isa{avx2, avx512} {
		peakFMA(a, v)
		peakDot(a, v)
		peakRead(a, v)
	}
}

func peakFMA(a *Asm, v isa) {
	a.Func("fma"+v.name, "n int", "makes 12 independent multiply-adds on whole registers, n times.")
	load(a, "n", "CX")
	for r := range 16 {
		v.zero(a, r)
	}
	steps(a, func() {
		for r := range 12 {
			a.I("VFMADD231PS %s, %s, %s", v.r(12+r%4), v.r(12+(r+1)%4), v.r(r))
		}
	})
	a.Ret()
}

// peakDot emits the dots of bytes that the products with quantised weights are made of: VPDPBUSD, or VPMADDUBSW with an addition of
// 16-bit sums, which is the shortest that AVX2 has.
func peakDot(a *Asm, v isa) {
	a.Func("dot"+v.name, "n int", "makes 12 independent dots of all bytes of a register, in groups of 4 (2 with AVX2), n times.")
	load(a, "n", "CX")
	for r := range 16 {
		v.zero(a, r)
	}
	steps(a, func() {
		for r := range 12 {
			if v == avx512 {
				a.I("VPDPBUSD Z%d, Z%d, Z%d", 12+r%4, 12+(r+1)%4, r)
				continue
			}
			t := 12 + r%4
			a.I("VPMADDUBSW Y%d, Y%d, Y%d", 10+r%2, 10+(r+1)%2, t)
			a.I("VPADDW Y%d, Y%d, Y%d", t, r%10, r%10)
		}
	})
	a.Ret()
}

// peakRead emits a reader; prefetching far enough ahead is worth a fifth and more on some CPUs, nothing on others.
func peakRead(a *Asm, v isa) {
	for _, ahead := range []int{0, 4096} {
		name := "read" + v.name
		if ahead > 0 {
			name = "readAhead" + v.name
		}
		a.Func(name, "p *byte, n int", "reads n times 256 bytes.")
		load(a, "p", "SI", "n", "CX")
		steps(a, func() {
			for at := 0; at < 256; at += v.size() {
				if ahead > 0 && at%64 == 0 {
					a.I("PREFETCHT0 %d(SI)", ahead+at)
				}
				a.I("VMOVUPS %d(SI), %s", at, v.r(at/v.size()))
			}
		}, ptr{"SI", 256})
		a.Ret()
	}
}

// peakNeon is the same for arm64; the dots of "neon" are those without dotprod.
func peakNeon(asm *Asm) {
	a := Neon{asm}
	a.pkg = "peak"
	loop := func(name, doc string, body func()) {
		a.Func(name, "n int", doc)
		a.Args("n")
		for r := range 32 {
			a.Zero(r)
		}
		a.Loop("loop", 0, body)
		a.Return()
	}
	loop("fmaNEON", "makes 24 independent multiply-adds on whole registers, n times.", func() {
		for r := range 24 {
			a.V3(opFmla, r, 24+r%4, 28+r%4)
		}
	})
	loop("dotNEONDOT", "makes 24 independent dots of all bytes of a register, in groups of 4, n times.", func() {
		for r := range 24 {
			a.Lane(opSdotLane, r, 24+r%4, 28+r%4, r%4)
		}
	})
	loop("dotNEON", "makes 24 independent products of half the bytes of a register, n times.", func() {
		for r := range 24 {
			if r%2 == 0 {
				a.V3(opSmlal, r, 24+r%4, 28+r%4)
			} else {
				a.V3(opSmlal2, r, 24+r%4, 28+r%4)
			}
		}
	})
	a.Func("readNEON", "p *byte, n int", "reads n times 256 bytes.")
	a.Args("p", "n")
	a.Step(1, func() {
		for r := range 16 {
			a.Get(r, 16*r, 0)
		}
	}, [2]int{0, 256})
	a.Return()
}
