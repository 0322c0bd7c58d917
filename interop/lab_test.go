package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// labReady is longer than a lab needs on a slow and busy machine: it waits for epochs.
const labReady = 5 * time.Minute

// labInfo is the line that `postern lab --json` prints.
type labInfo struct {
	Ready       bool
	Dir         string
	CA          string
	Page        string
	Relays      []labRelay
	Mixes       []labNode
	Authorities []labNode
	Proxies     []labProxy
	World       labWorld
	Tor         string
}

type labNode struct {
	Name, ID, Link, Dir, Config string
	PID                         int
}

type labRelay struct {
	labNode
	Domain, HTTPS, IMAPS, Submissions string
	TLSCert                           string `json:"tls_cert"`
	Account, Password                 string
}

type labProxy struct {
	Name, Account, Password, SMTP, POP3, IMAP, Page, Dir, Config string
	PID                                                          int
}

type labWorld struct {
	DNS, Domain, SMTP, Submission, POP3, Account, Password string
	PID                                                    int
}

// testLab is a lab that runs: one process of the built program, and its children.
type testLab struct {
	labInfo
	dir   string
	log   string // file with all it said
	args  []string
	cmd   *exec.Cmd
	ended chan struct{}
	took  time.Duration // until it was ready
}

// startLab runs a new lab until the test ends. args are those of `postern lab`.
func startLab(t testing.TB, args ...string) *testLab {
	t.Helper()
	dir := t.TempDir()
	l := &testLab{dir: filepath.Join(dir, "lab"), log: filepath.Join(dir, "lab.log"), args: args}
	l.run(t)
	t.Cleanup(func() {
		l.stop(t)
		if t.Failed() {
			t.Logf("the lab said:\n%s", tail(l.log, 3000))
			logs, _ := filepath.Glob(filepath.Join(l.dir, "logs", "*"))
			for _, name := range logs {
				t.Logf("%s:\n%s", filepath.Base(name), tail(name, 1500))
			}
		}
	})
	return l
}

// run starts the lab and waits for its line.
func (l *testLab) run(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(l.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary(t), append([]string{"lab", "--dir", l.dir, "--ports", "0", "--json"}, l.args...)...)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	tie(cmd)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.cmd, l.ended = cmd, make(chan struct{})
	ready := make(chan error, 1)
	go func() {
		defer close(l.ended)
		r := bufio.NewReader(out)
		line, err := r.ReadBytes('\n')
		if err == nil {
			l.labInfo = labInfo{}
			err = json.Unmarshal(line, &l.labInfo)
		}
		if err == nil && !l.Ready {
			err = fmt.Errorf("not ready: %s", line)
		}
		ready <- err
		for err == nil {
			_, err = r.ReadBytes('\n')
		}
		_ = cmd.Wait()
	}()
	timer := time.NewTimer(labReady)
	defer timer.Stop()
	select {
	case err = <-ready:
	case <-timer.C:
		err = fmt.Errorf("not ready after %v", labReady)
	}
	if err != nil {
		l.stop(t)
		t.Fatalf("postern lab: %v\n%s", err, tail(l.log, 4000))
	}
	l.took = time.Since(began)
}

// stop ends the lab as Ctrl-C does and gives its exit code.
func (l *testLab) stop(t testing.TB) int {
	t.Helper()
	_ = l.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-l.ended:
	case <-time.After(2 * time.Minute):
		_ = l.cmd.Process.Kill()
		<-l.ended
		t.Error("the lab did not stop when it was asked to")
	}
	return l.cmd.ProcessState.ExitCode()
}

// swaks hands a mail in at a proxy and gives what swaks says.
func (p *labProxy) swaks(t testing.TB, to string, raw []byte) result {
	t.Helper()
	return p.swaksAs(t, p.Account, to, raw)
}

// swaksAs does so with an envelope sender of its own.
func (p *labProxy) swaksAs(t testing.TB, from, to string, raw []byte) result {
	t.Helper()
	return swaksPlain(t, p.SMTP, p.Account, p.Password, from, to, raw)
}

