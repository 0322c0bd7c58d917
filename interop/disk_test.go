package interop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// smallDisk mounts a real small file system: ext4 in a file where loop devices
// work, else tmpfs.
func smallDisk(t *testing.T, megabytes int) (dir string, remount func(option string) error) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "root (to mount a small file system)")
	}
	base := t.TempDir()
	dir = filepath.Join(base, "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) error {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, out)
		}
		return nil
	}
	image := filepath.Join(base, "image")
	f, err := os.Create(image)
	if err == nil {
		err = errors.Join(f.Truncate(int64(megabytes)<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	ext4 := errors.Join(run("mkfs.ext4", "-q", "-m", "0", image))
	if ext4 == nil {
		ext4 = run("mount", "-o", "loop", image, dir)
	}
	if ext4 != nil {
		if err := run("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", megabytes), "postern-test", dir); err != nil {
			missing(t, fmt.Sprintf("a mount (%v; %v)", ext4, err))
		}
		t.Logf("on tmpfs (%v)", ext4)
	} else {
		t.Log("on ext4")
	}
	t.Cleanup(func() {
		if err := run("umount", "-l", dir); err != nil {
			t.Errorf("left behind: %v", err)
		}
	})
	return dir, func(option string) error { return run("mount", "-o", "remount,"+option, dir) }
}

// fillUnderLoad lets mail flow until the server refuses, and gives the refusals.
func fillUnderLoad(t *testing.T, s *server, users []user, a *acks, full func() error) []error {
	t.Helper()
	halt := make(chan struct{})
	var mu sync.Mutex
	var refusals []error
	wait := s.load(t, users, a, halt, func(err error) {
		mu.Lock()
		refusals = append(refusals, err)
		mu.Unlock()
	})
	eventually(t, patience, func() error {
		if a.count() < 50 {
			return fmt.Errorf("%d acknowledged so far", a.count())
		}
		return nil
	})
	if err := full(); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(refusals) < 20 {
			return fmt.Errorf("%d refusals so far, %d acknowledged", len(refusals), a.count())
		}
		return nil
	})
	close(halt)
	wait()
	mu.Lock()
	defer mu.Unlock()
	return refusals
}

// checkRefusals: each is 452 4.3.1 and came before the mail was taken.
func checkRefusals(t *testing.T, refusals []error) {
	t.Helper()
	kinds := map[string]int{}
	for _, err := range refusals {
		var se *mailclient.SMTPError
		if !errors.As(err, &se) {
			t.Errorf("no answer: %v", err)
			continue
		}
		kinds[se.At+": "+fmt.Sprint(se.Code)+" "+strings.Fields(se.Text + " -")[0]]++
	}
	for kind, n := range kinds {
		t.Logf("%d times at %s", n, kind)
		if !strings.HasSuffix(kind, ": 452 4.3.1") {
			t.Errorf("refused with %q, want 452 4.3.1", kind)
		}
	}
}

// TestDiskFull fills a real small file system under load: mail is refused
// before it is accepted, reading goes on, nothing acknowledged is lost, and
// after room was made it goes on.
func TestDiskFull(t *testing.T) {
	disk, _ := smallDisk(t, 256)
	s := startIn(t, filepath.Join(disk, "state"), noSendLimit...)
	users := s.created(t, 4)
	a := newAcks()
	ballast := filepath.Join(disk, "ballast")
	refusals := fillUnderLoad(t, s, users, a, func() error {
		// Whatever is left is taken, so that the very next write has no room.
		f, err := os.Create(ballast)
		if err != nil {
			return err
		}
		defer f.Close()
		block := make([]byte, 1<<16)
		for size := len(block); size >= 512; {
			if _, err := f.Write(block[:size]); err != nil {
				size /= 2
			}
		}
		return f.Sync()
	})
	checkRefusals(t, refusals)
	a.check(t, s, users) // reading goes on while the disk is full
	s.kill()
	if err := s.tryRun(t, patience); err != nil {
		t.Logf("start on a full disk: %v\n%s", err, tail(s.log, 1500))
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		s.run(t)
	} else {
		a.check(t, s, users) // and a start on a full disk serves readers
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, patience, func() error { // room was made: mail flows again
		c, err := s.submit(users[0])
		if err != nil {
			return err
		}
		defer c.Close()
		mail := mailclient.NewMaker(77).Mail(users[0].addr, 2000)
		a.asked(0, mailclient.BodyHash(mail))
		if err := c.Send(users[0].addr, []string{users[0].addr}, mail); err != nil {
			return err
		}
		a.acked(0, mailclient.BodyHash(mail))
		return nil
	})
	s.kill()
	s.run(t)
	a.check(t, s, users)
}

// TestDiskReadOnly: the file system turns read-only under load, as the kernel
// does on an error.
func TestDiskReadOnly(t *testing.T) {
	disk, remount := smallDisk(t, 256)
	s := startIn(t, filepath.Join(disk, "state"), noSendLimit...)
	users := s.created(t, 4)
	a := newAcks()
	before := 0
	halt := make(chan struct{})
	var mu sync.Mutex
	var refusals []error
	wait := s.load(t, users, a, halt, func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if refusals = append(refusals, err); len(refusals) == 20 {
			close(halt)
		}
	})
	eventually(t, patience, func() error {
		if before = a.count(); before < 50 {
			return fmt.Errorf("%d acknowledged so far", before)
		}
		return nil
	})
	// A plain remount fails while files are open for writing; the emergency one
	// of the whole machine is no choice. Freezing the disk's device is not the
	// same. So: abort the journal of this one ext4, which turns it read-only.
	if err := remount("abort"); err != nil {
		close(halt)
		wait()
		missing(t, fmt.Sprintf("a file system that can be aborted (%v)", err))
	}
	ended := make(chan struct{})
	go func() { wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("clients hang when the disk is read-only")
		s.kill()
		<-ended
	}
	mu.Lock()
	for _, err := range refusals {
		if code := mailclient.CodeOf(err); code < 400 || code > 499 {
			t.Errorf("refused with %v, want a temporary error", err)
		}
	}
	t.Logf("%d mails acknowledged, then %d refusals; the first: %v", a.count(), len(refusals), append(refusals, nil)[0])
	mu.Unlock()
	log := tail(s.log, 1<<20)
	a.check(t, s, users) // reading goes on
	s.kill()
	if !strings.Contains(strings.ToLower(log), "read-only") && !strings.Contains(log, "input/output error") {
		t.Errorf("the log does not say what is wrong with the disk:\n%s", log[max(0, len(log)-2000):])
	}
}
