package relay

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"postern.email/agent/road"
	"postern.email/kit/config"
	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/passhash"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	webalias "postern.email/wire/alias"
)

// orNever gives the length of time that an agent understands: it takes zero for
// its default and a negative one for never.
func orNever(d config.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d.Std()
}

// orNone is orNever for numbers.
func orNone(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// Check finds options that are each in order and make no sense together.
func (c Config) Check() error {
	bad := func(text string) error { return errs.E("role/relay.Check", errs.Invalid, text, nil) }
	switch {
	case c.Accounts.UsernameMinLength > c.Accounts.UsernameMaxLength:
		return bad("accounts.username_min_length is greater than accounts.username_max_length")
	case c.checkTLS() != "":
		return bad(c.checkTLS())
	case !accountOptions(c).Params.Valid():
		return bad("password.memory must be at least 8K for each of password.threads")
	case c.Exchange.Remember.Std()%day != 0: // the day is all that is kept
		return bad("exchange.remember must be a number of whole days, such as 3d, or 0 for not at all")
	case c.Delivery.FirstRetry > c.Delivery.LastRetry:
		return bad("delivery.first_retry is greater than delivery.last_retry")
	case c.DKIM.Overlap < c.Delivery.Lifetime:
		return bad("dkim.rotate_overlap is shorter than delivery.lifetime: mail would arrive with a signature that nobody can check")
	case c.Aliases.Undo.Std()%day != 0:
		return bad("aliases.undo must be a number of whole days, such as 30d")
	case c.Aliases.DeleteUnused.Std()%day != 0:
		return bad("aliases.delete_unused_after must be a number of whole days, such as 90d, or 0 for never")
	case !webalias.ValidPath(c.Aliases.WebSocketPath):
		return bad("aliases.websocket_path must begin with a slash and lie outside of /aliases and /api")
	case c.checkMix() != "":
		return bad(c.checkMix())
	case c.Accounts.DeleteInactiveAfter.Std()%day != 0: // the day of the last login is all that is kept
		return bad("accounts.delete_inactive_after must be a number of whole days, such as 90d, or 0 for never")
	}
	if _, err := road.ParseRoutes(c.Delivery.Routes); err != nil {
		return bad("delivery.routes: " + errs.Public(err))
	}
	return nil
}

const day = 24 * time.Hour

// expireDays is how POP3 tells how long mail is kept (RFC 2449 §6.7): whole days, and a
// part of a day is one, as 0 would say that nothing is kept; here 0 is for ever.
func expireDays(age time.Duration) int { return int((age + day - 1) / day) }

func accountOptions(c Config) account.Options {
	a, p := &c.Accounts, &c.Password
	reuse, _ := config.AfterDays(a.Reuse) // checked by the configuration
	return account.Options{
		Domains: []string{c.Domain},
		MinName: a.UsernameMinLength, MaxName: a.UsernameMaxLength, MinPassword: a.PasswordMinLength,
		Params: passhash.Cost{Time: uint32(p.Time), Memory: uint32(p.Memory >> 10), Threads: uint8(p.Threads)},
		Grace:  orNever(a.LoginGrace), MaxIdleKeys: a.MaxIdleKeys,
		GateQueue: p.Queue, GateWait: p.Wait.Std(),
		CreatePerMinute: orNone(a.CreatePerMinute), CreateBurst: a.CreatePerMinute, CreateNetworkPerMinute: orNone(a.CreatePerNetwork), CreateNetworkBurst: 5 * a.CreatePerNetwork,
		InactiveDays: orNone(int(a.DeleteInactiveAfter.Std() / day)), ReuseAfterDays: reuse,
	}
}

func mailboxOptions(c Config) mailbox.Options {
	m := &c.Mail
	return mailbox.Options{Quota: int64(m.MaxMailboxSize), MaxMessage: int64(m.MaxMessageSize),
		MailAge: orNever(m.DeleteAfter), LargeAge: orNever(m.DeleteLargeAfter),
		ExpireEvery: m.ExpireEvery.Std(), PurgeEvery: m.PurgeEvery.Std()}
}

// mayCreate is asked before a login makes a new address. It reads the machine's
// state afresh: a creation costs a password hash, next to which this is nothing.
func (s *Server) mayCreate() error {
	const op = "role/relay.mayCreate"
	a := &s.c.Accounts
	if f := a.NoCreateFile; f != "" {
		// A file that is there and cannot be looked at closes the door too.
		if _, err := s.d.FS.Stat(f); !errors.Is(err, fs.ErrNotExist) {
			return errs.E(op, errs.Denied, "no new addresses are made here now", nil)
		}
	}
	if a.MaxLoad > 0 {
		if v, err := s.d.System.Load1(); err == nil && v > a.MaxLoad {
			return errs.E(op, errs.Busy, "the server is too busy for new addresses; try again later", nil)
		}
	}
	if a.MinAvailableMemory > 0 {
		if v, err := s.d.System.MemAvailable(); err == nil && v < int64(a.MinAvailableMemory) {
			return errs.E(op, errs.Busy, "the server has too little memory for new addresses now; try again later", nil)
		}
	}
	if a.MinFreeDiskSpace > 0 {
		if v, err := s.d.System.DiskFree(); err == nil && v < int64(a.MinFreeDiskSpace) {
			return errs.E(op, errs.NoSpace, "the server has too little disk space for new addresses now; try again later", nil)
		}
	}
	return s.mayWrite()
}

// mayWrite is asked before a mail is taken.
func (s *Server) mayWrite() error {
	const op = "role/relay.mayWrite"
	if err := s.db.Health(); err != nil {
		return errs.E(op, errs.Unavailable, "the server's disk failed; nothing is accepted until it was restarted", err)
	}
	if least := int64(s.c.Mail.MinFreeSpace); least > 0 {
		if v, err := s.d.System.DiskFree(); err == nil && v < least {
			return errs.E(op, errs.NoSpace, "insufficient system storage", nil)
		}
	}
	return nil
}

// metadata is what GETMETADATA "" tells clients (RFC 5464 and the keys of
// chat-mail clients).
func (s *Server) metadata(context.Context) map[string]string {
	m := &s.c.Metadata
	return map[string]string{
		"/shared/admin":                              m.Admin,
		"/shared/comment":                            m.Comment,
		"/shared/vendor/deltachat/irohrelay":         m.Iroh,
		"/shared/vendor/deltachat/maxsmtprecipients": itoa(s.c.Submission.MaxRecipients),
	}
}

// supervise runs a worker until the server closes; one that ends by itself is
// reported on Broken.
func (s *Server) supervise(ctx context.Context, name string, fn func(context.Context) error) func() {
	return daemon.Part(ctx, s.d.Logger, "relay", name, s.broken, fn)
}
