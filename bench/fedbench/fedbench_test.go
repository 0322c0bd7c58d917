// Package fedbench measures mail between hosts: two relays of ours, by SMTP and over HTTPS,
// and in the same run two of Debian's Postfix with OpenDKIM. Everything is signed,
// verified, under verified TLS and durable before it is acknowledged, on both.
//
//	go test -run '^$' -bench . -benchtime 1x ./bench/fedbench
//
// FEDBENCH_MAILS and FEDBENCH_QUEUED set the numbers (3000 and 100000).
package fedbench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"postern.email/bench/rig"
	"postern.email/interop/mailclient"
	"postern.email/interop/smallworld"
)

const (
	senders = 16     // sessions that hand in at one time
	boxes   = 4      // that the mails go to
	size    = 10_000 // bytes of a mail, encrypted and armored
)

func number(b *testing.B, name string, otherwise int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s=%s", name, text)
	}
	return n
}

// program builds Postern.
func program(b *testing.B) string {
	b.Helper()
	bin, err := rig.BuildPostern(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	return bin
}

// relay starts a relay in the world.
func relay(b *testing.B, w *smallworld.World, bin, domain string, sets ...string) (s *rig.System, dir string) {
	b.Helper()
	dir = b.TempDir()
	s, err := rig.StartPostern(bin, dir, append(append(w.Relay(b, domain), "exchange.mails_per_network=0", "exchange.bytes_per_network=0"), sets...))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Stop(); err != nil {
			b.Error(err)
		}
	})
	dir = filepath.Join(dir, "state")
	w.Publish(b, bin, dir)
	return s, dir
}

// load hands in n mails over kept sessions and gives how long that took.
func load(b *testing.B, n, size int, open func(i int) (*mailclient.SMTP, string, error), to func(i int) string) {
	b.Helper()
	sessions := make([]*mailclient.SMTP, senders)
	from := make([]string, senders)
	makers := make([]*mailclient.Maker, senders)
	for i := range sessions {
		var err error
		if sessions[i], from[i], err = open(i); err != nil {
			b.Fatal(err)
		}
		defer sessions[i].Quit()
		makers[i] = mailclient.NewMaker(uint64(i))
	}
	err := rig.Parallel(senders, n, func(worker, i int) error {
		return sessions[worker].Send(from[worker], []string{to(i)}, makers[worker].Mail(from[worker], size))
	})
	if err != nil {
		b.Fatal(err)
	}
}

// await polls every 20 ms until f gives n.
func await(b *testing.B, n int, f func() (int, error)) {
	b.Helper()
	deadline := time.Now().Add(30 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := f()
		if err != nil {
			b.Fatal(err)
		}
		if got == n {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%d, want %d", got, n)
		}
		<-tick.C
	}
}

// report gives the measures of one run: b's timer ran while n mails were handed in and
// carried over.
func report(b *testing.B, n int, took, cpu time.Duration) {
	b.ReportMetric(float64(n)/took.Seconds(), "mails/s")
	b.ReportMetric(float64(cpu.Microseconds())/float64(n), "cpu-µs/mail")
	b.ReportMetric(0, "ns/op")
}

func cpu(b *testing.B, list ...*rig.System) (sum time.Duration) {
	b.Helper()
	for _, s := range list {
		c, err := s.CPU()
		if err != nil {
			b.Fatal(err)
		}
		sum += c
	}
	return sum
}

// BenchmarkRelayToRelay: mails handed in at one relay until the last is in its mailbox at the
// other, and the CPU time of both relays.
func BenchmarkRelayToRelay(b *testing.B) {
	for _, way := range []struct{ name, set string }{{"SMTP", "delivery.https=false"}, {"HTTPS", "delivery.https=true"}} {
		b.Run(way.name, func(b *testing.B) {
			n := number(b, "FEDBENCH_MAILS", 3000)
			bin := program(b)
			for range b.N {
				w := smallworld.New(b)
				one, _ := relay(b, w, bin, "a.example", way.set)
				two, _ := relay(b, w, bin, "b.example")
				if err := errors.Join(one.CreateAccounts(senders), two.CreateAccounts(boxes)); err != nil {
					b.Fatal(err)
				}
				inboxes := make([]*mailclient.IMAP, boxes)
				for i := range inboxes {
					var err error
					if inboxes[i], err = two.IMAP(two.Account(i)); err != nil {
						b.Fatal(err)
					}
					defer inboxes[i].Logout()
				}
				used, began := cpu(b, one, two), time.Now()
				load(b, n, size, func(i int) (*mailclient.SMTP, string, error) {
					c, err := one.SMTP(one.Account(i))
					return c, one.Account(i).Addr, err
				}, func(i int) string { return two.Account(i % boxes).Addr })
				handed := time.Since(began)
				await(b, n, func() (sum int, err error) {
					for _, c := range inboxes {
						box, err := c.Select("INBOX")
						if err != nil {
							return 0, err
						}
						sum += box.Exists
					}
					return sum, nil
				})
				report(b, n, time.Since(began), cpu(b, one, two)-used)
				b.ReportMetric(float64(n)/handed.Seconds(), "handed-in/s")
			}
		})
	}
}

