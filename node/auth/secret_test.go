package auth

import (
	"context"
	"errors"
	"strings"
	"testing"

	"lamina/cluster"
)

func TestTokens(t *testing.T) {
	token, hash := NewToken()
	if other, _ := NewToken(); other == token {
		t.Error("the same token twice")
	}
	if !isBase32(token, tokenLen) || !isHash(hash) {
		t.Errorf("token %q, hash %q", token, hash)
	}
	if !VerifySecret(token, hash) || VerifySecret(token+"a", hash) || VerifySecret("", hash) || VerifySecret(token, "") {
		t.Error("VerifySecret")
	}
	// The hash is written down here, so that it cannot change under the tokens and keys that clusters keep.
	if got := HashSecret("abc"); got != "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("got %s", got)
	}
}

func TestAPIKeys(t *testing.T) {
	k := NewAPIKey()
	back, err := ParseAPIKey(k.String())
	if err != nil || back != k {
		t.Fatalf("%v, %v", back, err)
	}
	if len(k.Secret)*5 < 256 {
		t.Error("short secret")
	}
	for _, bad := range []string{"", "lk_", "lk__", "sk_" + k.ID + "_" + k.Secret, "lk_" + k.ID, k.String() + "a", k.String()[1:], strings.ToUpper(k.String()), "lk_" + k.ID + "_" + k.Secret[1:] + "/", k.String() + "\n"} {
		if _, err := ParseAPIKey(bad); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", bad, err)
		} else if strings.Contains(err.Error(), k.Secret[1:]) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func TestAuthenticate(t *testing.T) {
	k := NewAPIKey()
	lookup := func(id string) (cluster.Key, bool) {
		if id != k.ID {
			return cluster.Key{}, false
		}
		return cluster.Key{ID: id, Hash: k.Hash(), Role: cluster.User}, true
	}
	p, err := Authenticate(k.String(), lookup)
	if err != nil || p != (Principal{Key: k.ID, Role: cluster.User}) {
		t.Errorf("%+v, %v", p, err)
	}
	wrong := APIKey{ID: k.ID, Secret: NewAPIKey().Secret}
	_, err1 := Authenticate(wrong.String(), lookup)
	_, err2 := Authenticate(NewAPIKey().String(), lookup)
	if !errors.Is(err1, ErrKey) || !errors.Is(err2, ErrKey) || err1.Error() != err2.Error() {
		t.Errorf("wrong secret: %v; unknown id: %v", err1, err2)
	}
	// An unknown key must not get in by the hash of nothing.
	if _, err := Authenticate("lk_"+k.ID+"_", lookup); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
	ctx := WithPrincipal(context.Background(), p)
	if got, ok := PrincipalFrom(ctx); !ok || got != p {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, ok := PrincipalFrom(context.Background()); ok {
		t.Error("a principal from nowhere")
	}
}

func TestJoinString(t *testing.T) {
	token, hash := NewToken()
	want := JoinString{Addr: "[::1]:7946", Token: token, Pin: hash}
	got, err := ParseJoinString(" " + want.String() + "\n")
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		"", "host:1", "host:1/" + token, "host/" + token + "@" + hash, ":1/" + token + "@" + hash, "host:0/" + token + "@" + hash,
		"host:99999/" + token + "@" + hash, "host:1/" + token[1:] + "@" + hash, "host:1/" + token + "@" + hash[1:],
		"host:1/" + token + "@" + strings.ToUpper(hash), "host:1/" + token + "@" + hash + "0", "host:1//" + token + "@" + hash,
		strings.Repeat("h", 600) + ":1/" + token + "@" + hash,
	} {
		if _, err := ParseJoinString(bad); !errors.Is(err, ErrJoinString) {
			t.Errorf("%q: %v", bad, err)
		} else if strings.Contains(err.Error(), token[1:]) {
			t.Errorf("the error shows the token: %v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	token, hash := NewToken()
	f.Add(JoinString{Addr: "h:1", Token: token, Pin: hash}.String())
	f.Add(NewAPIKey().String())
	f.Fuzz(func(t *testing.T, s string) {
		if j, err := ParseJoinString(s); err == nil && j.String() != strings.TrimSpace(s) {
			t.Errorf("%q became %q", s, j)
		}
		if k, err := ParseAPIKey(s); err == nil && k.String() != s {
			t.Errorf("%q became %q", s, k)
		}
	})
}
