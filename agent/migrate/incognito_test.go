package migrate

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/agent/migrate/migratetest"
	"postern.email/kit/errs"
	"postern.email/mail/aliasname"
)

// The fixture is made again by: go test ./agent/migrate -run TestFixture -make
var makeFixture = flag.Bool("make", false, "write testdata/incognito.db anew")

const fixture = "testdata/incognito.db"

var (
	alice = strings.Repeat("aL1ce", 13)[:aliasname.TokenLen]
	bob   = strings.Repeat("b0B", 22)[:aliasname.TokenLen]
	gone  = strings.Repeat("g0ne", 16)
)

// write makes a database with everything that IncognitoMail leaves in one.
func write(path string) error {
	d, err := migratetest.NewIncognitoMail(path)
	if err != nil {
		return err
	}
	at := func(n int) time.Time { return time.Date(2016, 5, n, 8, 30, 0, 5, time.FixedZone("", 7200)) }
	when, _ := at(9).GobEncode()
	return errors.Join(
		d.Account(bob, "bob@mailbox.example", at(2)),
		d.Account(alice, "Alice@mailbox.example", at(1)),
		d.Account(gone, "gone@mailbox.example", at(3)),
		d.Handle(alice, "q7Kd0sPzLmA93xYtRe", at(4)),
		d.Handle(alice, "zzzzzzzzzzzzzzzzzz", at(5)),
		d.Handle(bob, "bBbBbBbBbBbBbBbBbB", at(6)),
		d.Handle(bob, "BbBbBbBbBbBbBbBbBb", at(7)),  // the same to Postfix, of one account
		d.Handle(bob, "Q7kd0spzlma93xytre", at(8)),  // the same as Alice's
		d.Handle(gone, "spentSpentSpent123", at(5)), // stays when the account goes
		d.DeleteAccount(gone),
		d.Put(bob, "timeIsGarbage12345", []byte("?")), // what a crash or another program leaves
		d.Put(bob, "not/a\\handle", when),
		d.Put("targets", "short", []byte("short@mailbox.example")),
		d.Put("short", "handleOfShort12345", when),
		d.Put("targets", strings.Repeat("n", 64), []byte("no address")),
		d.Put(strings.Repeat("n", 64), "handleOfNobody1234", when),
		d.Put("handles", "handleOfNobody1234", when),
		d.Put("targets", strings.Repeat("l", 64), []byte("lost@mailbox.example")),
		d.Put(strings.Repeat("t", 64), "handleWithoutTgt12", when),
		d.Close())
}

var wantAccounts = []string{
	"short@mailbox.example  0001-01-01T00:00:00Z: handleofshort12345 2016-05-09T06:30:00Z",
	"Alice@mailbox.example aL1ceaL1ceaL1ceaL1ceaL1ceaL1ceaL1ceaL1ceaL1ceaL1ceaL1ceaL1ceaL1c 2016-05-01T06:30:00Z: q7kd0spzlma93xytre 2016-05-04T06:30:00Z, zzzzzzzzzzzzzzzzzz 2016-05-05T06:30:00Z",
	"bob@mailbox.example b0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb0Bb 2016-05-02T06:30:00Z: bbbbbbbbbbbbbbbbbb 2016-05-06T06:30:00Z, timeisgarbage12345 0001-01-01T00:00:00Z",
}

var wantProblems = []string{
	"an account has an address that is none; it was left out, and its handles are not given out again",
	"an account has no address; it was left out",
	"an account has no list of handles; it was left out",
	"bbbbbbbbbbbbbbbbbb: bBbBbBbBbBbBbBbBbB and BbBbBbBbBbBbBbBbBb were two handles of one account and are one address to Postfix",
	"not/a\\handle: this handle has characters that no alias has; it was left out",
	"q7kd0spzlma93xytre: q7Kd0sPzLmA93xYtRe and Q7kd0spzlma93xytre are one address to Postfix; it stays with the account that had it first, and the other one has lost it",
	"short@mailbox.example: its account has a secret of another form; it needs a new one",
}

