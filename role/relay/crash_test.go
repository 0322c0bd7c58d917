package relay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/mailbox"
)

// world is what the outside must find: accounts with their passwords and folders.
type world map[string]*home

type home struct {
	password string
	folders  map[string]*folder
}

type folder struct {
	next  uint32
	mails map[uint32]storedMail
}

type storedMail struct {
	body  string // what follows the header
	flags mailbox.Flags
}

func newHome(password string) *home {
	h := &home{password: password, folders: map[string]*folder{}}
	for _, n := range []string{"INBOX", "Drafts", "Junk", "Trash", "Sent"} {
		h.folders[n] = &folder{next: 1, mails: map[uint32]storedMail{}}
	}
	return h
}

func (f *folder) add(l storedMail) uint32 {
	uid := f.next
	f.next++
	f.mails[uid] = l
	return uid
}

func (w world) clone() world {
	c := world{}
	for name, h := range w {
		n := &home{password: h.password, folders: map[string]*folder{}}
		for fn, f := range h.folders {
			n.folders[fn] = &folder{next: f.next, mails: maps.Clone(f.mails)}
		}
		c[name] = n
	}
	return c
}

// String lists everything in a fixed order, bodies by their length and an end.
func (w world) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(w)) {
		h := w[name]
		fmt.Fprintf(&b, "%s (%s)\n", name, h.password)
		for _, fn := range slices.Sorted(maps.Keys(h.folders)) {
			f := h.folders[fn]
			for _, uid := range slices.Sorted(maps.Keys(f.mails)) {
				l := f.mails[uid]
				fmt.Fprintf(&b, "  %s %d flags %05b, %d bytes %q\n", fn, uid, l.flags&mailbox.SystemFlags, len(l.body), l.body[max(0, len(l.body)-12):])
			}
			fmt.Fprintf(&b, "  %s ends\n", fn)
		}
	}
	return b.String()
}

// step is one thing that a client does and is told the success of.
type step struct {
	name string
	do   func() error // returns after the acknowledgement
	then func(world)  // what it does to the world
}

// session is the script of the crash test: every way in which a user changes
// something, over sockets where there is a protocol for it.
func session(t *testing.T, s *Server) []step {
	const anna, ben = "anna@example.org", "ben@example.org"
	var smtpA, imapB *client
	t.Cleanup(func() {
		for _, c := range []*client{smtpA, imapB} {
			if c != nil {
				c.Close()
			}
		}
	})
	inbox := func(w world, user string) *folder { return w[user].folders["INBOX"] }
	cmd := func(format string, args ...any) func() error {
		return func() error { _, err := imapB.imap(format, args...); return err }
	}
	small, _ := sealedMail(anna, 3000)
	both, _ := sealedMail(anna, 2000)
	large, _ := sealedMail(anna, 150_000)
	late, _ := sealedMail(anna, 1000)
	draft, _ := sealedMail(ben, 4000)
	bigDraft, _ := sealedMail(ben, 120_000)
	return []step{
		{"anna logs in for the first time", func() (err error) { smtpA, err = submitter(s, anna, "anna's password"); return err },
			func(w world) { w[anna] = newHome("anna's password") }},
		{"ben logs in for the first time", func() (err error) { imapB, err = reader(s, ben, "ben's password"); return err },
			func(w world) { w[ben] = newHome("ben's password") }},
		{"a mail", func() error { return smtpA.send(anna, []string{ben}, small) },
			func(w world) { inbox(w, ben).add(storedMail{body: body(small)}) }},
		{"a mail to two", func() error { return smtpA.send(anna, []string{ben, anna}, both) },
			func(w world) {
				inbox(w, ben).add(storedMail{body: body(both)})
				inbox(w, anna).add(storedMail{body: body(both)})
			}},
		{"a large mail to two", func() error { return smtpA.send(anna, []string{anna, ben}, large) },
			func(w world) {
				inbox(w, ben).add(storedMail{body: body(large)})
				inbox(w, anna).add(storedMail{body: body(large)})
			}},
		{"APPEND", func() error { return imapB.append("Drafts", `\Draft`, draft) },
			func(w world) { w[ben].folders["Drafts"].add(storedMail{body(draft), mailbox.Draft}) }},
		{"APPEND, large", func() error { return imapB.append("Sent", `\Seen`, bigDraft) },
			func(w world) { w[ben].folders["Sent"].add(storedMail{body(bigDraft), mailbox.Seen}) }},
		{"SELECT", cmd("SELECT INBOX"), func(world) {}},
		{"STORE", cmd(`UID STORE 1:2 +FLAGS (\Flagged)`), func(w world) {
			for _, uid := range []uint32{1, 2} {
				l := inbox(w, ben).mails[uid]
				l.flags |= mailbox.Flagged
				inbox(w, ben).mails[uid] = l
			}
		}},
		{"CREATE", cmd("CREATE Travel"), func(w world) { w[ben].folders["Travel"] = &folder{next: 1, mails: map[uint32]storedMail{}} }},
		{"COPY", cmd("UID COPY 1,3 Travel"), func(w world) {
			for _, uid := range []uint32{1, 3} {
				w[ben].folders["Travel"].add(inbox(w, ben).mails[uid])
			}
		}},
		{"MOVE", cmd("UID MOVE 2 Trash"), func(w world) {
			w[ben].folders["Trash"].add(inbox(w, ben).mails[2])
			delete(inbox(w, ben).mails, 2)
		}},
		{"STORE Deleted", cmd(`UID STORE 3 +FLAGS (\Deleted)`), func(w world) {
			l := inbox(w, ben).mails[3]
			l.flags |= mailbox.Deleted
			inbox(w, ben).mails[3] = l
		}},
		{"EXPUNGE", cmd("EXPUNGE"), func(w world) { delete(inbox(w, ben).mails, 3) }},
		{"RENAME", cmd("RENAME Travel Away"), func(w world) {
			w[ben].folders["Away"] = w[ben].folders["Travel"]
			delete(w[ben].folders, "Travel")
		}},
		{"passwd", func() error {
			return s.accounts.Passwd(context.WithoutCancel(t.Context()), mail.Address{Local: "anna", Domain: "example.org"}, "anna's password", "anna's second one")
		}, func(w world) { w[anna].password = "anna's second one" }},
		{"a mail after it", func() (err error) {
			smtpA.Close()
			if smtpA, err = submitter(s, anna, "anna's second one"); err != nil {
				return err
			}
			return smtpA.send(anna, []string{anna, ben}, late)
		}, func(w world) {
			inbox(w, ben).add(storedMail{body: body(late)})
			inbox(w, anna).add(storedMail{body: body(late)})
		}},
		{"DELETE", cmd("DELETE Away"), func(w world) { delete(w[ben].folders, "Away") }},
		{"purge", func() error { return s.db.Purge(context.WithoutCancel(t.Context())) }, func(world) {}},
		{"account deleted", func() error {
			return s.accounts.Delete(context.WithoutCancel(t.Context()), mail.Address{Local: "ben", Domain: "example.org"})
		}, func(w world) { delete(w, ben) }},
	}
}

