package openpgp

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/tooltest"
)

func TestPassphrase(t *testing.T) {
	text := []byte(strings.Repeat("an alias a line\n", 5000))
	sealed, err := SealPassphrase(nil, text, []byte("a long passphrase"))
	if err != nil || !IsArmored(sealed) || bytes.Contains(sealed, []byte("alias")) {
		t.Fatal(err)
	}
	got, err := OpenPassphrase(sealed, []byte("a long passphrase"), len(text))
	if err != nil || !bytes.Equal(got, text) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if _, err := OpenPassphrase(sealed, []byte("another one"), len(text)); errs.KindOf(err) != errs.Auth && errs.KindOf(err) != errs.Invalid || errs.Public(err) == "" {
		t.Errorf("another passphrase: %v", err)
	}
	if _, err := OpenPassphrase(sealed, []byte("a long passphrase"), len(text)-1); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("too large: %v", err)
	}
	if _, err := OpenPassphrase(sealed[:len(sealed)/2], []byte("a long passphrase"), len(text)); errs.KindOf(err) != errs.Invalid {
		t.Errorf("half of it: %v", err)
	}
	if _, err := SealPassphrase(nil, text, nil); errs.KindOf(err) != errs.Invalid {
		t.Errorf("an empty passphrase: %v", err)
	}
	if _, err := OpenPassphrase([]byte("address,site\n"), []byte("x"), 10); errs.KindOf(err) != errs.Invalid || IsArmored([]byte("address,site\n")) {
		t.Errorf("no message: %v", err)
	}
}

// TestPassphraseGPG: GnuPG opens what is sealed here.
func TestPassphraseGPG(t *testing.T) {
	gpg := tooltest.Tool(t, "gpg")
	sealed, err := SealPassphrase(nil, []byte("all aliases\n"), []byte("pass"))
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	c := exec.Command(gpg, "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "pass", "--decrypt")
	c.Stdin = bytes.NewReader(sealed)
	if out, err := c.Output(); err != nil || string(out) != "all aliases\n" {
		t.Errorf("%q, %v", out, err)
	}
	exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
}

// FuzzPassphrase: whatever is given, it is an error or bounded.
func FuzzPassphrase(f *testing.F) {
	sealed, err := SealPassphrase(nil, []byte("text"), []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte("-----BEGIN PGP MESSAGE-----\n\n=aaaa\n-----END PGP MESSAGE-----"))
	f.Fuzz(func(t *testing.T, message []byte) {
		if text, err := OpenPassphrase(message, []byte("x"), 1000); err == nil && len(text) > 1000 {
			t.Fatal("unbounded")
		}
	})
}
