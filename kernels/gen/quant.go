package main

// quant emits the products of quantised weights, and what the workers need.
func quant(a *Asm) {
	a.Func("pause", "n int", "does nothing for n times some 40 cycles.")
	a.Load("n", "CX")
	a.L("loop")
	a.I("PAUSE")
	a.I("DECQ CX")
	a.I("JNZ loop")
	a.I("RET")
}
