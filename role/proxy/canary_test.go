package proxy

import (
	"bytes"
	"strings"
	"testing"

	"postern.email/agent/agenttest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// lies gives the files under dir that hold one of the words, or are named by one.
func lies(t testing.TB, disk vfs.FS, dir string, words ...string) (out []string) {
	t.Helper()
	names, err := disk.List(dir)
	must(t, err)
	for _, n := range names {
		path := disk.PathJoin(dir, n)
		info, err := disk.Stat(path)
		if err != nil {
			continue // it has gone meanwhile
		}
		if info.IsDir() {
			out = append(out, lies(t, disk, path, words...)...)
			continue
		}
		b, err := vfs.ReadFile(disk, path)
		if err != nil {
			continue
		}
		b = bytes.ToLower(append(b, n...))
		for _, w := range words {
			if bytes.Contains(b, []byte(strings.ToLower(w))) {
				out = append(out, path+": "+w)
			}
		}
	}
	return out
}

// onDisk puts a setup on a disk in memory.
func (c *setup) onDisk(t testing.TB, disk vfs.FS) func(*Deps) {
	t.Helper()
	must(t, vfs.MkdirAll(disk, c.dir, 0o700))
	ca, err := vfs.ReadFile(vfs.OS(), c.dir+"/ca.pem")
	must(t, err)
	must(t, vfs.WriteFileAtomic(disk, c.dir+"/ca.pem", ca, 0o600))
	return func(d *Deps) { d.FS, d.NoSockets = disk, true }
}

// registerOn is register with other surroundings.
func (c *setup) registerOn(t testing.TB, set func(*Deps)) {
	t.Helper()
	cfg := c.load(t)
	accounts, err := cfg.Accounts()
	must(t, err)
	for _, a := range accounts {
		var d Deps
		set(&d)
		_, err := Register(t.Context(), d, cfg, a, "relay password", "")
		must(t, err)
	}
}

// TestCanary: of mails that wait, that left and that came nothing can be read in DataDir: no body, no
// header field, no correspondent, no password; nor in the log. Nor after the process or the
// machine was killed, and what was acknowledged is there then, once.
func TestCanary(t *testing.T) {
	r := newRelays(t)
	c := newSetup(t, r, "anna@"+one, "berta@"+two)
	c.top = "MinFreeSpace = 0"
	disk := vfs.NewCrashDisk()
	on := c.onDisk(t, disk)
	c.registerOn(t, on)
	var log logged
	s := c.start(t, func(d *Deps) { on(d); d.Logger = log.logger() })
	passwords(t, s)
	n := &agenttest.MixNet{TB: t, Consensus: r.cons}
	anna, berta := mixUser(t, s, "anna@"+one), mixUser(t, s, "berta@"+two)
	const body, subject = "canary-in-the-body", "canary-in-the-subject"
	words := []string{body, subject, "Subject:", "Message-ID", "X-Katzenpost", localPassword, "relay password", "canary-friend"}
	x := submitter(t, s, "anna@"+one)
	send := func() {
		t.Helper()
		if l := x.send(t, "anna@"+one, "berta@"+two, letterFrom("anna@"+one, "berta@"+two, subject, body+"\r\ncanary-friend@"+two)); !strings.HasPrefix(l, "250") {
			t.Fatal(l)
		}
	}
	carry := func() {
		t.Helper()
		until(t, "the letter is made", func() bool { return len(n.Carry(anna, berta)) > 0 })
	}
	clean := func(what string, disk vfs.FS) {
		t.Helper()
		if f := lies(t, disk, c.data(), words...); f != nil {
			t.Errorf("%s: %q", what, f)
		}
	}
	send()
	clean("waiting", disk)
	carry()
	u, err := s.find("berta@" + two)
	must(t, err)
	u.ring()
	until(t, "it has come", func() bool { return len(pop3Mails(t, s, "berta@"+two)) > 0 })
	send() // this one lies in the client's inbox, and the next one waits, when the power goes
	carry()
	send()
	clean("running", disk)
	kept, dropped := disk.Clone(vfs.Kept, 0), disk.Clone(vfs.Dropped, 0)
	if got := log.String(); strings.Contains(got, "canary") || strings.Contains(got, "berta@") {
		t.Errorf("log: %s", got)
	}
	must(t, s.Close())
	for what, after := range map[string]*vfs.CrashDisk{"killed": kept, "power cut": dropped} {
		clean(what, after)
		s := c.start(t, func(d *Deps) { d.FS, d.NoSockets = after, true })
		u, err := s.find("berta@" + two)
		must(t, err)
		u.ring()
		until(t, what+": both mails are there", func() bool { return len(pop3Mails(t, s, "berta@"+two)) == 2 })
		until(t, what+": one mail waits", func() bool { return len(s.Status().Lines[0].Waiting) == 1 })
		clean(what+" and started again", after)
		must(t, s.Close())
	}
}

// TestKeyFile: without the key file nothing is taken up, and with another one neither; both errors say
// what is wrong.
func TestKeyFile(t *testing.T) {
	c := newSetup(t, newRelays(t), "anna@"+one)
	disk := vfs.NewCrashDisk()
	on := c.onDisk(t, disk)
	must(t, c.start(t, on).Close())
	key, err := vfs.ReadFile(disk, c.data("node.key"))
	must(t, err)
	start := func() error {
		var d Deps
		on(&d)
		s, err := Start(t.Context(), d, c.load(t))
		if err == nil {
			must(t, s.Close())
		}
		return err
	}
	must(t, disk.Remove(c.data("node.key")))
	refused(t, start(), errs.NotFound, "node key")
	other := bytes.Clone(key)
	if i := len("postern-node-key-1:") + 5; other[i] == 'A' {
		other[i] = 'B'
	} else {
		other[i] = 'A'
	}
	must(t, vfs.WriteFileAtomic(disk, c.data("node.key"), other, 0o600))
	refused(t, start(), errs.Auth, "key")
	must(t, vfs.WriteFileAtomic(disk, c.data("node.key"), key, 0o600))
	must(t, start())
}
