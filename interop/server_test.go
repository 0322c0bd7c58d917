package interop

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// patience is for what happens at once on a machine that has time. It is generous, for slow machines
// and race detectors, and costs nothing where all is well.
const patience = 3 * time.Minute

// info is the line that `postern up --json` prints.
type info struct {
	Ready       bool   `json:"ready"`
	Domain      string `json:"domain"`
	Dir         string `json:"dir"`
	HTTPS       string `json:"https"`
	IMAPS       string `json:"imaps"`
	IMAP        string `json:"imap"`
	SMTP        string `json:"smtp"`
	Submissions string `json:"submissions"`
	Submission  string `json:"submission"`
	POP3S       string `json:"pop3s"`
	POP3        string `json:"pop3"`
	TLSCert     string `json:"tls_cert"`
}

// server is one running program with its directory.
type server struct {
	info
	dir   string // --dir
	log   string // file with all it wrote to standard error
	tmp   string // its TMPDIR
	sets  []string
	took  time.Duration // from start to the ready line
	cmd   *exec.Cmd
	ended chan struct{}
	pool  *x509.CertPool
}

// start runs the program on a new directory until the test ends.
func start(t testing.TB, sets ...string) *server {
	t.Helper()
	return startIn(t, filepath.Join(t.TempDir(), "state"), sets...)
}

// startIn runs the program on a given directory.
func startIn(t testing.TB, dir string, sets ...string) *server {
	t.Helper()
	side := t.TempDir()
	s := &server{dir: dir, log: filepath.Join(side, "log"), tmp: filepath.Join(side, "tmp"), sets: sets}
	if err := os.Mkdir(s.tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	s.run(t)
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("end of the server's log:\n%s", tail(s.log, 4000))
		}
	})
	return s
}

// run starts the process and waits for its ready line.
func (s *server) run(t testing.TB) {
	t.Helper()
	if err := s.tryRun(t, patience); err != nil {
		t.Fatalf("postern up: %v\n%s", err, tail(s.log, 4000))
	}
}

func (s *server) tryRun(t testing.TB, limit time.Duration) error {
	args := []string{"up", "--dir", s.dir, "--ports", "0", "--json"}
	for _, set := range append(append([]string{}, quiet...), s.sets...) {
		args = append(args, "--set", set)
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(binary(t), args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+s.tmp)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	tie(cmd)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.ended = cmd, make(chan struct{})
	ready := make(chan error, 1)
	go func() {
		defer close(s.ended)
		r := bufio.NewReader(out)
		line, err := r.ReadBytes('\n')
		if err == nil {
			s.info = info{}
			err = json.Unmarshal(line, &s.info)
		}
		if err == nil && !s.Ready {
			err = fmt.Errorf("not ready: %s", line)
		}
		ready <- err
		for err == nil { // drain until it ends
			_, err = r.ReadBytes('\n')
		}
		_ = cmd.Wait()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err = <-ready:
	case <-timer.C:
		err = fmt.Errorf("not ready after %v", limit)
	}
	s.took = time.Since(began)
	if err != nil {
		s.kill()
		return err
	}
	pemBytes, err := os.ReadFile(s.TLSCert)
	if err != nil {
		return fmt.Errorf("tls_cert: %w", err)
	}
	s.pool = x509.NewCertPool()
	if !s.pool.AppendCertsFromPEM(pemBytes) {
		return errors.New("tls_cert: no certificate")
	}
	return nil
}

// kill ends the process at once, as a power cut does to it (not to the disk).
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}

// stop ends it as an operator does and gives its exit code.
func (s *server) stop(t testing.TB) int {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.kill()
		t.Fatal("still running long after SIGTERM")
	}
	return s.cmd.ProcessState.ExitCode()
}

func tail(path string, n int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-n):])
}

// dialer checks the certificate that the server says it has.
func (s *server) dialer() mailclient.Dialer {
	host := strings.NewReplacer("[ipv6:", "", "[", "", "]", "").Replace(s.Domain) // of an address literal
	return mailclient.Dialer{TLS: &tls.Config{RootCAs: s.pool, ServerName: host}}
}

