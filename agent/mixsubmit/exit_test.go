package mixsubmit

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/kit/errs"
	"postern.email/mail/pgpmime"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/token"
)

// mint is the account's relay as it gives tokens.
type mint struct {
	w     *world
	key   *token.PrivateKey
	most  int // that it gives at once
	asked []int
	last  string
	same  int // requests that were those before
	err   error
}

func (m *mint) fetch(_ context.Context, request []byte) ([]byte, error) {
	day, list, err := token.ParseRequest(request)
	if err != nil || day != token.DayOf(m.w.Clock.Now()) {
		return nil, errs.E("test", errs.Invalid, "", err)
	}
	m.asked = append(m.asked, len(list))
	if m.last == string(request) {
		m.same++
	}
	m.last = string(request)
	if m.err != nil {
		return nil, m.err
	}
	var out []byte
	for _, b := range list[:m.most] {
		sig, err := m.key.Sign(b)
		if err != nil {
			return nil, err
		}
		out = append(out, sig...)
	}
	return out, nil
}

// mintKey is costly, so it is made once.
var mintKey = sync.OnceValues(func() (*token.PrivateKey, error) { return token.GenerateKey(rand.Reader) })

// exits makes the relay of a domain an exit, and the account's relay one that gives tokens.
func (w *world) exits(domain string, flags uint64) *mint {
	w.TB.Helper()
	m := &mint{w: w, most: tokensADay}
	var err error
	m.key, err = mintKey()
	must(w.TB, err)
	w.anna.Fetch = m.fetch
	e := w.net.Consensus.Find(agenttest.Relay(w.TB, domain))
	e.Parameters = directory.Parameters{{Name: directory.ExitParameter, Value: flags}}
	m.day()
	return m
}

// day puts the key of the day into the consensus.
func (m *mint) day() {
	own := m.w.net.Consensus.Find(m.w.anna.Home.Relay)
	own.TokenKeys = []directory.TokenKey{{Day: uint32(token.DayOf(m.w.Clock.Now())), Key: m.key.Public().Bytes()}}
}

// checkToken wants a token that is good, and gives its name.
func (m *mint) checkToken(b []byte) string {
	m.w.TB.Helper()
	t, err := token.Parse(b)
	must(m.w.TB, err)
	must(m.w.TB, t.Verify(m.key.Public(), m.w.Clock.Now(), directory.MaxSkew))
	n := t.Nonce()
	return string(n[:])
}

// TestWorld: mail for other hosts goes to an exit with a token, a letter for up to five recipients; each
// token is for one letter, and they are asked for once a day, whatever is sent.
func TestWorld(t *testing.T) {
	w := newWorld(t, nil, nil)
	m := w.exits(domain, directory.ExitMail)
	w.run()
	w.run()
	if fmt.Sprint(m.asked) != "[20]" {
		t.Errorf("asked %v before there is mail", m.asked)
	}
	var to []string
	for i := range 7 {
		to = append(to, fmt.Sprintf("u%d@world.example", i))
	}
	w.want("250 queued, arrives", encrypted(), append(to, "x@two.example")...)
	w.run()
	all := w.carry()
	names, rcpts := map[string]bool{}, 0
	for _, c := range all {
		v := w.check(c)
		if v.Mail.Recipients[0].Domain == other {
			if len(v.Mail.Token) != 0 {
				t.Error("a token for a relay")
			}
			continue
		}
		if c.Message.Relay != w.anna.Home.Relay || c.Message.Kind != content.Mail || !c.Message.Ack {
			t.Errorf("%v", c.Message.Relay)
		}
		names[m.checkToken(v.Mail.Token)] = true
		rcpts += len(v.Mail.Recipients)
	}
	if len(all) != 3 || len(names) != 2 || rcpts != 7 {
		t.Errorf("%d letters, %d tokens, %d recipients", len(all), len(names), rcpts)
	}
	w.Clock.Add(24 * time.Hour)
	m.day()
	w.run()
	if fmt.Sprint(m.asked) != "[20 20]" {
		t.Errorf("asked %v on two days", m.asked)
	}
	if got := len(w.s.spools[w.anna.Address].tokens.state.Tokens); got != 38 {
		t.Errorf("%d tokens", got)
	}
	w.Clock.Add(token.GoodDays * 24 * time.Hour)
	w.want("250 ", encrypted(), "u@world.example")
	w.run()
	if len(w.carry()) != 0 { // all are too old, and the relay has no key of today
		t.Error("an old token was used")
	}
	left, err := w.s.Waiting()
	must(t, err)
	if len(left) != 1 || !strings.Contains(left[0].Why, "there will be others tomorrow") {
		t.Errorf("%+v", left)
	}
	m.day()
	w.Clock.Add(askPause)
	w.run()
	w.run() // with the tokens, what waited for one goes on at once
	if len(w.carry()) != 1 {
		t.Error("it does not go on")
	}
}

