package interop

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern.email/interop/imapmodel"
	"postern.email/interop/mailclient"
)

// modelAccount gives a new account of the server, and a sender who writes to it.
func (s *server) modelAccount(t testing.TB) func() imapmodel.Account {
	t.Helper()
	sender := s.created(t, 1)[0]
	smtp := s.mustSubmit(t, sender)
	maker := mailclient.NewMaker(11)
	return func() imapmodel.Account {
		u := s.newUser()
		c, err := s.login(u) // the first login makes the account
		if err != nil {
			t.Fatal(err)
		}
		c.Logout()
		return imapmodel.Account{
			User: u.addr, Password: u.password,
			Dial: func() (net.Conn, error) {
				return tls.Dial("tcp", s.IMAPS, &tls.Config{RootCAs: s.pool, ServerName: s.Domain})
			},
			Deliver: func() error { return smtp.Send(sender.addr, []string{u.addr}, maker.Mail(sender.addr, 1200)) },
		}
	}
}

// modelSeed is where the random runs begin: the same each time, unless
// POSTERN_SEED says otherwise.
func modelSeed(t testing.TB) uint64 {
	seed, err := strconv.ParseUint(os.Getenv("POSTERN_SEED"), 10, 64)
	if err != nil {
		return 1
	}
	t.Logf("POSTERN_SEED=%d", seed)
	return seed
}

// runModel takes the runs, and makes the first that fails short. With
// opt.Notify a session uses NOTIFY in every second one.
func runModel(t *testing.T, account func() imapmodel.Account, opt imapmodel.Options, runs int) {
	t.Helper()
	first := modelSeed(t)
	total := map[string]int{}
	notify := opt.Notify
	for i := range runs {
		opt.Seed, opt.Sessions = first+uint64(i), 2+i%3
		opt.Notify = notify && i%2 == 1
		if runs == 1 {
			opt.Sessions = 4
		}
		report, err := imapmodel.Run(account(), opt)
		for kind, n := range report.Commands {
			total[kind] += n
		}
		if err == nil {
			continue
		}
		var v *imapmodel.Violation
		if !errors.As(err, &v) {
			t.Fatalf("seed %d: %v", opt.Seed, err)
		}
		steps := make([]int, opt.Steps)
		for i := range steps {
			steps[i] = i + 1
		}
		short := imapmodel.Shrink(v, steps, 20*time.Second, func(only []int) error {
			opt := opt
			opt.Only = only
			_, err := imapmodel.Run(account(), opt)
			return err
		})
		t.Fatalf("POSTERN_SEED=%d, %d sessions: %v\nmade short: %v\n%s", opt.Seed, opt.Sessions, v, short, strings.Join(short.Log, "\n"))
	}
	t.Logf("commands: %v", total)
	for _, kind := range []string{"APPEND", "STORE", "UID STORE", "FETCH", "UID FETCH", "SEARCH", "EXPUNGE", "UID EXPUNGE", "COPY", "MOVE",
		"NOOP", "IDLE", "CLOSE", "UNSELECT", "SELECT", "EXAMINE", "STATUS"} {
		if total[kind] == 0 {
			t.Errorf("%s was never used: the test is not what it says", kind)
		}
	}
}

// TestIMAPModel lets two to four sessions do random things at once, and holds
// each response against what the RFCs allow.
func TestIMAPModel(t *testing.T) {
	s := start(t, noSendLimit...)
	runs, steps := 40, 300
	if long() {
		runs, steps = 100, 1500
	}
	runModel(t, s.modelAccount(t), imapmodel.Options{Steps: steps, Notify: true}, runs)
}

// TestIMAPModelFindsFaults breaks what a correct server says on its way to the
// client: the model must see each kind of damage.
func TestIMAPModelFindsFaults(t *testing.T) {
	s := start(t, noSendLimit...)
	account := s.modelAccount(t)
	for _, fault := range imapmodel.Faults() {
		t.Run(strings.ReplaceAll(fault.Name, " ", "-"), func(t *testing.T) {
			opt := imapmodel.Options{Seed: modelSeed(t), Steps: 3000, Sessions: 4, Notify: true, Fault: fault, Timeout: 2 * time.Second}
			_, err := imapmodel.Run(account(), opt)
			var v *imapmodel.Violation
			if !errors.As(err, &v) {
				t.Fatalf("damaged %d times and not seen: %v", fault.Done, err)
			}
			if fault.Done == 0 {
				t.Fatalf("it was not damaged, but seen: %v", v)
			}
			opt.Fault, opt.Steps = nil, v.Step
			if _, err := imapmodel.Run(account(), opt); err != nil {
				t.Fatalf("without the damage: %v", err)
			}
			t.Logf("damaged %d times, seen at step %d: %v", fault.Done, v.Step, v)
		})
	}
}
