package keys

import (
	"bytes"
	"encoding/base64"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/passhash"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
)

var write = flag.Bool("write-golden", false, "write the golden files again: only for a new version of the format")

// counting is a reader of 0, 1, 2, … for files that are always the same.
type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.n
		c.n++
	}
	return len(p), nil
}

// TestGolden: every file of the format, open and sealed, is fixed; docs/mixkeys.md describes them.
func TestGolden(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		disk, clock := vfs.NewCrashDisk(), clocktest.New(began)
		o := options(disk, clock)
		o.Rand = &counting{}
		if sealed {
			o.Passphrase = func(bool) ([]byte, error) { return []byte(phrase), nil }
			o.SealAll = true
		}
		k := create(t, o)
		rotate(t, k, began)
		if _, err := k.SaveDescriptor(describe(t, k, began)); err != nil {
			t.Fatal(err)
		}
		if err := k.MarkPublished("an-authority"); err != nil {
			t.Fatal(err)
		}
		if _, err := k.end(k.all()[0]); err != nil {
			t.Fatal(err)
		}
		o.Letters = true
		create(t, o)
		folder := "open"
		if sealed {
			folder = "sealed"
		}
		for _, name := range []string{identityName, linkName, logName, letterName, "key_0001/mix.key", "key_0001/ended", "key_0002/published"} {
			got, err := vfs.ReadFile(disk, dir+"/"+name)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", folder, strings.ReplaceAll(name, "/", "-"))
			if *write {
				if err := errsJoin(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, got, 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: the format has changed: %v\n%s", path, err, got)
			}
		}
	}
}

