package interop

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// The network of TestLabDelays: profile full, so much faster that a mail takes seconds and the machine
// still has next to nothing to do. The means are those of docs/directory.md §7.
const (
	delaySpeed = 20
	payload    = 10 * time.Second / delaySpeed
	stay       = 20 * time.Second / delaySpeed
	receive    = 5 * time.Second / delaySpeed
	hops       = 4 // that keep a packet: the first relay and three mixes
)

// TestLabDelays measures how long mails take from the 250 of one proxy to the mailbox of another,
// beside what the clocks and delays of the network alone would make of it, and what the proxies cost while
// nothing is sent. It fails only if a mail does not arrive.
func TestLabDelays(t *testing.T) {
	if !long() {
		t.Skip("a measurement: POSTERN_LONG=1")
	}
	l := startLab(t, "--profile", "full", "--speed", strconv.Itoa(delaySpeed))
	t.Logf("the lab was ready after %v", l.took.Round(time.Second))
	from, to := &l.Proxies[0], &l.Proxies[1]

	const idle = time.Minute
	before := cpu(t, from.PID)
	<-time.After(idle)
	t.Logf("a proxy that sends nothing: %.2f %% of a core at %d times the profile full", 100*(cpu(t, from.PID)-before).Seconds()/idle.Seconds(), delaySpeed)

	in, err := mailclient.DialIMAP(to.IMAP, mailclient.Plain, mailclient.Dialer{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := in.Login(to.Account, to.Password); err != nil {
		t.Fatal(err)
	}
	const mails = 200
	sent := make(chan map[string]time.Time, 1)
	go func() {
		at := make(map[string]time.Time)
		defer func() { sent <- at }()
		out, err := mailclient.DialSMTP(from.SMTP, mailclient.Plain, mailclient.Dialer{})
		if err != nil {
			t.Error(err)
			return
		}
		defer out.Close()
		if err := out.AuthPlain(from.Account, from.Password); err != nil {
			t.Error(err)
			return
		}
		for i := range mails {
			subject := "delay " + strconv.Itoa(i)
			if err := out.Send(from.Account, []string{to.Account}, labMail(from.Account, to.Account, subject, "a line")); err != nil {
				t.Error(err)
				return
			}
			at[subject] = time.Now()
			// Far enough apart that none waits for another.
			<-time.After(time.Duration(rand.ExpFloat64() * float64(3*payload)))
		}
	}()
	came := make(map[string]time.Time)
	deadline := time.Now().Add(20 * time.Minute)
	for seen := 0; len(came) < mails; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d mails arrived", len(came), mails)
		}
		box, err := in.Select("INBOX")
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		for ; seen < box.Exists; seen++ {
			err := in.Each(func(r mailclient.Response) {
				for _, lit := range r.Literals {
					if _, subject, ok := strings.Cut(strings.TrimSpace(string(lit)), ": "); ok {
						came[subject] = now
					}
				}
			}, "FETCH %d BODY.PEEK[HEADER.FIELDS (SUBJECT)]", seen+1)
			if err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(20 * time.Millisecond)
	}
	var took []time.Duration
	for subject, at := range <-sent {
		took = append(took, came[subject].Sub(at))
	}
	if len(took) != mails {
		t.Fatalf("%d of %d mails were sent", len(took), mails)
	}
	law := make([]time.Duration, 200_000)
	for i := range law {
		sum := rand.ExpFloat64()*float64(payload) + rand.ExpFloat64()*float64(receive)
		for range hops {
			sum += rand.ExpFloat64() * float64(stay)
		}
		law[i] = time.Duration(sum)
	}
	t.Logf("%d mails: %s; by the law of the network alone: %s", mails, shares(took), shares(law))
}

// shares says the median and the 95th of 100.
func shares(list []time.Duration) string {
	slices.Sort(list)
	at := func(p int) time.Duration { return list[len(list)*p/100].Round(10 * time.Millisecond) }
	return fmt.Sprintf("p50 %v, p95 %v", at(50), at(95))
}

// cpu is the processor time of a process, in user and in kernel mode.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest) // from the third of proc_pid_stat(5) on
	if len(f) < 13 {
		t.Fatalf("cannot read %q", b)
	}
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return time.Duration(user+system) * time.Second / 100
}