// observe gives the world as the next start shows it.
func observe(ctx context.Context, s *Server, passwords map[string][]string) (world, error) {
	w := world{}
	for name, tries := range passwords {
		local, _, _ := strings.Cut(name, "@")
		if _, err := s.accounts.Show(ctx, mail.Address{Local: local, Domain: "example.org"}); errors.Is(err, errs.NotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		for _, password := range tries {
			login, err := s.accounts.Login(ctx, account.LoginRequest{Name: name, Password: password, Peer: limits.Peer{Exempt: true}})
			if errors.Is(err, errs.Auth) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			h, err := look(ctx, s, login)
			login.Close()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			h.password = password
			w[name] = h
		}
		if w[name] == nil {
			return nil, fmt.Errorf("%s exists, and no password opens it", name)
		}
	}
	return w, nil
}

func look(ctx context.Context, s *Server, login *account.Session) (*home, error) {
	h := &home{folders: map[string]*folder{}}
	a := s.boxes.Account(login.Key, login.Quota)
	list, err := a.Folders(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		v, err := a.View(ctx, f.Box)
		if err != nil {
			return nil, err
		}
		n := &folder{next: v.UIDNext, mails: map[uint32]storedMail{}}
		for _, e := range v.Range(0, v.Len()) {
			b, err := a.Body(ctx, f.Box, e)
			if err != nil {
				return nil, fmt.Errorf("%s UID %d: %w", f.Name, e.UID, err)
			}
			text, err := readAll(b)
			if err != nil {
				return nil, fmt.Errorf("%s UID %d: %w", f.Name, e.UID, err)
			}
			n.mails[e.UID] = storedMail{body([]byte(text)), e.Flags}
		}
		h.folders[f.Name] = n
	}
	return h, nil
}

// moment is the disk at one sync point, and how many steps were acknowledged.
type moment struct {
	at    vfs.SyncPoint
	lost  vfs.Unsynced
	acked int
	disk  *vfs.CrashDisk
}

// TestCutAtEverySync is promise 1: one scripted session of two clients; at every
// sync point, before and after it, the disk is taken as a crash would leave it,
// with unsynced data dropped, kept and torn. The next start on that disk must show
// exactly what was acknowledged, or that and the one step under way, whole; and
// its store check must find nothing wrong.
func TestCutAtEverySync(t *testing.T) {
	disk := vfs.NewCrashDisk()
	var (
		mu      sync.Mutex // one moment at a time; also guards acked
		acked   int
		moments = make(chan moment, 64)
		stopped bool
		taken   int
		seen    = map[string]bool{}
	)
	take := func(p vfs.SyncPoint) {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return
		}
		for _, lost := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
			// acked is read before the clone: what is acknowledged later may miss on it.
			m := moment{at: p, lost: lost, acked: acked}
			m.disk = disk.Clone(lost, uint64(p.N))
			taken++
			// Between one sync and the next little changes: the same disk with the same
			// promises need not be looked at twice.
			id := fmt.Sprint(acked, fingerprint(m.disk, "/"))
			if !seen[id] {
				seen[id] = true
				if !racetest.Enabled || len(seen)%3 == 0 { // every moment is looked at without the race detector
					moments <- m
				}
			}
		}
	}
	passwords := map[string][]string{"anna@example.org": {"anna's password", "anna's second one"}, "ben@example.org": {"ben's password"}}
	c := testConfig(t, "/data", "mail.purge_every=8m", "mail.expire_every=1d")
	worlds := []world{{}}
	names := []string{"nothing"}
	var known sync.RWMutex // worlds and names grow while moments are looked at

	var count [3]int
	var failed, checked int
	var tally sync.Mutex
	var lookers sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		lookers.Go(func() {
			for m := range moments {
				err := examine(t, c, m, passwords, func(got string) error {
					known.RLock()
					defer known.RUnlock()
					// The step under way may have become durable before its answer went out.
					for k := m.acked; k <= min(m.acked+1, len(worlds)-1); k++ {
						if got == worlds[k].String() {
							return nil
						}
					}
					return fmt.Errorf("after %q was acknowledged\nfound:\n%swanted:\n%s", names[m.acked], got, worlds[m.acked])
				})
				tally.Lock()
				checked++
				count[m.lost]++
				if err != nil {
					if failed++; failed <= 3 {
						t.Errorf("cut at sync %d (%s, after=%v), unsynced data %s: %v", m.at.N, m.at.Path, m.at.After, m.lost, err)
					}
				}
				tally.Unlock()
			}
		})
	}

	s, err := Start(t.Context(), Deps{FS: vfs.NewSyncPoints(disk, take), NoControl: true, StopGrace: 50 * time.Millisecond}, c)
	if err != nil {
		t.Fatal(err)
	}
	steps := session(t, s)
	// All worlds are known before the first step: a moment is looked at while it runs.
	known.Lock()
	w := world{}
	for _, st := range steps {
		w = w.clone()
		st.then(w)
		worlds, names = append(worlds, w), append(names, st.name)
	}
	known.Unlock()
	for _, st := range steps {
		if err := st.do(); err != nil {
			t.Errorf("%s: %v", st.name, err)
			break
		}
		mu.Lock()
		acked++
		mu.Unlock()
	}
	mu.Lock()
	stopped = true
	mu.Unlock()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	close(moments)
	lookers.Wait()
	t.Logf("%d steps, %d moments, %d different ones looked at: %d dropped, %d kept, %d torn; %d wrong", len(steps), taken, checked, count[vfs.Dropped], count[vfs.Kept], count[vfs.Torn], failed)
	if taken < 6*len(steps) || checked < 2*len(steps) {
		t.Errorf("%d moments, %d looked at: the hook does not see the syncs", taken, checked)
	}
}

