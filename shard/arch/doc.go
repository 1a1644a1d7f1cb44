// Package arch knows the Transformer architectures: for each the tensors of a layer and its forward
// pass, in one file that reads like the paper, made of the bricks of Step. table.go lists them.
//
// An architecture binds its weights by tags on the fields of its layer:
//
//	Q     *kernels.Matrix `tensor:"attn_q.weight" dims:"q,hidden"`
//	QBias []float32       `tensor:"attn_q.bias" dims:"q"`
//
// The name is GGUF's without "blk.N."; with ",model" it is a tensor of the whole model that every layer
// gets a copy of, with ",optional" it may be absent. dims are names from Params: rows,columns of a
// matrix, the length of a vector. The same tags say what Cut looks for and checks in a file and what a
// shard checks in a part.
package arch
