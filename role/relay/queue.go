package relay

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/queue"
	"postern.email/wire/control"
)

// QueueArgs are the arguments of the queue commands; each reads its own part.
type QueueArgs struct {
	ID      string `json:"id,omitempty"` // the number, or its first digits
	To      string `json:"to,omitempty"` // only recipients at this domain
	From    string `json:"from,omitempty"`
	Held    bool   `json:"held,omitempty"`
	Damaged bool   `json:"damaged,omitempty"`
	All     bool   `json:"all,omitempty"`
	Report  bool   `json:"report,omitempty"` // queue.drop: its sender is told
	Cursor  string `json:"cursor,omitempty"`
}

// QueuedMail is a mail in the queue as the commands show it. Times are RFC 3339, in UTC.
type QueuedMail struct {
	ID         string            `json:"id"`
	From       string            `json:"from"` // empty: the null sender
	Size       int64             `json:"size"`
	Kind       string            `json:"kind"`
	Created    string            `json:"created"`
	Expires    string            `json:"expires,omitempty"`
	RequireTLS bool              `json:"requiretls,omitempty"`
	Damaged    string            `json:"damaged,omitempty"`
	Recipients []QueuedRecipient `json:"recipients"`
}

// QueuedRecipient is a recipient that was not reached yet.
type QueuedRecipient struct {
	To      string `json:"to"`
	Tries   int    `json:"tries"`
	NextTry string `json:"next_try,omitempty"`
	Held    bool   `json:"held,omitempty"`
	Sending bool   `json:"sending,omitempty"`
	Ready   bool   `json:"ready,omitempty"` // its time has come: it waits for a connection
	Why     string `json:"why,omitempty"`
}

// QueuePage is one answer of queue.list.
type QueuePage struct {
	Mails []QueuedMail `json:"mails"`
	Next  string       `json:"next,omitempty"`
}

// QueueDropped is the answer of queue.drop.
type QueueDropped struct {
	ID   string `json:"dropped"`
	Told bool   `json:"told"` // its sender got a report
}

// QueuePiece is a part of an exported mail.
type QueuePiece struct {
	Data []byte `json:"data"`
}

const (
	queuePage  = 200      // mails that queue.list gives at once
	queuePiece = 64 << 10 // bytes of one QueuePiece
)

// queueCommands is the queue's part of the table of the control socket.
func (s *Server) queueCommands() map[string]control.Handler {
	h := map[string]control.Handler{}
	for name, fn := range map[string]func(context.Context, QueueArgs, func(any) error) (any, error){
		"list": s.listQueue,
		"show": func(ctx context.Context, a QueueArgs, _ func(any) error) (any, error) {
			id, err := s.queue.Find(a.ID)
			if err != nil {
				return nil, err
			}
			l, err := s.queue.Show(ctx, id)
			return s.queued(l), err
		},
		"retry":   s.overQueue(s.queue.Retry),
		"hold":    s.overQueue(s.queue.Hold),
		"release": s.overQueue(s.queue.Unhold),
		"drop": func(ctx context.Context, a QueueArgs, _ func(any) error) (any, error) {
			id, err := s.queue.Find(a.ID)
			if err != nil {
				return nil, err
			}
			d := QueueDropped{ID: id.String()}
			if a.Report {
				d.Told, err = s.out.Drop(ctx, id)
			} else {
				err = s.queue.Drop(ctx, id)
			}
			return d, err
		},
		"export": s.exportQueued,
	} {
		h["queue."+name] = func(ctx context.Context, args json.RawMessage, progress func(any) error) (any, error) {
			var a QueueArgs
			if err := control.Args(args, &a); err != nil {
				return nil, err
			}
			return fn(ctx, a, progress)
		}
	}
	return h
}

// filter reads what the arguments mean.
func (s *Server) filter(a QueueArgs) (f queue.Filter, err error) {
	f.Held, f.Damaged = a.Held, a.Damaged
	if a.ID != "" {
		if f.ID, err = s.queue.Find(a.ID); err != nil {
			return f, err
		}
	}
	if a.To != "" {
		if _, err := mail.ParseAddress("x@" + a.To); err != nil {
			return f, errs.E("role/relay.filter", errs.Invalid, "this is not a domain", err)
		}
		f.Dest = mail.CanonicalDomain(a.To)
	}
	if a.From != "" {
		f.Sender, err = s.address(a.From)
	}
	return f, err
}

func (s *Server) listQueue(ctx context.Context, a QueueArgs, _ func(any) error) (any, error) {
	f, err := s.filter(a)
	if err != nil {
		return nil, err
	}
	list, next, err := s.queue.List(ctx, f, a.Cursor, queuePage)
	if err != nil {
		return nil, err
	}
	p := QueuePage{Mails: make([]QueuedMail, 0, len(list)), Next: next}
	for _, l := range list {
		p.Mails = append(p.Mails, s.queued(l))
	}
	return p, nil
}

// overQueue makes a command of what is done to the recipients that the arguments mean; its result
// is their number.
func (s *Server) overQueue(do func(context.Context, queue.Filter) (int, error)) func(context.Context, QueueArgs, func(any) error) (any, error) {
	return func(ctx context.Context, a QueueArgs, _ func(any) error) (any, error) {
		f, err := s.filter(a)
		if err != nil {
			return nil, err
		}
		if f == (queue.Filter{}) && !a.All {
			return nil, errs.E("role/relay.overQueue", errs.Invalid, "say which mails are meant", nil)
		}
		return do(ctx, f)
	}
}

// exportQueued sends a mail piece by piece; its result is the number of bytes.
func (s *Server) exportQueued(ctx context.Context, a QueueArgs, progress func(any) error) (any, error) {
	id, err := s.queue.Find(a.ID)
	if err != nil {
		return nil, err
	}
	b, err := s.queue.Export(ctx, id)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	piece := make([]byte, queuePiece)
	r := io.NewSectionReader(b, 0, b.Size())
	for {
		n, err := r.Read(piece)
		if n > 0 {
			if err := progress(QueuePiece{piece[:n]}); err != nil {
				return nil, err
			}
		}
		if err == io.EOF {
			return b.Size(), nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// queued puts a mail into the commands' form.
func (s *Server) queued(l queue.Listed) QueuedMail {
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	m := QueuedMail{ID: l.ID.String(), From: l.Mail.From.String(), Size: l.Mail.Size, Kind: l.Mail.Kind.String(), Created: at(l.Mail.Created),
		Expires: at(l.Mail.Expires), RequireTLS: l.Mail.RequireTLS, Damaged: l.Damaged, Recipients: make([]QueuedRecipient, 0, len(l.Rcpts))}
	for _, r := range l.Rcpts {
		why := r.Paused
		if why == "" {
			why = r.LastWhy
		}
		m.Recipients = append(m.Recipients, QueuedRecipient{To: r.To.String(), Tries: r.Tries, NextTry: at(r.Due), Held: r.Held, Sending: r.Leased,
			Ready: !r.Held && !r.Leased && l.Damaged == "" && !r.Due.After(s.d.Now()), Why: why})
	}
	return m
}
