package main

// quantizeRow emits the quantising of one row of activations; see Acts for what is written. The sums
// differ: with lanes (AVX2), a sum is two int16, -8 times the sum of q over the columns whose number
// modulo 4 is under 2, and over the others; each fits an accumulator of 16 bits as its start value.
// Without (AVX-512), a sum is one int32.
//
// The largest magnitude is found among the bits as integers, which puts infinities and NaN on top.
func quantizeRow(a *Asm, lanes bool) {
	name := "quantizeRow512"
	if lanes {
		name = "quantizeRow2"
	}
	a.Func(name, "x *float32, q *int8, f *float32, n *int32, h *int32, rows int, blocks int",
		"quantises the blocks of one row of activations in a tile of rows rows.")
	for _, p := range [][2]string{{"x", "SI"}, {"q", "DI"}, {"f", "R8"}, {"n", "R9"}, {"h", "R10"},
		{"rows", "R11"}, {"blocks", "CX"}} {
		a.Load(p[0], p[1])
	}
	a.I("MOVQ R11, R12")
	a.I("SHLQ $5, R12 // bytes of a block of q")
	a.I("SHLQ $2, R11 // bytes of a block of n, and half of one of f and h")
	a.I("MOVL $%#x, AX // 1/127", 0x3c010204)
	a.I("VMOVD AX, X14")
	a.I("MOVL $%#x, AX // 127", 0x42fe0000)
	a.I("VMOVD AX, X15")
	a.I("VPXOR X13, X13, X13")

	a.L("block")
	quantizeLoad(a)
	a.I("VMOVD X5, AX // the largest magnitude's bits")
	a.I("CMPL AX, $%#x", 0x7f800000)
	a.I("JGE nan")
	a.I("CMPL AX, $%#x // 2^-100", 27<<23)
	a.I("JLT zero")
	quantizeStore(a, lanes)
	a.L("next")
	a.I("ADDQ $128, SI")
	a.I("ADDQ R12, DI")
	a.I("LEAQ (R8)(R11*2), R8")
	a.I("ADDQ R11, R9")
	a.I("LEAQ (R10)(R11*2), R10")
	a.I("DECQ CX")
	a.I("JNZ block")
	a.Ret()

	a.L("nan")
	a.I("MOVL $%#x, AX", 0x7fc00000)
	a.I("JMP put")
	a.L("zero")
	a.I("XORL AX, AX")
	a.L("put")
	a.I("MOVL AX, (R8)")
	a.I("MOVL AX, (R8)(R11*1)")
	a.I("XORL AX, AX")
	a.I("VMOVDQU Y13, (DI)")
	a.I("MOVL AX, (R9)")
	a.I("MOVL AX, (R10)")
	a.I("MOVL AX, (R10)(R11*1)")
	a.I("JMP next")
}

// quantizeLoad loads a block to Y0 ... Y3 and its largest magnitude to X5.
func quantizeLoad(a *Asm) {
	a.I("VMOVDQU abs32<>+0(SB), Y4")
	for i := range 4 {
		a.I("VMOVUPS %d(SI), Y%d", 32*i, i)
	}
	for i := range 4 {
		a.I("VPAND Y%d, Y4, Y%d", i, 5+i)
	}
	a.I("VPMAXSD Y5, Y6, Y5")
	a.I("VPMAXSD Y7, Y8, Y7")
	a.I("VPMAXSD Y5, Y7, Y5")
	a.I("VEXTRACTI128 $1, Y5, X6")
	a.I("VPMAXSD X5, X6, X5")
	a.I("VPSHUFD $0x4e, X5, X6")
	a.I("VPMAXSD X5, X6, X5")
	a.I("VPSHUFD $0xb1, X5, X6")
	a.I("VPMAXSD X5, X6, X5")
}

// quantizeStore quantises the block and stores it with its scale and sums.
func quantizeStore(a *Asm, lanes bool) {
	a.I("VMULSS X14, X5, X6 // d")
	a.I("VDIVSS X5, X15, X5")
	a.I("VBROADCASTSS X5, Y5")
	for i := range 4 {
		a.I("VMULPS Y%d, Y5, Y%d", i, i)
		a.I("VCVTPS2DQ Y%d, Y%d", i, i)
	}
	a.I("VPACKSSDW Y1, Y0, Y0")
	a.I("VPACKSSDW Y3, Y2, Y2")
	a.I("VPACKSSWB Y2, Y0, Y0")
	a.I("VMOVDQU order<>+0(SB), Y1")
	a.I("VPERMD Y0, Y1, Y0")
	a.I("VMOVDQU Y0, (DI)")
	a.I("VMOVSS X6, (R8)")
	// Sums of pairs, then of the four pairs of each half whose columns agree modulo 4.
	a.I("VMOVDQU ones8<>+0(SB), Y1")
	a.I("VPMADDUBSW Y0, Y1, Y0")
	a.I("VPSHUFD $0x4e, Y0, Y1")
	a.I("VPADDW Y0, Y1, Y0")
	a.I("VPSHUFD $0xb1, Y0, Y1")
	a.I("VPADDW Y0, Y1, Y0")
	a.I("VMOVDQU ones16<>+0(SB), Y2")
	if lanes {
		a.I("VEXTRACTI128 $1, Y0, X1")
		a.I("VPADDW X0, X1, X3")
		a.I("VPMADDWD X2, X3, X4 // the sum of the block")
		for _, x := range []int{0, 1, 3} {
			a.I("VPSLLW $3, X%d, X%d", x, x)
			a.I("VPSUBW X%d, X13, X%d", x, x)
		}
	} else {
		a.I("VPMADDWD Y2, Y0, Y0")
		a.I("VEXTRACTI128 $1, Y0, X1")
		a.I("VPADDD X0, X1, X4")
		a.I("VPSUBD X0, X13, X0")
		a.I("VPSUBD X1, X13, X1")
		a.I("VPSUBD X4, X13, X3")
	}
	a.I("VCVTDQ2PS X4, X4")
	a.I("VMULSS X6, X4, X4")
	a.I("VMOVSS X4, (R8)(R11*1)")
	a.I("VMOVD X3, (R9)")
	a.I("VMOVD X0, (R10)")
	a.I("VMOVD X1, (R10)(R11*1)")
}
