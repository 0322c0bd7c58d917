package keybook

import (
	"slices"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

// TestRescan: files that came and went are noticed, bad ones are named and keep no other out.
func TestRescan(t *testing.T) {
	w := begin(t)
	w.put("Bob@Two.Example.pem", "key:1")
	w.put("README", "not a key")
	w.put("eve@two.example.pem", "nonsense")
	w.put("no address.pem", "key:1")
	w.put("%4.pem", "key:1")
	w.put("postmaster.pem", "key:1")
	w.put("large@two.example.pem", "key:"+strings.Repeat("x", MaxFile))
	w.put("two@two.example.pem", "-----BEGIN TEST KEY-----\na2V5OjE=\n-----END TEST KEY-----\n-----BEGIN TEST KEY-----\na2V5OjI=\n-----END TEST KEY-----\n")
	w.put("other@two.example.pem", "-----BEGIN TEST KEY-----\nAddress: bob@two.example\n\na2V5OjE=\n-----END TEST KEY-----\n")
	w.put("later@two.example.pem", "-----BEGIN TEST KEY-----\nState: new\n\na2V5OjE=\n-----END TEST KEY-----\n")
	w.put("date@two.example.pem", "-----BEGIN TEST KEY-----\nSince: today\n\na2V5OjE=\n-----END TEST KEY-----\n")
	w.put("serial@two.example.pem", "-----BEGIN TEST KEY-----\nCertified: today\n\na2V5OjE=\n-----END TEST KEY-----\n")
	w.put("held@two.example.pem", "-----BEGIN TEST KEY-----\nState: changed\n\na2V5OjE=\n-----END TEST KEY-----\n")
	w.put("config@two.example.pem", "-----BEGIN TEST KEY-----\nState: config\n\na2V5OjE=\n-----END TEST KEY-----\n")
	w.put("plain@two.example.pem", "-----BEGIN TEST KEY-----\na2V5OjE=\n-----END TEST KEY-----\n")
	w.put("bare@two.example.pem", "old:1")
	must(t, w.fs.MkdirAll(dir+"/dir@two.example.pem", 0o700))
	watch := w.Watch()
	r, err := w.Rescan()
	must(t, err)
	if r.Entries != 2 || r.Added != 2 || r.Removed != 0 {
		t.Errorf("%+v", r)
	}
	want := map[string]string{"%4.pem": "not named after an address", "no address.pem": "not named after an address", "postmaster.pem": "not named after an address",
		"eve@two.example.pem": "this is no key", "large@two.example.pem": "too large", "two@two.example.pem": "more than one key", "other@two.example.pem": "says another",
		"later@two.example.pem": "later version", "date@two.example.pem": "malformed date", "serial@two.example.pem": "malformed date", "held@two.example.pem": "too few", "config@two.example.pem": "stood in the configuration",
		"bare@two.example.pem": "AllowClassicalRecipients", "dir@two.example.pem": "no file"}
	for _, x := range r.Bad {
		if words := want[x.Name]; words == "" || !strings.Contains(errs.Public(x.Err), words) {
			t.Errorf("%s: %v, want %q", x.Name, x.Err, words)
		}
		delete(want, x.Name)
	}
	for name := range want {
		t.Errorf("%s is not reported", name)
	}
	if !slices.IsSortedFunc(r.Bad, func(a, b Bad) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not sorted")
	}
	select {
	case <-watch:
	default:
		t.Error("who watches is not told")
	}
	w.is(bob, File, "key:1")
	w.is("plain@two.example", File, "key:1")
	_, err = w.Get(to(t, eve))
	refused(t, err, errs.Corrupt, "cannot be read")
	// What cannot be read is not replaced by what somebody says, only by the user.
	_, err = w.Discovered(to(t, eve), Key{Text: "key:9"})
	refused(t, err, errs.Corrupt, "cannot be read")
	_, err = w.Verify(to(t, eve), "ab-9")
	refused(t, err, errs.Corrupt, "cannot be read")
	_, err = w.Set(to(t, eve), []byte("key:9"))
	must(t, err)
	w.is(eve, Set, "key:9")

	// The file that the book writes takes the place of the user's.
	_, err = w.Set(to(t, bob), []byte("key:3"))
	must(t, err)
	w.is(bob, Set, "key:3")
	if slices.Contains(w.files(), "Bob@Two.Example.pem") {
		t.Error(w.files())
	}
	must(t, w.fs.Remove(dir+"/bob@two.example.pem"))
	r, err = w.Rescan()
	must(t, err)
	if _, err := w.Get(to(t, bob)); errs.KindOf(err) != errs.NotFound || r.Removed != 1 {
		t.Errorf("%v, %+v", err, r)
	}
	watch = w.Watch()
	_, err = w.Rescan()
	must(t, err)
	select {
	case <-watch:
		t.Error("who watches is told of nothing")
	default:
	}
}

// TestTwoFiles: of two files for one recipient the book's own counts, and the other is reported.
func TestTwoFiles(t *testing.T) {
	w := begin(t)
	w.put("BOB@two.example.pem", "key:1")
	w.put("bob@two.example.pem", "key:2")
	w.put("Bob@two.example.pem", "nonsense")
	r, err := w.Rescan()
	must(t, err)
	w.is(bob, File, "key:2")
	if len(r.Bad) != 2 || r.Bad[0].Name != "BOB@two.example.pem" || !strings.Contains(errs.Public(r.Bad[0].Err), "another file") || r.Bad[1].Name != "Bob@two.example.pem" {
		t.Errorf("%+v", r.Bad)
	}
}
