package mix

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"strings"

	"postern.email/agent/mbox"
	"postern.email/kit/errs"
	"postern.email/kit/retry"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/node"
)

// ends are what a node has beside mixing, by its mode: clients, boxes for them, an exit.
type ends struct {
	mode    directory.Mode
	clients clients
	boxes   *boxes     // nil: no mailbox
	exit    *mbox.MBox // nil: no exit
}

// open makes what the mode asks for.
func (e *ends) open(ctx context.Context, s *Server) (err error) {
	e.mode = s.c.mode()
	if e.mode.Has(directory.Relay) {
		if err := e.readClients(s, s.c); err != nil {
			return err
		}
	}
	if e.mode.Has(directory.Mailbox) {
		if e.boxes, err = openBoxes(ctx, s); err != nil {
			return err
		}
	}
	if e.mode.Has(directory.Exit) {
		e.exit, err = openExit(s)
	}
	return err
}

func (e *ends) readClients(s *Server, c Config) error {
	return e.clients.read(s.d.FS, c.path(c.Clients.File), s.keys.Identity().Public().ID())
}

// openExit opens the delivery to the people of this node.
func openExit(s *Server) (*mbox.MBox, error) {
	const op = "role/mix.openExit"
	secret, err := hkdf.Key(sha256.New, s.keys.LogSecret(), nil, "postern/mix exit", 32)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	c, err := s.c.exit(s.d.FS)
	if err != nil {
		return nil, err
	}
	o := mbox.Options{FS: s.d.FS, Dir: s.c.deliverDir(), Secret: secret, Now: s.d.Now, Rand: s.d.Rand, Log: s.d.Logger, Config: c}
	if s.stats != nil {
		o.Stats = s.stats
	}
	m, err := mbox.Open(o)
	return m, errs.Wrap(op, err)
}

// exit is what the sections mbox and fragmented say.
func (c Config) exit(fs vfs.FS) (out mbox.Config, err error) {
	const op = "role/mix.exit"
	b := &c.MBOX
	text, err := vfs.ReadFile(fs, c.path(b.AddressFile))
	if err != nil {
		return out, errs.E(op, errs.KindOf(err), "cannot read mbox.address_file "+c.path(b.AddressFile), err)
	}
	if out.Addresses, err = mbox.ParseAddresses(bytes.NewReader(text)); err != nil {
		return out, errs.E(op, errs.KindOf(err), c.path(b.AddressFile)+": "+errs.Public(err), err)
	}
	from, err := mail.ParseAddress(b.ReturnAddress)
	if err != nil {
		return out, errs.E(op, errs.Invalid, "mbox.return_address is no mail address", err)
	}
	if b.SMTPServer != "" {
		out.Sender = &mbox.SMTP{Address: b.SMTPServer, Hostname: from.Domain}
	} else if out.Sender, err = mbox.ParseCommand(b.SendmailCommand); err != nil {
		return out, errs.E(op, errs.Invalid, "mbox.sendmail_command: "+errs.Public(err), err)
	}
	out.Form = mbox.Form{ReturnAddress: from, SubjectLine: b.SubjectLine, FromTag: b.FromTag, AllowFrom: b.AllowFromAddress, Abuse: b.XAbuse,
		Comments: b.Comments, Message: b.Message}
	if strings.TrimSpace(b.Message) == "" {
		out.Form.Message = mbox.Disclaimer(c.Nickname, b.RemoveContact)
	} else {
		out.Form.Message += "\n\nTo get none of these messages any more, write to " + b.RemoveContact + "."
	}
	out.Retry, _ = retry.Parse(b.Retry) // checked by the configuration
	out.MaxSize = int64(b.MaximumSize)
	out.Fragments = mbox.Fragments{Enabled: c.Fragmented.Enabled, MaxSize: int64(c.Fragmented.MaximumSize), MaxInterval: c.Fragmented.MaximumInterval.Std()}
	return out, nil
}

// advertised is what the descriptor says of deliveries.
func (e *ends) advertised(s *Server, c Config) (all directory.Parameters, err error) {
	if !e.mode.Has(directory.Exit) || !c.MBOX.Advertise {
		return nil, nil
	}
	x, err := c.exit(s.d.FS)
	for _, p := range x.Advertise() {
		all = append(all, directory.Parameter(p))
	}
	return all, err
}

// options adds what the node is to know.
func (e *ends) options(o *node.Options) {
	if e.mode.Has(directory.Relay) {
		o.Clients = e.clients.Client
	}
	if e.boxes != nil {
		o.Boxes, o.Opened = e.boxes.arrivals(), e.boxes.feed.Opened
	}
	if e.exit != nil {
		o.Exits = e.exit
	}
}

// run begins what works on its own.
func (e *ends) run(ctx context.Context, s *Server) {
	if e.boxes != nil {
		s.supervise(ctx, "mailboxes", e.boxes.box.Run)
	}
	if e.exit != nil {
		s.supervise(ctx, "delivery", e.exit.Run)
	}
}

// reload reads the files of the ends again, and gives the exit what c says of it. The old
// ones stay in use where something is wrong.
func (e *ends) reload(ctx context.Context, s *Server, c Config) error {
	if e.exit != nil {
		x, err := c.exit(s.d.FS)
		if err == nil {
			err = e.exit.Reload(x)
		}
		if err != nil {
			return err
		}
	}
	if !e.mode.Has(directory.Relay) {
		return nil
	}
	if err := e.readClients(s, c); err != nil {
		return err
	}
	if e.boxes != nil {
		if err := e.boxes.register(ctx); err != nil {
			return err
		}
	}
	s.node.Recheck()
	return nil
}

// close gives back what open took.
func (e *ends) close() error {
	if e.boxes == nil {
		return nil
	}
	return e.boxes.close()
}