// BenchmarkPostfixToPostfix is the same for the peer. Its users hand in without login and
// without TLS, which costs it nothing; its mailboxes are Maildirs.
func BenchmarkPostfixToPostfix(b *testing.B) {
	n := number(b, "FEDBENCH_MAILS", 3000)
	for range b.N {
		w := smallworld.New(b)
		var users []string
		for i := range boxes {
			users = append(users, fmt.Sprintf("u%d", i))
		}
		one, two := w.Postfix(b, smallworld.PostfixOptions{Domain: "a.example", Users: users}), w.Postfix(b, smallworld.PostfixOptions{Domain: "b.example", Users: users})
		s := &rig.System{Name: rig.PeerName, Roots: append(one.Roots(), two.Roots()...)}
		used, began := cpu(b, s), time.Now()
		load(b, n, size, func(int) (*mailclient.SMTP, string, error) {
			c, err := mailclient.DialSMTP(one.Submission, mailclient.Plain, rig.Dialer)
			return c, "u0@a.example", err
		}, func(i int) string { return users[i%boxes] + "@b.example" })
		handed := time.Since(began)
		await(b, n, func() (sum int, err error) {
			for _, u := range users {
				k, err := two.Count(u)
				if err != nil {
					return 0, err
				}
				sum += k
			}
			return sum, nil
		})
		report(b, n, time.Since(began), cpu(b, s)-used)
		b.ReportMetric(float64(n)/handed.Seconds(), "handed-in/s")
	}
}

// BenchmarkQueued fills a relay's queue with mails for a host that is not there, and gives its
// memory (PSS), what the disk holds, and how long it takes to start with them.
func BenchmarkQueued(b *testing.B) {
	n := number(b, "FEDBENCH_QUEUED", 100_000)
	bin := program(b)
	for range b.N {
		w := smallworld.New(b)
		w.Host(b, "dead.example")
		s, dir := relay(b, w, bin, "a.example", "queue.max_mails=200000", "delivery.first_retry=30s", "delivery.last_retry=1h")
		if err := s.CreateAccounts(senders); err != nil {
			b.Fatal(err)
		}
		memory := func(name string) {
			b.Helper()
			_, pss, err := s.Memory()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(pss)/1024, name)
		}
		memory("MiB-empty")
		began := time.Now()
		load(b, n, size, func(i int) (*mailclient.SMTP, string, error) {
			c, err := s.SMTP(s.Account(i))
			return c, s.Account(i).Addr, err
		}, func(i int) string { return fmt.Sprintf("x%d@dead.example", i) })
		b.ReportMetric(float64(n)/time.Since(began).Seconds(), "handed-in/s")
		memory("MiB-just-filled")
		waiting := func() (int, error) {
			var status struct {
				Queue struct{ Mails int }
			}
			out, err := exec.Command(bin, "status", "--json", "--dir", dir).Output()
			if err == nil {
				err = json.Unmarshal(out, &status)
			}
			return status.Queue.Mails, err
		}
		await(b, n, waiting)
		began = time.Now()
		if err := s.Stop(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s-stop")
		began = time.Now()
		if err := s.Restart(); err != nil { // the second Stop does nothing
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s-start")
		await(b, n, waiting)
		memory("MiB-restarted")
		var disk int64
		err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				if info, ierr := e.Info(); ierr == nil {
					disk += info.Size()
				}
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(disk)/(1<<20), "MiB-disk")
		b.ReportMetric(0, "ns/op")
	}
}
