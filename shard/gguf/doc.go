// Package gguf reads and writes GGUF files, versions 2 and 3, little endian: the key-value pairs that
// describe a model, and its tensors as slices of the file.
//
// The format is specified at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. A file is data
// from strangers: Parse bounds every count before it is used, checks every product for overflow and
// every tensor against the end of the file, and never panics. Nothing is copied while parsing except
// names, so that a hostile header costs no more memory than a small multiple of its own size.
package gguf