// fingerprint hashes the names and contents of everything under dir.
func fingerprint(fs vfs.FS, dir string) (sum [32]byte) {
	h := sha256.New()
	names, err := fs.List(dir)
	if err != nil {
		return sum
	}
	slices.Sort(names)
	for _, n := range names {
		path := fs.PathJoin(dir, n)
		st, err := fs.Stat(path)
		if err != nil {
			continue
		}
		var part [32]byte
		if st.IsDir() {
			part = fingerprint(fs, path)
		} else if b, err := vfs.ReadFile(fs, path); err == nil {
			part = sha256.Sum256(b)
		}
		fmt.Fprintf(h, "%q %v %x\n", n, st.IsDir(), part)
	}
	return [32]byte(h.Sum(nil))
}

// examine starts a server on the disk of one moment.
func examine(t *testing.T, c Config, m moment, passwords map[string][]string, compare func(string) error) error {
	ctx := context.WithoutCancel(t.Context())
	s, err := Open(ctx, Deps{FS: m.disk, NoControl: true}, c)
	if errors.Is(err, errs.NotFound) && m.acked == 0 {
		return nil // cut before there was anything
	}
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer s.Close()
	got, err := observe(ctx, s.s, passwords)
	if err != nil {
		return err
	}
	if err := compare(got.String()); err != nil {
		return err
	}
	if racetest.Enabled && m.at.N%8 != 0 {
		return nil // every moment is checked without the race detector
	}
	// What a crash left lying about, and housekeeping removes, is not wrong.
	var wrong []error
	err = s.Check(ctx, func(f Finding) {
		if !f.Leftover {
			wrong = append(wrong, fmt.Errorf("check: %s: %s", f.Part, f.Text))
		}
	})
	return errors.Join(append(wrong, err)...)
}