// swaksPlain does so at any door without TLS.
func swaksPlain(t testing.TB, at, account, password, from, to string, raw []byte) result {
	t.Helper()
	host, port := hostPort(t, at)
	return command(t, nil, needTool(t, "swaks"), "--server", host, "--port", port, "--helo", "swaks.example", "--auth", "PLAIN", "--auth-user", account, "--auth-password", password,
		"--from", from, "--to", to, "--suppress-data", "--data", "@"+swaksFile(t, raw))
}

// list gives how many mails curl sees at the POP3 door.
func (p *labProxy) list(t testing.TB) int { return curlCount(t, p.POP3, p.Account, p.Password) }

// fetch gives a mail, from 1 on, as curl fetches it by POP3.
func (p *labProxy) fetch(t testing.TB, n int) []byte {
	t.Helper()
	return curlFetch(t, p.POP3, p.Account, p.Password, n)
}

func curlCount(t testing.TB, at, user, password string) int {
	t.Helper()
	r := command(t, nil, needTool(t, "curl"), "--silent", "--show-error", "--max-time", "60", "--user", user+":"+password, "pop3://"+at+"/")
	r.want(t, 0)
	return len(regexp.MustCompile(`(?m)^\d+ \d+`).FindAllString(r.out, -1))
}

func curlFetch(t testing.TB, at, user, password string, n int) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "fetched")
	command(t, nil, needTool(t, "curl"), "--silent", "--show-error", "--max-time", "60", "--user", user+":"+password, "--output", out, fmt.Sprintf("pop3://%s/%d", at, n)).want(t, 0)
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// await waits until there are n mails.
func (p *labProxy) await(t testing.TB, n int, limit time.Duration) {
	t.Helper()
	awaitPOP3(t, p.POP3, p.Account, p.Password, n, limit)
}

// awaitPOP3 waits until there are n mails at a POP3 door. It looks by itself: a process of curl for each look
// would take from the lab the time that it needs.
func awaitPOP3(t testing.TB, at, user, password string, n int, limit time.Duration) {
	t.Helper()
	eventually(t, limit, func() error {
		c, have, err := dialPOP3(at, user, password)
		if err != nil { // the session of a look before may hold the mailbox for a moment
			return err
		}
		c.Close()
		if have < n {
			return fmt.Errorf("%s has %d mails of %d", user, have, n)
		}
		return nil
	})
}

