package exit

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/kit/ledger"
	"postern.email/mail"
	"postern.email/mail/pgpmime"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/stats"
	"postern.email/mixnet/token"
)

// Send sends a mail on to its recipients. On return with nil it is in the queue, or was before: the
// same mail with the same token may come again, after a crash or because an acknowledgement got lost.
// Recipients that are blocked or have had enough today are passed over, and the error says so only
// if none is left. Kinds of errors, with public texts that name nobody:
//
//   - errs.Denied: policy, or a token that is not good or was spent for another mail
//   - errs.Auth: the token is not signed by its relay
//   - errs.Invalid, errs.Unsupported: no token, or a malformed one; a recipient that is no address
//     in the world
//   - errs.TooLarge: mail or number of recipients
//   - errs.Full: the caps of the day
//   - errs.Busy, errs.NoSpace, errs.Unavailable, errs.Canceled: not now; it may be tried again
//     with the same token
func (e *Exit) Send(ctx context.Context, v *vouch.Vouched) error {
	const op = "agent/exit.Send"
	e.o.Stats.Count(stats.AttemptedDelivery, module)
	err := e.send(ctx, e.c.Load(), v)
	switch k := errs.KindOf(err); {
	case err == nil:
		e.o.Stats.Count(stats.SuccessfulDelivery, module)
	case k.Temporary() && k != errs.Full:
		e.o.Stats.Count(stats.FailedDelivery, module)
	default:
		e.o.Stats.Count(stats.UnretriableDelivery, module)
	}
	return errs.Wrap(op, err)
}

func (e *Exit) send(ctx context.Context, c *Config, v *vouch.Vouched) error {
	const op = "agent/exit.send"
	no := func(kind errs.Kind, text string) error { return errs.E(op, kind, text, nil) }
	m := v.Mail
	switch {
	case v.Kind != vouch.User && v.Kind != vouch.Anonymous:
		return no(errs.Denied, "an exit sends mail of users only")
	case v.Kind == vouch.Anonymous && c.NoAnonymous:
		return no(errs.Denied, "this exit sends no anonymous mail")
	case v.Kind == vouch.User && !c.OtherDomains && !e.o.Ours(v.Address.Canonical().Domain):
		return no(errs.Denied, "this exit sends mail of its own domains only, or anonymous mail")
	case int64(len(m.Raw)) > c.MaxSize:
		return no(errs.TooLarge, fmt.Sprintf("this exit sends mail of up to %d bytes", c.MaxSize))
	case len(m.Recipients) > c.MaxRecipients:
		return no(errs.TooLarge, fmt.Sprintf("this exit sends a mail to up to %d recipients", c.MaxRecipients))
	}
	for _, r := range m.Recipients {
		d := r.Canonical().Domain
		switch {
		case !strings.Contains(strings.Trim(d, "."), ".") || strings.HasPrefix(d, "["):
			return no(errs.Invalid, "a recipient is not at a domain of the world")
		case e.o.Ours(d):
			return no(errs.Denied, "a recipient is at this relay, to which another way leads")
		}
	}
	// The mail as it came: of an anonymous one no exceptions are made, since nobody answers for them.
	verdict := pgpmime.Check(m.Raw, pgpmime.Outgoing, m.Recipients)
	if !verdict.Encrypted && !c.Cleartext {
		return no(errs.Denied, "this exit sends only mail that is end-to-end encrypted")
	}

	t, err := e.token(m.Token)
	if err != nil {
		return err
	}
	key := ledger.Key(e.marks.of("token", tokenName(t)))
	if !e.begin(key) {
		return no(errs.Busy, "the mail is being sent")
	}
	defer e.end(key)
	spent, err := e.spent.get(t.Day)
	if err != nil {
		return err
	}
	of := e.marks.of("mail", m.Append(nil))
	st, err := spendable(spent, key, of)
	if err != nil || st.done() {
		return err
	}
	now := e.o.Now()
	again := st.begun() && st.mask() != 0
	var rcpts []mail.Address
	if again {
		rcpts, err = e.still(c, m.Recipients, st)
	} else if rcpts, err = e.allowed(c, m.Recipients, now); err == nil {
		// Counted first: what is counted and not sent harms nobody.
		for _, to := range rcpts {
			if err := e.count(to, now); err != nil {
				return full(err)
			}
		}
		// From here on the token is for this mail and no other, and the mail for these recipients.
		if next := begun(m.Recipients, rcpts); next != st {
			err = full(mark(spent, key, of, next))
		}
	}
	if err != nil {
		return err
	}
	id := append(of[:], key[:]...)
	told, toldID := teller(v)
	for _, to := range rcpts {
		head, tail, err := e.compose(c, v, verdict.Encrypted, to, id, now)
		if err != nil {
			return err
		}
		out := Mail{Name: e.marks.of("copy", append(bytes.Clone(id), to.Canonical().String()...)), From: c.Bounce, To: to, Head: head, Tail: tail}
		if tells, err := e.tells(told, now, again); err != nil {
			return full(err)
		} else if tells {
			out.Tell, out.TellID = told, toldID
		}
		if err := e.o.Out.Hand(ctx, out); err != nil {
			return errs.Wrap(op, err)
		}
	}
	return full(mark(spent, key, of, done))
}

