//go:build amd64 && !purego

package kernels

// quantImpls holds the products of each level that is built here.
var quantImpls = [levels]quantImpl{generic: genericQuant, avx2: genericQuant, avx512: genericQuant}
