// Package kernels does the arithmetic of Lamina: products of quantised weight matrices with rows of
// activations, and the vector operations and attention around them.
//
// The package keeps the contract of the bits: for each element of a result the order of the
// floating-point operations is a function of the operands' shapes alone, never of the batch, the tile,
// the number of workers or the CPU. Generic Go is the truth; the assembly (made by gen) agrees with it
// bit for bit, and every test runs on every implementation that the CPU has. See DESIGN.md.
package kernels

//go:generate go run ./gen