func errsJoin(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestGoldenReads: files as they were written by the first version are read.
func TestGoldenReads(t *testing.T) {
	for _, folder := range []string{"open", "sealed"} {
		disk := vfs.NewCrashDisk()
		for _, name := range []string{identityName, linkName, logName, letterName, "key_0001/mix.key"} {
			b, err := os.ReadFile(filepath.Join("testdata", folder, strings.ReplaceAll(name, "/", "-")))
			if err != nil {
				t.Fatal(err)
			}
			path := dir + "/" + name
			if err := errsJoin(vfs.MkdirAll(disk, filepath.Dir(path), 0o700), vfs.WriteFileAtomic(disk, path, b, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		o := options(disk, clocktest.New(began))
		o.Passphrase = func(bool) ([]byte, error) { return []byte(phrase), nil }
		o.Letters = true
		k, err := Open(o)
		if err != nil {
			t.Fatalf("%s: %v", folder, err)
		}
		if len(k.Letter()) != letterSeedLen {
			t.Errorf("%s: no letter key", folder)
		}
		if l := k.List(); len(l) != 1 || l[0].State != Current {
			t.Errorf("%s: %+v", folder, l)
		}
	}
}

// TestPassphrase: the identity opens under its passphrase and no other; without one there is a
// clear error; a new one must be long enough and is asked for as a new one.
func TestPassphrase(t *testing.T) {
	disk, clock := vfs.NewCrashDisk(), clocktest.New(began)
	asked := []bool{}
	with := func(s string) Options {
		o := options(disk, clock)
		o.Passphrase = func(fresh bool) ([]byte, error) {
			asked = append(asked, fresh)
			return []byte(s), nil
		}
		return o
	}
	if _, err := Create(with("12345678901")); errs.KindOf(err) != errs.Denied || errs.Public(err) != "a passphrase has at least 12 characters" {
		t.Errorf("a short passphrase: %v", err)
	}
	k := create(t, with(phrase))
	again := create(t, with(phrase))
	if again.Identity().Public().ID() != k.Identity().Public().ID() {
		t.Error("another identity")
	}
	if len(asked) != 3 || !asked[1] || asked[2] {
		t.Errorf("fresh: %v", asked)
	}
	for _, c := range []struct {
		o    Options
		text string
	}{
		{with("another passphrase"), "the passphrase does not open identity.key"},
		{options(disk, clock), "identity.key is sealed by a passphrase, and the configuration does not say so"},
	} {
		if _, err := Open(c.o); errs.KindOf(err) != errs.Auth || errs.Public(err) != c.text {
			t.Errorf("%v", err)
		}
	}
	broken := with("")
	broken.Passphrase = func(bool) ([]byte, error) { return nil, errs.E("test", errs.Canceled, "nobody is there", nil) }
	if _, err := Open(broken); errs.KindOf(err) != errs.Canceled {
		t.Errorf("nobody answers: %v", err)
	}
}

// TestSealLater: an identity that lay open is sealed when the option comes, and so are the other
// files; the open bytes are overwritten. Everything is the same node as before. No secret is
// in any file then.
func TestSealLater(t *testing.T) {
	disk, clock := vfs.NewCrashDisk(), clocktest.New(began)
	o := options(disk, clock)
	o.Letters = true
	k := create(t, o)
	rotate(t, k, began)
	mix, err := k.all()[0].key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{k.Identity().Seed(), k.Link().Seed(), k.LogSecret(), mix, k.Letter()}
	names := []string{"identity.key", "link.key", "log.secret", "letter.key", "key_0001/mix.key", "key_0002/mix.key"}
	for i, n := range names {
		if err := disk.Link(dir+"/"+n, "/spy"+string(rune('0'+i))); err != nil {
			t.Fatal(err)
		}
	}
	o.Passphrase = func(bool) ([]byte, error) { return []byte(phrase), nil }
	o.SealAll = true
	again := create(t, o)
	if again.Identity().Public().ID() != k.Identity().Public().ID() || !again.Link().Equal(k.Link()) ||
		!bytes.Equal(again.LogSecret(), k.LogSecret()) || !bytes.Equal(again.Letter(), k.Letter()) || len(again.Public(began)) != 2 {
		t.Error("another node")
	}
	for i, n := range names {
		b, err := vfs.ReadFile(disk, "/spy"+string(rune('0'+i)))
		if err != nil || len(bytes.Trim(b, "\x00")) > 0 {
			t.Errorf("the open %s was not overwritten: %v", n, err)
		}
		b, err = vfs.ReadFile(disk, dir+"/"+n)
		if err != nil || !bytes.Contains(b, []byte("\nsealed ")) {
			t.Errorf("%s is not sealed: %v", n, err)
		}
		for _, s := range secrets {
			if text := base64.RawStdEncoding.EncodeToString(s[:24]); bytes.Contains(b, s[:16]) || bytes.Contains(b, []byte(text)) {
				t.Errorf("%s shows a secret", n)
			}
		}
		if ok, _ := vfs.Exists(disk, dir+"/"+n+".old"); ok {
			t.Errorf("%s.old is left", n)
		}
	}
	// Sealed files open also when the option is gone.
	o.SealAll = false
	if last, err := Open(o); err != nil || !last.Link().Equal(k.Link()) || len(last.Public(began)) != 2 {
		t.Errorf("without SealAll: %v", err)
	}
}

// TestDamage: a bit that is flipped in a private file is told, never taken for another key; in
// a packet key it costs that key alone, which is made again.
func TestDamage(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		disk, clock := vfs.NewCrashDisk(), clocktest.New(began)
		o := options(disk, clock)
		o.Letters = true
		if sealed {
			o.Passphrase = func(bool) ([]byte, error) { return []byte(phrase), nil }
			o.SealAll = true
		}
		k := create(t, o)
		rotate(t, k, began)
		for _, name := range []string{identityName, linkName, logName, letterName, "key_0001/mix.key"} {
			path := dir + "/" + name
			good, err := vfs.ReadFile(disk, path)
			if err != nil {
				t.Fatal(err)
			}
			for at := range good {
				if racetest.Enabled && at%5 != 0 {
					continue
				}
				bad := bytes.Clone(good)
				bad[at] ^= 1
				if err := vfs.WriteFileAtomic(disk, path, bad, 0o600); err != nil {
					t.Fatal(err)
				}
				got, err := Open(o)
				if name == "key_0001/mix.key" {
					if err != nil && errs.KindOf(err) != errs.Unsupported {
						t.Fatalf("%s, byte %d: %v", name, at, err)
					}
					if err == nil && (len(got.Public(began)) != 1 || got.List()[0].State != Damaged) {
						t.Fatalf("%s, byte %d: %+v", name, at, got.List())
					}
					continue
				}
				switch errs.KindOf(err) {
				case errs.Corrupt, errs.Auth, errs.Unsupported:
				default:
					t.Fatalf("%s, byte %d: %v", name, at, err)
				}
				if errs.KindOf(err) == errs.Corrupt && !strings.HasPrefix(errs.Public(err), name+" is damaged") {
					t.Errorf("%s: %q", name, errs.Public(err))
				}
			}
			if err := vfs.WriteFileAtomic(disk, path, good, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := vfs.WriteFileAtomic(disk, dir+"/key_0001/mix.key", []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
		k = create(t, o)
		rotate(t, k, began)
		if pub := k.Public(began); len(pub) != 2 || !pub[0].From.Equal(began.Truncate(24*time.Hour)) {
			t.Errorf("the damaged key was not made again: %+v", k.List())
		}
	}
}

// TestMissing: Open makes no node; a lost identity is no new one.
func TestMissing(t *testing.T) {
	disk, clock := vfs.NewCrashDisk(), clocktest.New(began)
	if _, err := Open(options(disk, clock)); errs.KindOf(err) != errs.NotFound || !strings.HasPrefix(errs.Public(err), "identity.key is missing") {
		t.Errorf("an empty disk: %v", err)
	}
	create(t, options(disk, clock))
	if err := disk.Remove(dir + "/log.secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(options(disk, clock)); errs.KindOf(err) != errs.NotFound || !strings.HasPrefix(errs.Public(err), "log.secret is missing") {
		t.Errorf("without log.secret: %v", err)
	}
	for _, later := range []string{"postern-key 2\n", "postern-key 2\nanything"} {
		if err := vfs.WriteFileAtomic(disk, dir+"/identity.key", []byte(later), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(options(disk, clock)); errs.KindOf(err) != errs.Unsupported {
			t.Errorf("a later version: %v", err)
		}
	}
}

// TestLetterKey: a node that gets letters has a key for them, the same in each run, and others
// have none; one that is older than letter keys gets its own at its next start.
func TestLetterKey(t *testing.T) {
	disk := vfs.NewCrashDisk()
	o := options(disk, clocktest.New(began))
	if k := create(t, o); k.Letter() != nil {
		t.Error("a mix has a letter key")
	}
	o.Letters = true
	if k, err := Open(o); err != nil || k.Letter() != nil {
		t.Errorf("before the next start: %v", err)
	}
	k := create(t, o)
	again, err := Open(o)
	if err != nil || len(k.Letter()) != letterSeedLen || !bytes.Equal(again.Letter(), k.Letter()) {
		t.Errorf("%v, or another key", err)
	}
	other := options(vfs.NewCrashDisk(), clocktest.New(began))
	other.Letters = true
	if bytes.Equal(create(t, other).Letter(), k.Letter()) {
		t.Error("two nodes have the same letter key")
	}
}

// TestParanoia: on the machine's own disk private files are made for their owner alone, and are
// refused when others may read them, unless paranoia is off.
func TestParanoia(t *testing.T) {
	home := filepath.Join(t.TempDir(), "keys")
	clock := clocktest.New(began)
	o := Options{FS: vfs.OS(), Dir: home, Now: clock.Now, Paranoia: true, Letters: true}
	k := create(t, o)
	rotate(t, k, began)
	private := []string{identityName, linkName, logName, letterName, "key_0001/mix.key"}
	for _, name := range private {
		path := filepath.Join(home, name)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s: %v, %v", name, info.Mode(), err)
		}
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		_, err = Open(o)
		if errs.KindOf(err) != errs.Denied || !strings.HasSuffix(errs.Public(err), "has mode 0640, so others may read it; type: chmod 600 on it") || strings.Contains(errs.Public(err), home) {
			t.Errorf("%s: %v", name, err)
		}
		calm := o
		calm.Paranoia = false
		if _, err := Open(calm); err != nil {
			t.Errorf("%s, without paranoia: %v", name, err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{home, filepath.Join(home, "key_0001")} {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", d, info.Mode(), err)
		}
	}
	if err := os.Chmod(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); errs.KindOf(err) != errs.Denied || errs.Public(err) != "the directory of the mix keys has mode 0755, so others may enter it; type: chmod 700 on it" {
		t.Errorf("an open directory: %v", err)
	}
}

// TestOptions: times that do not fit together are refused with a text that says why.
func TestOptions(t *testing.T) {
	clock := clocktest.New(began)
	day := 24 * time.Hour
	for _, c := range []struct {
		o    Options
		text string
	}{
		{Options{Lifetime: 34 * day}, "packet keys live from one begin to the next at least, and 33 days at most"},
		{Options{Lifetime: day, Every: 2 * day}, "packet keys live from one begin to the next at least, and 33 days at most"},
		{Options{Lifetime: 3*day + 1}, "times of packet keys are whole seconds"},
		{Options{Every: time.Millisecond}, "times of packet keys are whole seconds"},
		{Options{Overlap: -1}, "times of packet keys are not negative"},
		{Options{Every: time.Hour}, "a descriptor has room for 8 packet keys: let new ones begin less often"},
		{Options{Lifetime: 8 * time.Second, Ahead: time.Second, Every: 2 * time.Second}, "too many packet keys would live at once: let new ones begin less often"},
		{Options{Cost: passhash.Cost{Time: 1, Memory: 1 << 30, Threads: 1}}, "the cost of a passphrase is out of bounds"},
	} {
		c.o.FS, c.o.Dir, c.o.Now = vfs.NewCrashDisk(), dir, clock.Now
		if _, err := Create(c.o); errs.KindOf(err) != errs.Invalid || errs.Public(err) != c.text {
			t.Errorf("%q, want %q", err, c.text)
		}
	}
	if _, err := Create(Options{}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("no options: %v", err)
	}
	// A network whose hours are seconds, for tests.
	fast := Options{FS: vfs.NewCrashDisk(), Dir: dir, Now: clock.Now, Lifetime: 30 * time.Second, Overlap: 10 * time.Second, Ahead: 10 * time.Second, Skew: time.Second}
	k := create(t, fast)
	rotate(t, k, began)
	if n := len(k.Public(began)); n != 2 {
		t.Errorf("%d keys", n)
	}
	for _, c := range []struct {
		life, overlap time.Duration
		text          string
	}{
		{day, 6 * time.Hour, ""}, {30 * day, 72 * time.Hour, ""},
		{day - 1, 6 * time.Hour, "packet keys live from 1 to 30 days"}, {30*day + 1, 6 * time.Hour, "packet keys live from 1 to 30 days"},
		{day, 6*time.Hour - 1, "packet keys overlap by 6 to 72 hours"}, {day, 72*time.Hour + 1, "packet keys overlap by 6 to 72 hours"},
	} {
		err := CheckTimes(c.life, c.overlap)
		if c.text == "" && err != nil || c.text != "" && errs.Public(err) != c.text {
			t.Errorf("%v, %v: %v", c.life, c.overlap, err)
		}
	}
}

// FuzzFile: what parses is of the form that is written, and opens or is refused.
func FuzzFile(f *testing.F) {
	for _, folder := range []string{"open", "sealed"} {
		for _, name := range []string{"identity.key", "link.key", "log.secret", "letter.key", "key_0001-mix.key", "key_0001-ended"} {
			b, err := os.ReadFile(filepath.Join("testdata", folder, name))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Add([]byte("postern-key 2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, want := range []kind{kindIdentity, kindLink, kindLog, kindLetter, kindMix, kindEnded} {
			p, err := parseFile(b, want)
			if err != nil {
				continue
			}
			if p.kind != want || p.secret != nil && len(p.secret) != want.secretLen() {
				t.Errorf("%+v", p)
			}
			if p.under == "" && string(p.encode()) != string(b) {
				t.Errorf("%q became %q", b, p.encode())
			}
			if p.under == "passphrase" && !p.cost.Valid() {
				t.Errorf("cost %v", p.cost)
			}
			if p.under != "" && p.open(make([]byte, 32)) == nil {
				t.Error("opens under a key of zeros")
			}
		}
	})
}

// BenchmarkFind is what a packet pays for its key.
func BenchmarkFind(b *testing.B) {
	clock := clocktest.New(began)
	k := create(b, options(vfs.NewCrashDisk(), clock))
	for range 5 {
		rotate(b, k, clock.Now())
		clock.Add(24 * time.Hour)
	}
	id := k.Public(clock.Now())[0].Key.ID()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, ok := k.Find(id); !ok {
				b.Error("not found")
			}
		}
	})
}