// user is a name and a password.
type user struct{ addr, password string }

// newUser makes up a user; the address exists with the first login.
func (s *server) newUser() user {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	name := make([]byte, 9) // username_min_length = username_max_length
	for i := range name {
		name[i] = letters[rand.IntN(len(letters))]
	}
	return user{string(name) + "@" + s.Domain, "pw " + string(name) + ` "\!`}
}

// created makes up n users and logs each in.
func (s *server) created(t testing.TB, n int) []user {
	t.Helper()
	users := make([]user, n)
	each(t, 4, n, func(i int) error {
		users[i] = s.newUser()
		c, err := s.login(users[i])
		if err != nil {
			return err
		}
		c.Logout()
		return nil
	})
	return users
}

func (s *server) login(u user) (*mailclient.IMAP, error) { return s.loginFrom("", u) }

// loginFrom logs in from one of the loopback's addresses: on Linux all of
// 127.0.0.0/8 is there, so that one machine can be many networks.
func (s *server) loginFrom(from string, u user) (*mailclient.IMAP, error) {
	d := s.dialer()
	d.From = from
	c, err := mailclient.DialIMAP(s.IMAPS, mailclient.TLS, d)
	if err != nil {
		return nil, err
	}
	if err := c.Login(u.addr, u.password); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (s *server) submit(u user) (*mailclient.SMTP, error) {
	c, err := mailclient.DialSMTP(s.Submissions, mailclient.TLS, s.dialer())
	if err != nil {
		return nil, err
	}
	if err := c.AuthPlain(u.addr, u.password); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// mustLogin and mustSubmit close with the test.
func (s *server) mustLogin(t testing.TB, u user) *mailclient.IMAP {
	t.Helper()
	c, err := s.login(u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (s *server) mustSubmit(t testing.TB, u user) *mailclient.SMTP {
	t.Helper()
	c, err := s.submit(u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// inbox fetches all of one user's INBOX: how often each body is there.
func (s *server) inbox(t testing.TB, u user) map[mailclient.Hash]int {
	t.Helper()
	got, err := s.tryInbox(u)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (s *server) tryInbox(u user) (map[mailclient.Hash]int, error) {
	c, err := s.login(u)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Select("INBOX"); err != nil {
		return nil, err
	}
	got := map[mailclient.Hash]int{}
	err = c.FetchAll("1:*", func(m mailclient.Message) { got[mailclient.BodyHash(m.Raw)]++ })
	return got, err
}

// each runs f(i) for i in [0, n) on c goroutines; any error fails the test.
func each(t testing.TB, c, n int, f func(i int) error) {
	t.Helper()
	var (
		wg   sync.WaitGroup
		next = make(chan int)
		mu   sync.Mutex
		errs []error
	)
	for range c {
		wg.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("%d: %w", i, err))
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	if len(errs) > 0 {
		t.Fatalf("%d of %d failed; first: %v", len(errs), n, errs[0])
	}
}

// eventually polls until f gives nil or the time is over.
func eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after %v: %v", limit, err)
		}
		<-tick.C
	}
}

// result is what a command did.
type result struct {
	code int
	out  string // standard output and error
}

// command runs a tool to its end, for at most two minutes, or forty in a long run.
func command(t testing.TB, env []string, name string, args ...string) result {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	limit := 2 * time.Minute
	if long() { // some programs carry ten mails a second
		limit = 40 * time.Minute
	}
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", name, err)
	}
	return result{cmd.ProcessState.ExitCode(), string(out)}
}

func (r result) want(t testing.TB, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\n%s", r.code, code, r.out)
		return
	}
	for _, text := range texts {
		if !strings.Contains(r.out, text) {
			t.Errorf("does not say %q\n%s", text, r.out)
		}
	}
}

func hostPort(t testing.TB, addr string) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
