package relay

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"

	"postern.email/agent/exit"
	"postern.email/agent/mbox"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/blacklist"
	"postern.email/mixnet/directory"
	"postern.email/post/seal"
)

// What an exit and the tokens keep lies in these directories in mixDir; exitPath is where recipients
// block themselves.
const (
	mixExitDir  = "exit"
	mixTokenDir = "tokens"
	exitPath    = "/exit/"
)

// returnAddress is the From of anonymous mail.
func (c *Config) returnAddress() (mail.Address, error) {
	if c.Exit.ReturnAddress == "" {
		return mail.Address{Local: anon.AnonymousLocal, Domain: mail.CanonicalDomain(c.Domain)}, nil
	}
	return mail.ParseAddress(c.Exit.ReturnAddress)
}

// exitConfig is what section exit says.
func (s *Server) exitConfig() (out exit.Config, err error) {
	const op = "role/relay.exitConfig"
	c := &s.c.Exit
	out = exit.Config{Form: mbox.Form{SubjectLine: c.SubjectLine, FromTag: c.FromTag, AllowFrom: c.AllowFrom, Abuse: c.Abuse, Comments: c.Comments, Message: c.Message},
		BlockURL: "https://" + s.c.host() + exitPath, Cleartext: c.Cleartext, NoAnonymous: !c.Anonymous, OtherDomains: c.OtherDomains, MaxSize: int64(c.MaxSize),
		MaxRecipients: c.MaxRecipients, PerRecipient: c.PerRecipient, PerDomain: c.PerDomain, PerDay: c.PerDay}
	if out.Form.ReturnAddress, err = s.c.returnAddress(); err != nil {
		return out, errs.E(op, errs.Invalid, "exit.return_address is no mail address", err)
	}
	if c.Message == "" {
		out.Form.Message = "This is an anonymous message. It left an anonymity network at " + s.c.host() + ", where nobody knows who wrote it."
	}
	if c.Blacklist != "" {
		b, err := vfs.ReadFile(s.d.FS, c.Blacklist)
		if err == nil {
			out.Blacklist, err = blacklist.Parse(bytes.NewReader(b))
		}
		if err != nil {
			return out, errs.E(op, errs.KindOf(err), "exit.blacklist_file: cannot use "+c.Blacklist+": "+errs.Public(err), err)
		}
	}
	return out, nil
}

// exitFlags is what the descriptor says of the mail that leaves here.
func (c *Config) exitFlags() uint64 {
	flags := uint64(directory.ExitMail)
	if c.Exit.Cleartext {
		flags |= directory.ExitCleartext
	}
	if c.Exit.OtherDomains {
		flags |= directory.ExitForeign
	}
	return flags
}

// openExit opens the exit, if this relay is one, and what gives tokens to its users.
func (s *Server) openExit() error {
	const op = "role/relay.openExit"
	m, d := s.mix, &s.d
	secret := func(label string) ([]byte, error) {
		b, err := hkdf.Key(sha256.New, m.keys.LogSecret(), nil, label, 32)
		if err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
		return b, nil
	}
	if s.c.Mixnet.Tokens > 0 {
		key, err := secret("postern/relay tokens")
		if err != nil {
			return err
		}
		m.issuer, err = exit.OpenIssuer(exit.IssuerOptions{FS: d.FS, Dir: s.mixPath(mixTokenDir), Secret: key, PerDay: s.c.Mixnet.Tokens, Generate: d.NewToken, Now: d.Now, Rand: d.Rand, Log: d.Logger})
		if err != nil {
			return errs.Wrap(op, err)
		}
		keys, err := m.issuer.Keys()
		if err != nil {
			return errs.Wrap(op, err)
		}
		m.tokens.Store(&keys)
	}
	if !s.c.Exit.Enabled {
		return nil
	}
	key, err := secret("postern/relay exit")
	if err != nil {
		return err
	}
	c, err := s.exitConfig()
	if err != nil {
		return err
	}
	m.exit, err = exit.New(exit.Options{FS: d.FS, Dir: s.mixPath(mixExitDir), Secret: key, Out: exit.Queue{Deliver: s.deliver, Letters: s.seen},
		Consensus: m.cache.Current, Ours: func(domain string) bool { return s.accounts.Ours(mail.Address{Local: "x", Domain: domain}) },
		Stats: m.stats, Now: d.Now, Rand: d.Rand, Log: d.Logger, Config: c})
	return errs.Wrap(op, err)
}

func (m *mixPart) closeExit() (err error) {
	if m.exit != nil {
		err = m.exit.Close()
	}
	if m.issuer != nil {
		err = errors.Join(err, m.issuer.Close())
	}
	return err
}

// runIssuer makes the key of each new day, and puts it into the descriptor.
func (m *mixPart) runIssuer(ctx context.Context) error {
	return m.issuer.Run(ctx, func(keys []directory.TokenKey) {
		m.tokens.Store(&keys)
		if err := m.node.Reload(m.settings()); err != nil {
			m.s.d.Logger.Warn("the keys of tokens could not be published", "kind", errs.KindOf(err))
		}
	})
}

// giveTokens answers a client that asks for the day's tokens. What the account gets is counted under
// its number, which whoever made it anew by resetting it keeps.
func (m *mixPart) giveTokens(ctx context.Context, id seal.AccountID, request []byte) ([]byte, error) {
	const op = "role/relay.giveTokens"
	if err := m.s.mayHavePackets(ctx, id); err != nil {
		return nil, errs.Wrap(op, err)
	}
	b, err := m.issuer.Answer(ctx, id[:], request)
	return b, errs.Wrap(op, err)
}

// bounced is what receive asks of an address, and tells of a mail to it.
func (s *Server) bounced(to mail.Address, count bool) bool {
	if s.mix == nil || s.mix.exit == nil || !s.mix.exit.IsBounce(to) {
		return false
	}
	if count {
		s.mix.exit.Bounced()
	}
	return true
}