// TestWorldPolicy: cleartext leaves only where the user and the exit want it; a key that came with mail
// goes before that; without an exit the recipient is refused.
func TestWorldPolicy(t *testing.T) {
	for _, c := range []struct {
		exit  string // the domain whose relay is one
		flags uint64
		clear bool
		key   bool
		want  string
	}{
		{domain, directory.ExitMail, false, false, "523 5.7.10"},
		{domain, directory.ExitMail, true, false, "523 5.7.10"},
		{domain, directory.ExitMail | directory.ExitCleartext, false, false, "523 5.7.10"},
		{domain, directory.ExitMail | directory.ExitCleartext, true, false, "250 "},
		{domain, directory.ExitMail | directory.ExitCleartext, true, true, "250 "},
		{domain, directory.ExitMail, false, true, "250 "},
		{domain, directory.ExitCleartext, true, true, "550 5.1.2"},
		{other, directory.ExitMail | directory.ExitCleartext, true, false, "550 5.1.2"}, // it sends for its own domains only
		{other, directory.ExitMail | directory.ExitForeign | directory.ExitCleartext, true, false, "250 "},
	} {
		w := newWorld(t, nil, func(o *Options) { o.AllowCleartext = c.clear })
		m := w.exits(c.exit, c.flags)
		m.most = 1
		if c.key {
			w.s.Saw(w.anna.Address, w.Address("u@world.example"), w.autocrypt("u@world.example", w.Clock.Now()))
		}
		w.run()
		got := w.send(plain(), "u@world.example")
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: %s", c, got)
			continue
		}
		if c.want != "250 " {
			continue
		}
		w.run()
		all := w.carry()
		if len(all) != 1 {
			t.Errorf("%+v: %d letters", c, len(all))
			continue
		}
		v := w.check(all[0])
		m.checkToken(v.Mail.Token)
		if all[0].Message.Relay != agenttest.Relay(t, c.exit) || pgpmime.Check(v.Mail.Raw, pgpmime.Outgoing, nil).Encrypted != c.key {
			t.Errorf("%+v: %s", c, v.Mail.Raw)
		}
	}
	w := newWorld(t, nil, nil)
	w.want("550 5.1.2", encrypted(), "u@world.example")
	w.exits(domain, directory.ExitMail)
	w.want("550 5.1.2", encrypted(), "u@localhost")
	w.anna.Fetch = nil
	w.want("550 5.1.2", encrypted(), "u@world.example")
}

// TestTokens: what a relay gives of what was asked for is used; one that gives none is asked again after a
// pause; tokens survive a restart, and none is given twice.
func TestTokens(t *testing.T) {
	w := newWorld(t, nil, nil)
	m := w.exits(domain, directory.ExitMail)
	m.err = errs.Unavailable
	w.run()
	w.run()
	if fmt.Sprint(m.asked) != "[20]" {
		t.Errorf("asked %v", m.asked)
	}
	const few = 4
	m.err, m.most = nil, few
	w.Clock.Add(firstAskPause) // the first pause is short: a proxy that was just started has no line yet
	w.run()
	if fmt.Sprint(m.asked) != "[20 20]" || m.same != 1 {
		t.Errorf("asked %v, the same %d times", m.asked, m.same)
	}
	seen := map[string]bool{}
	for range few {
		sp, err := openSpool(w.anna, rand.Reader) // as after a restart
		must(t, err)
		b, err := sp.tokens.take(sp, w.Clock.Now())
		must(t, err)
		seen[m.checkToken(b)] = true
	}
	if len(seen) != few {
		t.Errorf("%d different tokens", len(seen))
	}
	sp, err := openSpool(w.anna, rand.Reader)
	must(t, err)
	if _, err := sp.tokens.take(sp, w.Clock.Now()); errs.KindOf(err) != errs.NotFound {
		t.Errorf("%v", err)
	}
}

// TestTokensSlow: while an answer is awaited nothing is asked again, however long that takes, and each
// token is in the wallet once.
func TestTokensSlow(t *testing.T) {
	w := newWorld(t, nil, nil)
	m := w.exits(domain, directory.ExitMail)
	began, release := make(chan struct{}, 10), make(chan struct{})
	var mu sync.Mutex
	w.anna.Fetch = func(ctx context.Context, request []byte) ([]byte, error) {
		began <- struct{}{}
		<-release
		mu.Lock()
		defer mu.Unlock()
		return m.fetch(ctx, request)
	}
	var wg sync.WaitGroup
	w.s.pass(t.Context(), &wg)
	<-began
	for range 3 {
		w.Clock.Add(askPause)
		w.s.pass(t.Context(), &wg)
	}
	close(release)
	wg.Wait()
	names, all := map[string]bool{}, w.s.spools[w.anna.Address].tokens.state.Tokens
	for _, b := range all {
		names[m.checkToken(b)] = true
	}
	if len(all) != tokensADay || len(names) != tokensADay || len(m.asked) != 1 {
		t.Errorf("%d tokens, %d different ones, asked %v", len(all), len(names), m.asked)
	}
}
