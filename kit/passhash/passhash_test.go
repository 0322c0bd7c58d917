package passhash

import (
	"encoding/hex"
	"testing"

	"postern.email/kit/errs"
)

func TestBounds(t *testing.T) {
	if got := Password().String(); got != "argon2id t=2 m=19456 p=1" {
		t.Errorf("default %q", got)
	}
	if c := Passphrase(); c.Memory != 64<<10 || !c.Valid() {
		t.Errorf("for passphrases %v", c)
	}
	for _, bad := range []string{"", "argon2id t=0 m=19456 p=1", "argon2id t=2 m=99999999 p=1", "argon2id t=17 m=64 p=1",
		"argon2id t=2 m=19456 p=5", "argon2id t=02 m=19456 p=1", "argon2id t=2 m=19456 p=1 ", "argon2i t=2 m=19456 p=1", "argon2id t=1 m=7 p=1"} {
		if _, err := Parse(bad); errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestKey: the hash is Argon2id with the salt and the cost in their places.
func TestKey(t *testing.T) {
	c := Cost{Time: 1, Memory: 8, Threads: 1}
	one := hex.EncodeToString(c.Key([]byte("password"), make([]byte, SaltLen)))
	for _, other := range []string{hex.EncodeToString(c.Key([]byte("passwore"), make([]byte, SaltLen))),
		hex.EncodeToString(c.Key([]byte("password"), append(make([]byte, SaltLen-1), 1))),
		hex.EncodeToString(Cost{Time: 2, Memory: 8, Threads: 1}.Key([]byte("password"), make([]byte, SaltLen))),
		hex.EncodeToString(Cost{Time: 1, Memory: 16, Threads: 1}.Key([]byte("password"), make([]byte, SaltLen)))} {
		if other == one || len(other) != 2*KeyLen {
			t.Errorf("%s and %s", one, other)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Password().String())
	f.Add("argon2id t=1 m=8 p=1")
	f.Add("argon2id t=+1 m=8 p=1")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err == nil && (!c.Valid() || c.String() != s) {
			t.Errorf("%q gives %v", s, c)
		}
	})
}
