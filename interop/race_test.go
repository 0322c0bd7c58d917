package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// firstLogins is the work of one of the two processes of the race.
type firstLogins struct {
	IMAPS, Submissions string
	Addr               string
	Passwords          []string // one a login; even ones by IMAP, odd ones by SMTP
}

// firstLoginsRole is the child that runFirstLogins is.
const firstLoginsRole = "first logins"

// runFirstLogins is the second process: it logs in as told by its standard input when
// a second line comes, and prints which passwords were let in.
func runFirstLogins() int {
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	var job firstLogins
	if err == nil {
		err = json.Unmarshal(line, &job)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	fmt.Println("here")
	if _, err := in.ReadBytes('\n'); err != nil {
		return 2
	}
	type outcome struct{ Password, Error string }
	all := make([]outcome, len(job.Passwords))
	var wg sync.WaitGroup
	for i, password := range job.Passwords {
		wg.Go(func() {
			err := firstLogin(job, i, password)
			// "Later" is neither yes nor no: wrong passwords of the others slow this
			// network down. A client asks again.
			for pause := 100 * time.Millisecond; temporary(err) && pause < 20*time.Second; pause *= 2 {
				<-time.After(pause)
				err = firstLogin(job, i, password)
			}
			all[i] = outcome{Password: password}
			if err != nil {
				all[i].Error = err.Error()
			}
		})
	}
	wg.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		return 2
	}
	return 0
}

// temporary reports whether a refusal says "try later" (RFC 5530, RFC 4954 §6).
func temporary(err error) bool {
	if code := mailclient.CodeOf(err); code >= 400 && code < 500 {
		return true
	}
	var ie *mailclient.IMAPError
	return errors.As(err, &ie) && (strings.Contains(ie.Text, "[UNAVAILABLE]") || strings.Contains(ie.Text, "[LIMIT]"))
}

func firstLogin(job firstLogins, i int, password string) error {
	if i%2 == 0 {
		c, err := mailclient.DialIMAP(job.IMAPS, mailclient.TLS, mailclient.Dialer{})
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Login(job.Addr, password)
	}
	c, err := mailclient.DialSMTP(job.Submissions, mailclient.TLS, mailclient.Dialer{})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.AuthPlain(job.Addr, password)
}

// TestFirstLoginRace lets two processes make the same address 50 times at once,
// over IMAP and SMTP. With one password all get in; with two, exactly one
// password wins and every login with the other fails.
func TestFirstLoginRace(t *testing.T) {
	s := start(t)
	const perProcess = 25
	for _, passwords := range [][]string{{"the same password", "the same password"}, {"one password", "another password"}} {
		t.Run(passwords[1], func(t *testing.T) {
			u := s.newUser()
			type child struct {
				cmd *exec.Cmd
				in  interface{ Write([]byte) (int, error) }
				out *bufio.Reader
				err *bytes.Buffer
			}
			var children []child
			for p := range 2 {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), childRole+"="+firstLoginsRole)
				said := &bytes.Buffer{}
				cmd.Stderr = said
				in, out := startPiped(t, cmd)
				ch := child{cmd, in, bufio.NewReader(out), said}
				t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
				job := firstLogins{IMAPS: s.IMAPS, Submissions: s.Submissions, Addr: u.addr}
				for i := range perProcess {
					job.Passwords = append(job.Passwords, passwords[(p+i/2)%2])
				}
				text, err := json.Marshal(job)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := ch.in.Write(append(text, '\n')); err != nil {
					t.Fatal(err)
				}
				if _, err := ch.out.ReadString('\n'); err != nil {
					t.Fatalf("%v %s", err, ch.err)
				}
				children = append(children, ch)
			}
			for _, ch := range children {
				if _, err := ch.in.Write([]byte("go\n")); err != nil {
					t.Fatal(err)
				}
			}
			in, out := map[string]int{}, map[string]int{}
			var reasons []string
			for _, ch := range children {
				var all []struct{ Password, Error string }
				if err := json.NewDecoder(ch.out).Decode(&all); err != nil {
					t.Fatalf("%v %s", err, ch.err)
				}
				for _, o := range all {
					if o.Error == "" {
						in[o.Password]++
					} else {
						out[o.Password]++
						reasons = append(reasons, o.Error)
					}
				}
			}
			if len(in) != 1 {
				t.Fatalf("let in: %v, refused: %v, want exactly one password; %v", in, out, reasons)
			}
			for winner, n := range in {
				if out[winner] != 0 {
					t.Errorf("%d logins with the winner's password failed, %d did not: %v", out[winner], n, reasons)
				}
				// What the race made is one whole account that works.
				u.password = winner
				if err := s.mustSubmit(t, u).Send(u.addr, []string{u.addr}, mailclient.NewMaker(5).Mail(u.addr, 2000)); err != nil {
					t.Error(err)
				}
				if got := s.inbox(t, u); len(got) != 1 {
					t.Errorf("%d mails, want 1", len(got))
				}
				for _, other := range passwords {
					if other != winner {
						if _, err := s.login(user{u.addr, other}); err == nil {
							t.Error("the loser's password is let in later")
						}
					}
				}
			}
		})
	}
}

// TestKillInFirstLogin cuts the server while addresses are being made: after
// the next start every login works again, and those that were answered before
// keep their password.
func TestKillInFirstLogin(t *testing.T) {
	s := start(t)
	rounds := 3
	if long() {
		rounds = 30
	}
	for range rounds {
		users := make([]user, 24)
		answered := make([]bool, len(users))
		var wg sync.WaitGroup
		first := make(chan struct{}, len(users))
		for i := range users {
			users[i] = s.newUser()
			wg.Go(func() {
				if c, err := s.login(users[i]); err == nil {
					answered[i] = true
					first <- struct{}{}
					c.Close()
				}
			})
		}
		<-first
		<-first
		s.kill()
		wg.Wait()
		s.run(t)
		for i, u := range users {
			if answered[i] {
				if _, err := s.login(user{u.addr, "somebody else's password"}); err == nil {
					t.Error("an address whose making was answered can be taken over after the cut")
				}
			}
		}
		each(t, 4, len(users), func(i int) error { // and half-made ones can still be made
			c, err := s.login(users[i])
			if err != nil {
				return fmt.Errorf("answered=%v: %w", answered[i], err)
			}
			defer c.Close()
			_, err = c.Select("INBOX")
			return err
		})
	}
}