func check(t *testing.T, path string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d, problems, err := ReadIncognito(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range d.Accounts {
		var handles []string
		for _, h := range a.Handles {
			handles = append(handles, h.Name+" "+h.Created.Format(time.RFC3339))
		}
		got = append(got, fmt.Sprintf("%s %s %s: %s", a.Target, a.Secret, a.Created.Format(time.RFC3339), strings.Join(handles, ", ")))
	}
	if !slices.Equal(got, wantAccounts) {
		t.Errorf("%q", got)
	}
	if want := []string{"handleofnobody1234", "handlewithouttgt12", "spentspentspent123"}; !slices.Equal(d.Spent, want) {
		t.Errorf("%q", d.Spent)
	}
	if len(d.Lost) != 1 || d.Lost[0].Name != "q7kd0spzlma93xytre" || d.Lost[0].Target.String() != "bob@mailbox.example" {
		t.Errorf("%v", d.Lost)
	}
	all := said(problems)
	slices.Sort(all)
	if !slices.Equal(all, wantProblems) {
		t.Errorf("%q", all)
	}
	if s := fmt.Sprintf("%v %+v %#v", d.Accounts[1], d.Accounts, d.Accounts[1]); strings.Contains(s, alice) {
		t.Error("a secret is printed")
	}
	if after, err := os.ReadFile(path); err != nil || sha256.Sum256(after) != sha256.Sum256(before) {
		t.Errorf("the database was changed: %v", err)
	}
}

// TestFixture: the committed database, and the same made now, are read the same.
func TestFixture(t *testing.T) {
	if *makeFixture {
		os.Remove(fixture)
		if err := write(fixture); err != nil {
			t.Fatal(err)
		}
	}
	fresh := filepath.Join(t.TempDir(), "incognito.db")
	if err := write(fresh); err != nil {
		t.Fatal(err)
	}
	t.Run("committed", func(t *testing.T) { check(t, fixture) })
	t.Run("made now", func(t *testing.T) { check(t, fresh) })
}

func TestIncognitoFaults(t *testing.T) {
	dir := t.TempDir()
	whole, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bare := filepath.Join(dir, "bare.db")
	if d, err := migratetest.NewIncognitoMail(bare); err != nil || d.Close() != nil {
		t.Fatal(err)
	}
	if d, problems, err := ReadIncognito(bare); err != nil || len(d.Accounts)+len(d.Spent)+len(problems) > 0 {
		t.Errorf("without accounts: %v", err)
	}
	for path, kind := range map[string]errs.Kind{
		filepath.Join(dir, "none.db"):             errs.NotFound,
		file("empty.db", nil):                     errs.Corrupt,
		file("text.db", []byte("not a database")): errs.Corrupt,
		file("half.db", whole[:len(whole)/2]):     errs.Corrupt,
		dir:                                       errs.Corrupt,
	} {
		if d, _, err := ReadIncognito(path); errs.KindOf(err) != kind || d != nil || !strings.Contains(errs.Public(err), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	// IM-64: a server that still runs is told of, at once, and not waited for.
	held, err := migratetest.NewIncognitoMail(bare)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, _, err := ReadIncognito(bare); errs.KindOf(err) != errs.Exists || !strings.Contains(errs.Public(err), "stop the old incognitomail first") {
		t.Error(err)
	}
}

// FuzzIncognito: a database with any bytes changed is read or refused, and never brings the program down.
func FuzzIncognito(f *testing.F) {
	whole, err := os.ReadFile(fixture)
	if err != nil {
		f.Fatal(err)
	}
	for _, at := range []int{0, 16, 24, 80, 4096 + 16, 8192, 8208, 12288 + 8, len(whole) - 100} {
		f.Add(at, []byte{0xff, 0xff, 0xff, 0xff}, len(whole))
	}
	f.Add(0, []byte{}, 12288)
	f.Add(0, []byte{}, len(whole)-4096)
	path := filepath.Join(f.TempDir(), "x.db")
	f.Fuzz(func(t *testing.T, at int, change []byte, length int) {
		b := slices.Clone(whole)
		if at < 0 || at >= len(b) || length < 0 || length > len(b) {
			return
		}
		copy(b[at:], change)
		if err := os.WriteFile(path, b[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ReadIncognito(path); err != nil && errs.KindOf(err) != errs.Corrupt {
			t.Fatal(err)
		}
	})
}
