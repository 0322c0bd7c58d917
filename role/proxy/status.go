package proxy

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"postern.email/agent/mixclient"
	"postern.email/agent/mixsubmit"
	"postern.email/kit/errs"
	"postern.email/mixnet/client"
	"postern.email/post/keybook"
)

// Info is where a running proxy is reached.
type Info struct {
	Ready      bool          `json:"ready"`
	Dir        string        `json:"dir"`
	SMTP       string        `json:"smtp,omitempty"`
	POP3       string        `json:"pop3,omitempty"`
	IMAP       string        `json:"imap,omitempty"`
	Page       string        `json:"page,omitempty"`
	Management string        `json:"management,omitempty"`
	Accounts   []AccountInfo `json:"accounts"`
}

// AccountInfo is an account in Info.
type AccountInfo struct {
	Address   string `json:"address"`
	Connected bool   `json:"connected"`
}

// Status is what `postern proxy status` shows.
type Status struct {
	Info
	Version  string          `json:"version"`
	PID      int             `json:"pid"`
	Since    time.Time       `json:"since"`
	Health   string          `json:"health"` // "ok", or what is wrong and whether mail is safe
	Warnings []string        `json:"warnings,omitempty"`
	Lines    []AccountStatus `json:"lines"`
	Keys     KeyStatus       `json:"keys"`
}

// KeyStatus tells of the recipients' keys.
type KeyStatus struct {
	Known      int      `json:"known"`
	Unverified []string `json:"unverified,omitempty"` // came from a relay, and nobody has compared them
	Changed    []string `json:"changed,omitempty"`    // mail to them is held
	Unreadable []string `json:"unreadable,omitempty"` // files
}

// AccountStatus is how an account stands.
type AccountStatus struct {
	Address    string    `json:"address"`
	Registered bool      `json:"registered"`
	Password   bool      `json:"password"`
	Connected  bool      `json:"connected"`
	Problem    string    `json:"problem,omitempty"`
	Notes      []string  `json:"notes,omitempty"`
	Relay      string    `json:"relay,omitempty"` // beginning of its node ID
	Network    string    `json:"network,omitempty"`
	Waiting    []Waiting `json:"waiting,omitempty"`
	Ended      []Ended   `json:"ended,omitempty"` // of the last week
	Sent       int       `json:"sent"`            // packets of mail since the start
	Received   int       `json:"received"`
	Cover      int       `json:"cover"` // packets of cover traffic since the start
	Loops      int       `json:"loops"`
	LoopsBack  int       `json:"loops_back"`
	LoopsLost  int       `json:"loops_lost"`
	Size       int64     `json:"size,omitempty"`             // largest mail in bytes
	Fetch      float64   `json:"fetch_seconds,omitempty"`    // mean time between two packets that come
	Send       float64   `json:"send_seconds,omitempty"`     // and between two packets of mail
	Leave      float64   `json:"leave_seconds,omitempty"`    // and between two that leave, of any sort
	Directory  string    `json:"directory,omitempty"`        // why the network's directory is not known now
	Until      time.Time `json:"certificate_until,omitzero"` // until when the relay vouches for the account's keys
	Expired    bool      `json:"certificate_expired,omitempty"`

	ReplyAddresses []ReplyAddress `json:"reply_addresses,omitempty"`
	Refused        []Refused      `json:"refused,omitempty"` // of the last days
}

// Refused is a recipient who did not get a mail that had left the network, as a report in the account's
// mailbox says.
type Refused struct {
	To     string    `json:"to"`
	Status string    `json:"status,omitempty"` // RFC 3463
	Sent   time.Time `json:"sent"`
	Told   time.Time `json:"told"`
}

// Waiting is a mail on its way. Addresses are the user's own business: they are shown to its user
// and in no log.
type Waiting struct {
	ID      string    `json:"id"`
	To      []string  `json:"to"` // those who are not settled
	Size    int64     `json:"size"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"` // then it is given back
	Packets int       `json:"packets"` // 0: none were made yet
	Sent    int       `json:"sent"`
	Acked   int       `json:"acked"` // on the disk of the recipient's relay
	Why     string    `json:"why,omitempty"`
	Mean    float64   `json:"mean_seconds,omitempty"` // until it has arrived
	P95     float64   `json:"p95_seconds,omitempty"`  // of 100 mails 95 are faster
}

