package arch

import "lamina/kernels"

// Embedding is the way into the layers: a row for every token.
type Embedding interface {
	// Look writes the rows of tokens, which are checked to be in the vocabulary and stand at first and the positions
	// after it.
	Look(p Params, x []float32, tokens []int32, first int)
	// Words is the matrix of all tokens, which in a tied model serves as output.
	Words() *kernels.Matrix
}

// Embed is the embedding of a decoder.
type Embed struct {
	Tokens *kernels.Matrix `tensor:"token_embd.weight" dims:"vocab,hidden"`
}

// Look writes the tokens' own rows.
func (e *Embed) Look(p Params, x []float32, tokens []int32, _ int) {
	for i, t := range tokens {
		row := x[i*p.Hidden : (i+1)*p.Hidden]
		if e.Tokens.Row(row, int(t)); p.EmbedScale != 0 {
			kernels.Scale(row, p.EmbedScale)
		}
	}
}

// Words is the matrix of all tokens.
func (e *Embed) Words() *kernels.Matrix { return e.Tokens }

// typedEmbed is the embedding of an encoder: the token's row and that of its type, normed. Types tell the first of two
// texts from the second; here all are of the first.
type typedEmbed struct {
	Tokens   *kernels.Matrix `tensor:"token_embd.weight" dims:"vocab,hidden"`
	Types    *kernels.Matrix `tensor:"token_types.weight" dims:"types,hidden"`
	Norm     []float32       `tensor:"token_embd_norm.weight" dims:"hidden"`
	NormBias []float32       `tensor:"token_embd_norm.bias" dims:"hidden"`
}

// Words is the matrix of all tokens.
func (e *typedEmbed) Words() *kernels.Matrix { return e.Tokens }

// Look writes norm(token + type).
func (e *typedEmbed) Look(p Params, x []float32, tokens []int32, _ int) { e.look(p, x, tokens, nil, 0) }

func (e *typedEmbed) look(p Params, x []float32, tokens []int32, positions *kernels.Matrix, first int) {
	h := p.Hidden
	typ, pos := make([]float32, h), make([]float32, h)
	e.Types.Row(typ, 0)
	for i, t := range tokens {
		row := x[i*h : (i+1)*h]
		e.Tokens.Row(row, int(t))
		kernels.Add(row, typ)
		if positions != nil {
			positions.Row(pos, first+i)
			kernels.Add(row, pos)
		}
	}
	kernels.LayerNorm(x, x, e.Norm, e.NormBias, len(tokens), h, p.Eps)
}

// placedEmbed is the same with a row for every position.
type placedEmbed struct {
	typedEmbed
	Positions *kernels.Matrix `tensor:"position_embd.weight" dims:"context,hidden"`
}

// Look writes norm(token + type + position).
func (e *placedEmbed) Look(p Params, x []float32, tokens []int32, first int) {
	e.look(p, x, tokens, e.Positions, first)
}
