package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strings"
)

// hashPrefix begins every hash that the cluster keeps.
const hashPrefix = "sha256:"

// HashSecret is what the cluster keeps of a token or key: sha256:hex. The secrets are random and long, so a plain hash is enough.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// VerifySecret says whether secret has this hash, in a time that does not depend on where they differ.
func VerifySecret(secret, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(HashSecret(secret)), []byte(hash)) == 1
}

// tokenLen is the length of a join token: 26 letters and digits, 130 bits.
const tokenLen = 26

// NewToken makes a join token and the hash under which the cluster knows it.
func NewToken() (token, hash string) {
	token = strings.ToLower(rand.Text())
	return token, HashSecret(token)
}

// isBase32 says whether s consists of n lower-case base32 letters and digits.
func isBase32(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range n {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// APIKey is a key that clients send: lk_ID_SECRET. The id is public, the secret is 256 random bits.
type APIKey struct{ ID, Secret string }

const (
	keyPrefix    = "lk_"
	keyIDLen     = 8
	keySecretLen = 52
)

// NewAPIKey makes a key.
func NewAPIKey() APIKey {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails: crypto/rand
	enc := base32.StdEncoding.WithPadding(base32.NoPadding)
	return APIKey{ID: strings.ToLower(rand.Text()[:keyIDLen]), Secret: strings.ToLower(enc.EncodeToString(secret[:]))}
}

// ParseAPIKey reads lk_ID_SECRET. Errors wrap ErrKey and never show the key.
func ParseAPIKey(s string) (APIKey, error) {
	rest, ok := strings.CutPrefix(s, keyPrefix)
	id, secret, cut := strings.Cut(rest, "_")
	if !ok || !cut || !isBase32(id, keyIDLen) || !isBase32(secret, keySecretLen) {
		return APIKey{}, fmt.Errorf("%w: it must read %sID_SECRET", ErrKey, keyPrefix)
	}
	return APIKey{ID: id, Secret: secret}, nil
}

// String returns lk_ID_SECRET. It holds the secret: never log it.
func (k APIKey) String() string { return keyPrefix + k.ID + "_" + k.Secret }

// Hash is what the cluster keeps of the key.
func (k APIKey) Hash() string { return HashSecret(k.Secret) }
