package shard

import (
	"crypto/sha256"
	"encoding/binary"

	"lamina/kernels"
)

// BlockLen is the number of positions in a block of the KV cache: the unit of reserving, sharing and naming.
const BlockLen = kernels.KVBlockLen

// Key names a block of positions by everything that its contents depend on: a scope, and all tokens up to the block's end.
// Two scopes share nothing. A key that names nothing here only misses.
type Key [16]byte

// Keys returns the keys of the full blocks of tokens, in order. scope is what else decides the contents, and who may share
// them: tenant and model digest, put together so that no two pairs look the same. Each key is the first half of a SHA-256 of
// the whole one before it and the block's tokens. One who opens a sequence by them leaves out a block that ends with the last
// token, for that must be stepped to have logits.
func Keys(scope []byte, tokens []int32) []Key {
	h := sha256.New()
	h.Write([]byte("lamina kv 1\n"))
	h.Write(scope)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	keys := make([]Key, 0, len(tokens)/BlockLen)
	buf := make([]byte, 0, sha256.Size+4*BlockLen)
	for ; len(tokens) >= BlockLen; tokens = tokens[BlockLen:] {
		buf = append(buf[:0], sum[:]...)
		for _, t := range tokens[:BlockLen] {
			buf = binary.LittleEndian.AppendUint32(buf, uint32(t))
		}
		sum = sha256.Sum256(buf)
		keys = append(keys, Key(sum[:]))
	}
	return keys
}
