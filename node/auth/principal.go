package auth

import (
	"context"
	"fmt"

	"lamina/cluster"
)

// Principal is who asks, found once at the edge and carried in the context.
type Principal struct {
	Key  string // id of the API key; empty for a peer
	Role cluster.Role
}

// Authenticate finds who sent an API key (lk_ID_SECRET). lookup finds the cluster's record by the key's id.
// Errors wrap ErrKey; an unknown id and a wrong secret look the same.
func Authenticate(key string, lookup func(id string) (cluster.Key, bool)) (Principal, error) {
	k, err := ParseAPIKey(key)
	if err != nil {
		return Principal{}, err
	}
	known, ok := lookup(k.ID)
	if !ok {
		known.Hash = HashSecret("") // so that an unknown id takes as long as a wrong secret
	}
	if !VerifySecret(k.Secret, known.Hash) || !ok {
		return Principal{}, fmt.Errorf("%w: it is unknown or revoked", ErrKey)
	}
	return Principal{Key: known.ID, Role: known.Role}, nil
}

type principalKey struct{}

// WithPrincipal returns a context that carries who asks.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom returns who asks; ok is false for a context that does not say.
func PrincipalFrom(ctx context.Context) (p Principal, ok bool) {
	p, ok = ctx.Value(principalKey{}).(Principal)
	return p, ok
}