// Ended is a letter whose end is known.
type Ended struct {
	Result  string    `json:"result"` // delivered, sent, failed, canceled
	Note    string    `json:"note,omitempty"`
	Why     string    `json:"why,omitempty"`
	Packets int       `json:"packets"`
	Created time.Time `json:"created"`
	Ended   time.Time `json:"ended"`
}

// Info tells where the running proxy is reached.
func (s *Server) Info() Info {
	i := Info{Ready: true, Dir: s.c.Proxy.DataDir, SMTP: s.at("SMTPAddress"), POP3: s.at("POP3Address"), IMAP: s.at("IMAPAddress"), Page: s.pageURL(), Accounts: []AccountInfo{}}
	if s.c.Management.Enable && !s.d.NoSockets {
		i.Management = s.c.Management.Path
	}
	for _, u := range s.users {
		i.Accounts = append(i.Accounts, AccountInfo{u.Address.String(), u.connected()})
	}
	return i
}

func (u *user) connected() bool {
	live, err := u.running()
	return err == nil && live.Status().Link.Connected
}

// Status tells how the proxy stands.
func (s *Server) Status() Status {
	st := Status{Info: s.Info(), Version: s.d.Version, PID: os.Getpid(), Since: s.started.UTC(), Health: "ok", Warnings: s.c.Warnings(), Lines: []AccountStatus{}}
	if err := s.mayWrite(); err != nil {
		st.Health = errs.Public(err)
	}
	waiting := s.mail.waiting()
	for _, u := range s.users {
		st.Lines = append(st.Lines, u.status(waiting[u.Address.Canonical()]))
	}
	for _, e := range s.book.List() {
		st.Keys.Known++
		switch e.State {
		case keybook.Discovered:
			st.Keys.Unverified = append(st.Keys.Unverified, e.Address.String())
		case keybook.Changed:
			st.Keys.Changed = append(st.Keys.Changed, e.Address.String())
		}
	}
	for _, b := range s.book.Bad() {
		st.Keys.Unreadable = append(st.Keys.Unreadable, b.Name+": "+errs.Public(b.Err))
	}
	return st
}

// status tells how one account stands, of which these mails wait.
func (u *user) status(waiting []mixsubmit.Waiting) AccountStatus {
	u.mu.Lock()
	c, live, problem := u.client, u.live, u.problem
	st := AccountStatus{Address: u.Address.String(), Registered: c != nil, Notes: append([]string(nil), u.notes...)}
	u.mu.Unlock()
	st.Password, _ = u.s.hasPassword(context.Background(), u)
	if problem != nil {
		st.Problem = errs.Public(problem)
	}
	if c == nil {
		return st
	}
	st.Relay, st.Network = short(c.Relay()), c.Network().Name()
	if cert, err := u.certificate(); err == nil {
		st.Until, st.Expired = cert.Until.UTC(), !u.s.d.Now().Before(cert.Until)
	}
	cons, err := c.Consensus()
	if err == nil {
		st.rates(cons.Parameters)
	} else {
		st.Directory = errs.Public(err)
	}
	if live != nil {
		l := live.Status()
		st.Connected, st.Sent, st.Received, st.Cover, st.Loops, st.LoopsBack, st.LoopsLost = l.Link.Connected, l.Sent, l.Received, l.Drops+l.Loops, l.Loops, l.Back, l.Lost
		switch {
		case !l.Link.Connected && l.Link.Err != nil:
			st.Problem = errs.Public(l.Link.Err)
		case l.Problem != nil:
			st.Problem = errs.Public(l.Problem)
		}
	}
	st.mails(waiting, messages(c, live))
	st.ReplyAddresses, _ = u.replyAddresses()
	back, _ := u.s.mail.out.Refused(u.Address.Canonical())
	for _, r := range back {
		st.Refused = append(st.Refused, Refused{To: r.To.String(), Status: r.Status, Sent: r.Sent, Told: r.Told})
	}
	return st
}

// mails fills in what waits and what has ended.
func (a *AccountStatus) mails(waiting []mixsubmit.Waiting, list []client.Progress) {
	known := make(map[string]client.Progress)
	for _, p := range list {
		known[p.Name] = p
		if p.Result != "" {
			a.Ended = append(a.Ended, Ended{Result: string(p.Result), Note: p.Note, Why: p.Why, Packets: p.Packets, Created: p.Created.UTC(), Ended: p.Ended.UTC()})
		}
	}
	for _, m := range waiting {
		w := Waiting{ID: m.ID, Size: m.Size, Created: m.Created.UTC(), Expires: m.Expires.UTC(), Why: m.Why}
		for _, to := range m.To {
			w.To = append(w.To, to.String())
		}
		for _, name := range m.Names {
			p := known[name]
			w.Packets, w.Sent, w.Acked = w.Packets+p.Packets, w.Sent+p.Sent, w.Acked+p.Acked
			w.Mean, w.P95 = max(w.Mean, p.Expect.Mean.Seconds()), max(w.P95, p.Expect.P95.Seconds())
			if w.Why == "" {
				w.Why = p.Why
			}
		}
		a.Waiting = append(a.Waiting, w)
	}
}

