package interop

import (
	"encoding/json"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// labNym is a reply address as `postern proxy nyms` shows it.
type labNym struct {
	Name, Address, Problem string
	Blocks                 int
	Until                  time.Time
}

// nyms lists the reply addresses of a proxy.
func (p *labProxy) nyms(t testing.TB) []labNym {
	t.Helper()
	r := command(t, nil, binary(t), "proxy", "nyms", "list", "-f", p.Config, "--json")
	r.want(t, 0)
	var out struct {
		Addresses []labNym `json:"reply_addresses"`
	}
	if err := json.Unmarshal([]byte(r.out), &out); err != nil {
		t.Fatal(err)
	}
	return out.Addresses
}

// anonymousMail is one that goes under a name.
func anonymousMail(p *labProxy, name, to, subject, body string) []byte {
	return append([]byte("X-Postern-Anonymous: "+name+"\r\nUser-Agent: canary\r\nDate: Thu, 26 Nov 2026 20:00:07 +0900\r\nMessage-ID: <canary@laptop>\r\n"), labMail(p.Account, to, subject, body)...)
}

// noTrace fails if a mail tells of the account that it is from.
func noTrace(t *testing.T, p *labProxy, mail []byte) {
	t.Helper()
	text := strings.ToLower(string(mail))
	user, _, _ := strings.Cut(p.Account, "@")
	for _, canary := range []string{user, "canary", "+0900", "swaks", "127.0.0.1"} {
		if strings.Contains(text, canary) {
			t.Errorf("%q is in %q", canary, mail)
		}
	}
}

// nobody: somebody writes without a name, to another proxy and into the world, and both answers come back:
// through the relay of the reply address, which does not know whose it is.
func (l *testLab) nobody(t *testing.T) {
	p, other, w := &l.Proxies[0], &l.Proxies[1], &l.World
	began := time.Now()
	have := other.list(t)
	p.swaks(t, other.Account, anonymousMail(p, "Fox", other.Account, "a hint", "from nobody")).want(t, swaksOK, "250 2.0.0 queued anonymously, arrives in", "answers reach you as long as this proxy is on line at least once every 48 hours")
	other.await(t, have+1, 4*time.Minute)
	got := other.fetch(t, have+1)
	t.Logf("the first anonymous mail came after %v", time.Since(began).Round(time.Second))
	list := p.nyms(t)
	if len(list) != 1 || list[0].Name != "Fox" || list[0].Blocks == 0 || time.Until(list[0].Until) < 40*time.Hour {
		t.Fatalf("%+v", list)
	}
	fox := list[0].Address
	if bodyOf(t, got) != "from nobody" || !strings.Contains(string(got), "From: \"[Anon] Fox\" <"+fox+">") || !strings.Contains(string(got), "X-Postern-Sender: anonymous") {
		t.Errorf("it came as %q", got)
	}
	noTrace(t, p, got)

	mine := p.list(t)
	other.swaks(t, fox, labMail(other.Account, fox, "Re: a hint", "who are you?")).want(t, swaksOK)
	p.await(t, mine+1, 4*time.Minute)
	got = p.fetch(t, mine+1)
	if bodyOf(t, got) != "who are you?" || !strings.Contains(string(got), "; for reply address "+fox+" (\"Fox\")") || !strings.Contains(string(got), "From: <"+other.Account+">") {
		t.Errorf("the answer came as %q", got)
	}

	// Into the world, and back: with the reply address as a mail program's identity.
	n := curlCount(t, w.POP3, w.Account, w.Password)
	p.swaksAs(t, fox, w.Account, labMail(fox, w.Account, "to the world", "still nobody")).want(t, swaksOK, "250 2.0.0 queued anonymously")
	awaitPOP3(t, w.POP3, w.Account, w.Password, n+1, 4*time.Minute)
	got = curlFetch(t, w.POP3, w.Account, w.Password, n+1)
	if !strings.Contains(string(got), "still nobody") || !strings.Contains(string(got), "Reply-To: <"+fox+">") || !strings.Contains(string(got), "[Anon] Fox") {
		t.Errorf("it came as %q", got)
	}
	noTrace(t, p, got)
	mine = p.list(t)
	swaksPlain(t, w.Submission, w.Account, w.Password, w.Account, fox, labMail(w.Account, fox, "Re: to the world", "an ordinary answer")).want(t, swaksOK)
	p.await(t, mine+1, 4*time.Minute)
	got = p.fetch(t, mine+1)
	if bodyOf(t, got) != "an ordinary answer" || !strings.Contains(string(got), "world (unencrypted mail from the Internet); for reply address "+fox) {
		t.Errorf("the answer came as %q", got)
	}

	// A mail that cannot be delivered comes back to nobody, too.
	mine = p.list(t)
	_, domain, _ := strings.Cut(l.Relays[1].Account, "@")
	p.swaks(t, "stranger@"+domain, append([]byte("X-Postern-Anonymous: Fox\r\n"), mailclient.NewMaker(1).Mail(p.Account, 1000)...)).want(t, swaksOK)
	p.await(t, mine+1, 4*time.Minute)
	got = p.fetch(t, mine+1)
	if !strings.Contains(string(got), "Final-Recipient: rfc822; stranger@"+domain) || !strings.Contains(string(got), "; for reply address "+fox) {
		t.Errorf("the report came as %q", got)
	}
	t.Logf("all of it took %v", time.Since(began).Round(time.Second))
}

// stormNym is a reply address that some mails are for.
type stormNym struct {
	mu      sync.Mutex
	address string // empty: it has no reply blocks yet
	mails   int    // that are still to be handed in for it
}

// take gives the address for one mail; empty: the mail is for the account itself.
func (n *stormNym) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.address == "" || n.mails == 0 {
		return ""
	}
	n.mails--
	return n.address
}

func (n *stormNym) left() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mails > 0
}

// stormNyms has each proxy make a reply address for so many mails, while the lab is disturbed.
func (l *testLab) stormNyms(t *testing.T, mails int) (all []*stormNym) {
	t.Helper()
	for i := range l.Proxies {
		n := &stormNym{mails: mails}
		all = append(all, n)
		if mails == 0 {
			continue
		}
		p := &l.Proxies[i]
		go func() {
			for t.Context().Err() == nil {
				// It fails while the proxy is being started again; the same name has the same address.
				out, err := exec.CommandContext(t.Context(), binary(t), "proxy", "nyms", "make", "Storm", "-f", p.Config, "--json").Output()
				var made labNym
				if err == nil && json.Unmarshal(out, &made) == nil && made.Blocks >= mails+8 {
					n.mu.Lock()
					n.address = made.Address
					n.mu.Unlock()
					return
				}
				select {
				case <-t.Context().Done():
				case <-time.After(time.Second):
				}
			}
		}()
	}
	return all
}
