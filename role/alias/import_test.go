package alias

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/agent/aliases"
	"postern.email/agent/migrate/migratetest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

var (
	oldAnna = strings.Repeat("aNNa", 16)
	oldBen  = strings.Repeat("b3n0", 16)
	oldGone = strings.Repeat("g0n3", 16)
)

// oldDatabase makes an IncognitoMail database where the configuration says.
func (p *place) oldDatabase(t testing.TB, handles int) string {
	t.Helper()
	path := filepath.Join(p.dir, "old.db")
	d, err := migratetest.NewIncognitoMail(path)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2016, 5, 1, 8, 0, 0, 0, time.UTC)
	err = errors.Join(d.Account(oldAnna, "anna@mailbox.example", at), d.Account(oldBen, "ben@mailbox.example", at.Add(time.Hour)), d.Account(oldGone, "gone@mailbox.example", at.Add(2*time.Hour)),
		d.Handle(oldAnna, "MiXedCaseHandle123", at), d.Handle(oldBen, "mixedcasehandle123", at.Add(time.Hour)), d.Handle(oldBen, "bEnsOwnHandle12345", at.Add(time.Hour)),
		d.Handle(oldGone, "goneGoneGone123456", at), d.DeleteAccount(oldGone))
	for i := range handles {
		err = errors.Join(err, d.Handle(oldAnna, "many"+strings.Repeat("x", 10)+string(rune('a'+i/26))+string(rune('A'+i%26))+"zz", at))
	}
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestImport: IM-30: accounts and handles of IncognitoMail are taken over at the first start, once; the secrets go on
// working, and its lines in the map become ours; the file stays as it is.
func TestImport(t *testing.T) {
	p := newPlace(t, "[Postern]\nCustomHandles=yes\n")
	path := p.oldDatabase(t, 0)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// As IncognitoMail left the map, with a line that a crash kept out of it, and one of somebody else.
	if err := os.WriteFile(filepath.Join(p.dir, "map"), []byte("# mine\noffice@alias.example x@mailbox.example\nMiXedCaseHandle123@alias.example anna@mailbox.example\nmixedcasehandle123@alias.example ben@mailbox.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := p.start(t)
	if got := p.list(t, oldAnna); !slices.Equal(got, []string{"mixedcasehandle123@alias.example"}) {
		t.Errorf("%q", got)
	}
	if got := p.list(t, oldBen); !slices.Equal(got, []string{"bensownhandle12345@alias.example"}) {
		t.Errorf("%q", got)
	}
	for a, want := range map[string]string{"mixedcasehandle123@alias.example": "anna@mailbox.example", "bEnsOwnHandle12345@alias.example": "ben@mailbox.example", "office@alias.example": "x@mailbox.example"} {
		if got := p.lookUp(t, a); got != want {
			t.Errorf("%s goes to %q, want %q", a, got, want)
		}
	}
	fresh := p.handle(t, oldAnna)
	if p.lookUp(t, fresh) != "anna@mailbox.example" {
		t.Error("a new handle with the old secret")
	}
	// What was given out and is nobody's is not given out again.
	for _, name := range []string{"gonegonegone123456", "mixedcasehandle123"} {
		if err := p.ask(t, "alias.new", aliases.Args{Token: oldBen, Create: &aliases.CreateRequest{Custom: name}}, nil); err == nil {
			t.Errorf("%s is given out again", name)
		}
	}
	if err := p.ask(t, "alias.list", aliases.Args{Token: oldGone}, nil); errs.KindOf(err) != errs.Auth {
		t.Error(err)
	}
	report, err := os.ReadFile(filepath.Join(p.dir, "old.db.postern", importFile))
	if err != nil || !strings.Contains(string(report), "2 accounts, 2 handles. 1 handles of deleted accounts") || !strings.Contains(string(report), "it stays with the account that had it first") || strings.Contains(string(report), oldAnna) {
		t.Errorf("%s, %v", report, err)
	}
	for _, private := range []string{"mixedcase", "anna@", oldAnna} {
		if strings.Contains(p.log.String(), private) {
			t.Errorf("the log says %q", private)
		}
	}
	// Deleted, and the server started again: it does not come back.
	p.must(t, "alias.delete", aliases.Args{Token: oldBen, Address: "bensownhandle12345"}, nil)
	stop(t, s)
	p.start(t)
	if got := p.list(t, oldBen); len(got) > 0 {
		t.Errorf("imported again: %q", got)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the database was changed: %v", err)
	}
}

// TestImportOfADamagedDatabase: it stops the start, with nothing half taken over.
func TestImportOfADamagedDatabase(t *testing.T) {
	p := newPlace(t, "")
	if err := os.WriteFile(filepath.Join(p.dir, "old.db"), []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), p.deps, p.config(t)); errs.KindOf(err) != errs.Corrupt || !strings.Contains(errs.Public(err), "is no database of IncognitoMail") {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "old.db.postern", importFile)); !os.IsNotExist(err) {
		t.Errorf("it is noted as taken over: %v", err)
	}
}

// TestImportIsCut: a server that dies while it takes a database over goes on at the next start, and everything is there
// once.
func TestImportIsCut(t *testing.T) {
	p := newPlace(t, "")
	p.oldDatabase(t, 40)
	whole := 0
	for _, n := range []int64{5, 15, 20, 25, 30, 40} {
		disk := vfs.NewCrashDisk()
		cut := vfs.CutAt(disk, n, true, vfs.Dropped, uint64(n), nil)
		first := p.deps
		first.FS = cut.FS
		s, err := Start(t.Context(), first, p.config(t))
		if err != nil {
			t.Fatal(err)
		}
		stop(t, s)
		left := cut.Disk()
		if left == nil {
			whole++
			continue // it needed fewer syncs
		}
		second := p.deps
		second.FS = left
		if s, err = Start(t.Context(), second, p.config(t)); err != nil {
			t.Fatalf("cut %d: %v", n, err)
		}
		if a, b := p.list(t, oldAnna), p.list(t, oldBen); len(a) != 41 || len(b) != 1 {
			t.Errorf("cut %d: %d and %d handles", n, len(a), len(b))
		}
		if ok, err := vfs.Exists(left, p.config(t).Postern.StateDir+"/"+importFile); !ok || err != nil {
			t.Errorf("cut %d: %v", n, err)
		}
		stop(t, s)
	}
	if whole > 3 {
		t.Errorf("%d cuts were behind the end", whole)
	}
}