// labMail is a mail in the clear, as people write them.
func labMail(from, to, subject, body string) []byte {
	return []byte("From: <" + from + ">\r\nTo: <" + to + ">\r\nSubject: " + subject + "\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + strings.ReplaceAll(body, "\n", "\r\n") + "\r\n")
}

// bodyOf gives what stands below the header.
func bodyOf(t testing.TB, raw []byte) string {
	t.Helper()
	if _, err := mail.ReadMessage(strings.NewReader(string(raw))); err != nil {
		t.Fatalf("this is no mail: %v: %.300q", err, raw)
	}
	_, body, _ := strings.Cut(string(raw), "\r\n\r\n")
	return strings.TrimSpace(body)
}

// TestLabMail: `postern lab --json` brings up three authorities, six mixes, two relays, two proxies
// and a world, each a process of its own; a mail that swaks hands in at one proxy goes through relay,
// three mixes and relay to the other, where curl fetches it by POP3 as it was sent.
func TestLabMail(t *testing.T) {
	t.Parallel()
	l := startLab(t)
	t.Logf("ready after %v", l.took.Round(time.Second))
	if len(l.Authorities) != 3 || len(l.Mixes) != 6 || len(l.Relays) != 2 || len(l.Proxies) != 2 {
		t.Fatalf("%d authorities, %d mixes, %d relays, %d proxies", len(l.Authorities), len(l.Mixes), len(l.Relays), len(l.Proxies))
	}
	pids := map[int]bool{l.cmd.Process.Pid: true, l.World.PID: true}
	for _, n := range append(l.Authorities, l.Mixes...) {
		pids[n.PID] = true
	}
	for i := range l.Relays {
		pids[l.Relays[i].PID], pids[l.Proxies[i].PID] = true, true
	}
	if len(pids) != 1+1+3+6+2+2 || pids[0] {
		t.Errorf("these are not fifteen processes: %v", pids)
	}
	from, to := &l.Proxies[0], &l.Proxies[1]
	const text = "hello through the mixes\n\nand a second paragraph"
	from.swaks(t, to.Account, labMail(from.Account, to.Account, "the first one", text)).want(t, swaksOK, "250 2.0.0 queued, arrives in")
	to.await(t, 1, 4*time.Minute)
	got := to.fetch(t, 1)
	if bodyOf(t, got) != strings.ReplaceAll(text, "\n", "\r\n") {
		t.Errorf("it came as %q", got)
	}
	if n := to.list(t); n != 1 {
		t.Errorf("%d mails came", n)
	}
	t.Run("page", l.page)
	l.quiet(t)

	if code := l.stop(t); code != 0 {
		t.Errorf("exit code %d after Ctrl-C", code)
	}
	for pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d is left", pid)
		}
	}
	l.run(t) // the same directory goes on
	from, to = &l.Proxies[0], &l.Proxies[1]
	if n := to.list(t); n != 1 {
		t.Errorf("%d mails after a restart", n)
	}
	to.swaks(t, from.Account, labMail(to.Account, from.Account, "Re: the first one", "and back")).want(t, swaksOK)
	from.await(t, 1, 4*time.Minute)
	if got := bodyOf(t, from.fetch(t, 1)); got != "and back" {
		t.Errorf("it came as %q", got)
	}
	l.quiet(t)
}

// quiet looks into the logs of the relays: each has found its DNS records in order, at each of its starts,
// and warns of nothing.
func (l *testLab) quiet(t *testing.T) {
	t.Helper()
	for _, r := range l.Relays {
		eventually(t, time.Minute, func() error {
			log, err := os.ReadFile(filepath.Join(l.dir, "logs", r.Name+".log"))
			if err != nil {
				return err
			}
			if starts, found := strings.Count(string(log), "msg=ready "), strings.Count(string(log), "the DNS records are in order"); starts == 0 || found < starts {
				return fmt.Errorf("%s found its DNS records in order %d times of %d:\n%s", r.Name, found, starts, log)
			}
			return nil
		})
		log, err := os.ReadFile(filepath.Join(l.dir, "logs", r.Name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, "has too few mixes") {
				continue // true while a network begins, where the machine is slow
			}
			if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
				t.Errorf("%s: %s", r.Name, line)
			}
		}
	}
}

// page looks at the live page: with and without JavaScript, on a phone's screen, it shows every part;
// with it, packets move.
func (l *testLab) page(t *testing.T) {
	t.Helper()
	parts := []string{"world", "relay1", "relay2", "proxy1", "proxy2", "authority1", "mix6"}
	b := startBrowser(t, 360, 740, true)
	b.open(l.Page)
	plain := b.html()
	for _, name := range parts {
		if !strings.Contains(plain, `<th scope="row">`+name+"</th>") {
			t.Errorf("%s is not on the page without JavaScript", name)
		}
	}
	if w := b.width(); w > 360 {
		t.Errorf("the page is %d pixels wide on a screen of 360", w)
	}
	if strings.Contains(plain, l.Proxies[0].Password) || strings.Contains(plain, l.Proxies[0].Account) {
		t.Error("the page tells accounts or passwords")
	}
	b.do(nil, "Emulation.setScriptExecutionDisabled", map[string]any{"value": false})
	b.open(l.Page)
	eventually(t, time.Minute, func() error {
		if b.find("#packets .packet") == 0 {
			return errors.New("no packet moves")
		}
		return nil
	})
	if shots := os.Getenv("POSTERN_SCREENSHOTS"); shots != "" {
		b.screenshot(filepath.Join(shots, "lab.png"))
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, l.Page, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("under another name the page answers %d", res.StatusCode)
	}
}