// full turns a ledger without room into an answer for senders: later.
func full(err error) error {
	if err != nil && errs.KindOf(err) == errs.Full {
		return errs.E("agent/exit.full", errs.Busy, "this exit has sent as much today as it can remember", err)
	}
	return err
}

// token reads and verifies a token.
func (e *Exit) token(b []byte) (*token.Token, error) {
	const op = "agent/exit.token"
	if len(b) == 0 {
		return nil, errs.E(op, errs.Invalid, "the mail has no token: a relay gives some to its accounts each day", nil)
	}
	t, err := token.Parse(b)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	cons, err := e.o.Consensus()
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "no directory of the network is known now", err)
	}
	relay := cons.Find(t.Relay)
	if relay == nil || !relay.Mode.Has(directory.Relay) {
		return nil, errs.E(op, errs.Denied, "the token is of a relay that is not in the network", nil)
	}
	now := e.o.Now()
	raw := relay.TokenKey(uint32(t.Day))
	if raw == nil {
		return nil, errs.E(op, errs.Denied, "the directory has no key for the day of the token", nil)
	}
	k, err := token.ParseKey(raw)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return t, errs.Wrap(op, t.Verify(k, now, directory.MaxSkew))
}

// tokenName is what makes a token this token: not its signature, of which there may be several.
func tokenName(t *token.Token) []byte {
	n := t.Nonce()
	b := binary.BigEndian.AppendUint32(nil, uint32(t.Day))
	return append(append(b, t.Relay[:]...), n[:]...)
}

// begin reports whether nobody else works on the token, and takes it.
func (e *Exit) begin(k ledger.Key) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy[k] {
		return false
	}
	e.busy[k] = true
	return true
}

func (e *Exit) end(k ledger.Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.busy, k)
}

// person is what stands for a recipient in lists and counts: the address without what comes
// behind a plus sign, with which one person has many.
func person(a mail.Address) mail.Address {
	a = a.Canonical()
	if i := strings.IndexByte(a.Local, '+'); i > 0 {
		a.Local = a.Local[:i]
	}
	return a
}

// allowed gives the recipients that may get a mail now, each once. Why others may not is told only
// where nobody is left, and not about whom.
func (e *Exit) allowed(c *Config, list []mail.Address, now time.Time) (out []mail.Address, err error) {
	const op = "agent/exit.allowed"
	counts, err := e.sent.get(token.DayOf(now))
	if err != nil {
		return nil, err
	}
	count := func(label, text string) int {
		v, _ := counts.Get(ledger.Key(e.marks.of(label, []byte(text))))
		return int(binary.BigEndian.Uint64(v[:]))
	}
	enough := false
	domains := make(map[string]int)
	for _, a := range list {
		p := person(a)
		switch {
		case slices.ContainsFunc(out, func(o mail.Address) bool { return person(o) == p }):
		case e.refuses(c, a):
		case count("to", p.String()) >= c.PerRecipient, count("domain", p.Domain)+domains[p.Domain] >= c.PerDomain, count("all", "")+len(out) >= c.PerDay:
			enough = true
		default:
			domains[p.Domain]++
			out = append(out, a)
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case enough:
		return nil, errs.E(op, errs.Full, "the recipients get no more mail from this exit today", nil)
	}
	return nil, errNone
}

// errNone: everybody is on the operator's list, or has blocked itself.
var errNone = errs.E("agent/exit.allowed", errs.Denied, "the recipients take no mail from this exit", nil)

// refuses reports whether somebody takes no mail from here.
func (e *Exit) refuses(c *Config, a mail.Address) bool {
	p := person(a)
	return c.Blacklist.Denied(a) || c.Blacklist.Denied(p) || e.isBlocked(p)
}

// count notes a mail that is handed over.
func (e *Exit) count(to mail.Address, now time.Time) error {
	p := person(to)
	for _, k := range [][2]string{{"to", p.String()}, {"domain", p.Domain}, {"all", ""}} {
		if _, err := e.add(k[0], k[1], now, math.MaxInt); err != nil {
			return err
		}
	}
	return nil
}

// add counts one more of something today, up to most. false: there were so many already.
func (e *Exit) add(label, text string, now time.Time, most int) (bool, error) {
	counts, err := e.sent.get(token.DayOf(now))
	if err != nil {
		return false, err
	}
	key, more := ledger.Key(e.marks.of(label, []byte(text))), false
	err = counts.Update(func(get func(ledger.Key) (ledger.Value, bool)) (ledger.Record, bool, error) {
		v, _ := get(key)
		n := binary.BigEndian.Uint64(v[:])
		if more = n < uint64(most); !more {
			return ledger.Record{}, false, nil
		}
		binary.BigEndian.PutUint64(v[:], n+1)
		return ledger.Record{Key: key, Value: v}, true, nil
	})
	return more, err
}