// messages are those in the client's store, with forecasts where it runs.
func messages(c *mixclient.Client, live *client.Client) []client.Progress {
	list, err := c.Store().List()
	if live != nil {
		list, err = live.Messages()
	}
	if err != nil {
		return nil
	}
	return list
}

// Words tells in sentences how an account stands: connected or not, what waits and when it
// arrives, what protects.
func (a *AccountStatus) Words() (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch {
	case !a.Registered:
		say("Not registered with its relay: nothing is sent or received.")
	case a.Connected:
		say("Connected to its relay.")
	default:
		say("Not connected to its relay. What is handed in waits on this disk; what comes waits at the relay.")
	}
	if a.Problem != "" {
		say("Problem: %s.", a.Problem)
	}
	out = append(out, a.Notes...)
	if a.Directory != "" {
		say("The directory of the network is not known now, so that nothing can be sent: %s.", a.Directory)
	}
	if a.Expired {
		say("Until %s the relay vouched for the keys of this account. Others refuse its mail until it does again, which it does over the line.", a.Until.Format("2006-01-02"))
	}
	if !a.Password {
		say("It has no password: mail programs cannot log in, and what has come waits sealed. Set one: postern proxy passwd %s", a.Address)
	}
	switch n := len(a.Waiting); n {
	case 0:
		say("No mail waits to be sent.")
	default:
		say("%s to be sent:", plural(n, "mail waits", "mails wait"))
		for _, w := range a.Waiting {
			say("  %s", w.Words())
		}
	}
	if n := len(a.Refused); n > 0 {
		say("%s, as reports in the INBOX say:", plural(n, "recipient outside of the network did not get a mail of the last days", "recipients outside of the network did not get a mail of the last days"))
		for _, r := range a.Refused {
			say("  %s: refused%s; sent on %s", r.To, status(r.Status), r.Sent.Format("2006-01-02 15:04 UTC"))
		}
	}
	for i := range a.ReplyAddresses {
		say("%s", a.ReplyAddresses[i].Words())
	}
	if a.Send > 0 && a.Connected {
		say("Protection: at random moments a packet leaves, about every %s, and one comes, about every %s, whether there is mail or not; who watches the line does not see when you write, how much, or with whom. %s since the start.",
			span(seconds64(a.Leave)), span(seconds64(a.Fetch)), plural(a.Cover, "packet of cover", "packets of cover"))
	}
	if a.Registered && !a.Connected {
		say("Protection: while there is no connection, an observer sees that this proxy is off line.")
	}
	if a.LoopsBack+a.LoopsLost > 0 {
		say("Of the test packets of the last day %d of %d came back.", a.LoopsBack, a.LoopsBack+a.LoopsLost)
	}
	return out
}

// Words tells in a sentence how one mail stands.
func (w *Waiting) Words() string {
	s := strings.Join(w.To, ", ") + ": "
	if w.Packets == 0 {
		s += "not on its way yet"
	} else {
		s += fmt.Sprintf("%d of %s sent, %d acknowledged", w.Sent, plural(w.Packets, "packet", "packets"), w.Acked)
	}
	switch {
	case w.Packets > 0 && w.Acked == 0 && w.Sent == w.Packets:
		s += "; its arrival is not confirmed yet"
	case w.Mean > 0:
		s += fmt.Sprintf("; arrives in about %s, most likely within %s", span(seconds64(w.Mean)), span(seconds64(w.P95)))
	}
	if w.Why != "" {
		s += " (" + w.Why + ")"
	}
	return s
}

// status is the code of a report behind a word.
func status(code string) string {
	if code == "" {
		return ""
	}
	return " (" + code + ")"
}

func seconds64(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// span says a length of time to people, in its two largest units at most.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", max(1, int(d.Round(time.Second).Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Round(time.Hour).Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Round(24*time.Hour).Hours()/24))
}
