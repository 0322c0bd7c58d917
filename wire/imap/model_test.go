package imap

import (
	"strings"
	"testing"

	"postern.email/wire/imap/imaptest"
)

func modelRun(t *testing.T, seed uint64, filter func(int, string) string) error {
	b := newFake()
	return imaptest.RunModel(imaptest.ModelOptions{
		Addr: startServer(t, Options{Backend: b, Private: true}), Login: "bobbobbob@example.org secret-word",
		Sessions: 3, Steps: 400, Seed: seed, Filter: filter,
		Deliver: func() { b.deliver("INBOX", "Subject: x\r\n\r\nbody\r\n") },
	})
}

// TestModel: random commands of three sessions, one with CONDSTORE and one with
// QRESYNC, agree with a model written from the RFCs.
func TestModel(t *testing.T) {
	for seed := range uint64(30) {
		if err := modelRun(t, seed, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestModelFindsFaults: the model sees each of these faults, put into what the
// server says.
func TestModelFindsFaults(t *testing.T) {
	after := func(n int, bad func(string) (string, bool)) func(int, string) string {
		return func(_ int, l string) string {
			if out, hit := bad(l); hit {
				if n--; n == 0 {
					return out
				}
			}
			return l
		}
	}
	replace := func(word, old, new string) func(string) (string, bool) {
		return func(l string) (string, bool) {
			return strings.Replace(l, old, new, 1), strings.Contains(l, word) && strings.Contains(l, old)
		}
	}
	drop := func(word string) func(string) (string, bool) {
		return func(l string) (string, bool) { return "", strings.Contains(l, word) }
	}
	for name, fault := range map[string]func(string) (string, bool){
		"a dropped EXPUNGE":  drop(" EXPUNGE"),
		"a dropped EXISTS":   drop(" EXISTS"),
		"a dropped VANISHED": drop("* VANISHED"),
		"a dropped FETCH":    drop(" FETCH ("),
		"a wrong EXPUNGE": func(l string) (string, bool) {
			return strings.Replace(l, "* 2 EXPUNGE", "* 1 EXPUNGE", 1), strings.HasPrefix(l, "* 2 EXPUNGE")
		},
		"a MODSEQ off by one": func(l string) (string, bool) {
			m := strings.Index(l, "MODSEQ (")
			if m < 0 || strings.HasPrefix(l, "* OK") {
				return l, false
			}
			i := strings.IndexByte(l[m:], ')') + m
			return l[:i-1] + string('0'+(l[i-1]-'0'+9)%10) + l[i:], true
		},
		"a flag too many": replace(" FETCH ", `FLAGS (`, `FLAGS (\Draft `),
		"a lost flag":     replace(" FETCH ", `\Seen`, ``),
		"a wrong UID":     replace(" FETCH ", `UID 1`, `UID 2`),
		"a wrong SEARCH":  func(l string) (string, bool) { return l + " 1", l == "* SEARCH" },
		"a wrong COPYUID": replace("COPYUID", "]", "9]"),
	} {
		t.Run(name, func(t *testing.T) {
			found := 0
			for seed := range uint64(3) {
				if modelRun(t, seed, after(5, fault)) != nil {
					found++
				}
			}
			if found == 0 {
				t.Error("the model does not see it")
			}
		})
	}
}

// TestStress: many sessions at once.
func TestStress(t *testing.T) {
	b := newFake()
	err := imaptest.RunStress(imaptest.ModelOptions{
		Addr: startServer(t, Options{Backend: b, Private: true}), Login: "bobbobbob@example.org secret-word",
		Sessions: 6, Steps: 150, Seed: 1, Deliver: func() { b.deliver("INBOX", "Subject: x\r\n\r\nbody\r\n") },
	})
	if err != nil {
		t.Fatal(err)
	}
}
