package mailbox

import (
	"context"
	"io"
	"slices"

	"postern.email/kit/errs"
	"postern.email/mail/mime"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// mailKey gives the key of a mail.
func (a *Account) mailKey(r store.Reader, h *messageHead) (*seal.MailKey, error) {
	if e := a.encap.Load(); e != nil && e.chain == h.chain {
		return a.key.MailKey(h.chain, e.encap, h.index)
	}
	b, err := r.Get(encapKey(a.key.ID(), h.chain))
	if err != nil {
		return nil, errs.E("post/mailbox.mailKey", errs.Corrupt, "", err)
	}
	e := &encapsulation{h.chain, slices.Clone(b)}
	a.encap.Store(e)
	return a.key.MailKey(h.chain, e.encap, h.index)
}

// openMail reads a message record and gives its key. The summary is still sealed and
// valid as long as r.
func (a *Account) openMail(r store.Reader, mid uint64) (h messageHead, sealed []byte, k *seal.MailKey, err error) {
	b, err := r.Get(messageKey(a.key.ID(), mid))
	if err != nil {
		return h, nil, nil, err
	}
	if h, sealed, err = decodeMessage(b); err != nil {
		return h, nil, nil, err
	}
	k, err = a.mailKey(r, &h)
	return h, sealed, k, err
}

func (a *Account) summary(r store.Reader, mid uint64) (h messageHead, s summary, err error) {
	h, sealed, k, err := a.openMail(r, mid)
	if err != nil {
		return h, s, err
	}
	plain, err := k.OpenPartInPlace(seal.PartSummary, 0, sealed) // Get gave us a copy of our own
	if err != nil {
		return h, s, err
	}
	s, err = decodeSummary(plain)
	return h, s, err
}

// Summary opens a mail's summary. errs.NotFound: it was expunged meanwhile.
func (a *Account) Summary(ctx context.Context, box uint32, e Entry) (*Summary, error) {
	const op = "post/mailbox.Summary"
	var s summary
	err := a.read(ctx, func(r store.Reader) (err error) {
		_, s, err = a.summary(r, e.Mid)
		return err
	})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	out := &Summary{Size: s.size, Date: s.date, Header: s.header, structure: s.structure}
	if len(s.header) == 0 {
		out.Header = nil
	}
	if len(s.structure) == 0 {
		out.remake = func() ([]byte, error) { return a.remakeStructure(ctx, box, e) }
	}
	return out, nil
}

// remakeStructure parses a mail again whose structure was too large to be kept. The whole
// mail is in memory meanwhile, so only maxRemakes run at once, whoever asks.
func (a *Account) remakeStructure(ctx context.Context, box uint32, e Entry) ([]byte, error) {
	const op = "post/mailbox.remakeStructure"
	select {
	case a.b.remakes <- struct{}{}:
		defer func() { <-a.b.remakes }()
	case <-ctx.Done():
		return nil, errs.E(op, errs.Canceled, "", ctx.Err())
	}
	body, err := a.Body(ctx, box, e)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	raw := make([]byte, body.Size())
	if _, err := body.ReadAt(raw, 0); err != nil && err != io.EOF {
		return nil, err
	}
	root, err := mime.Parse(raw)
	if err != nil {
		return nil, err
	}
	return mime.Encode(root), nil
}

// Body is an open mail: the exact bytes of the whole message. It is safe for use by
// many goroutines, Close excepted.
type Body = blob.Body

// Body opens a mail for reading. Chunks of large mails are opened when they are read;
// memory is at most two chunks of 64 KiB. errs.NotFound: it was expunged meanwhile.
func (a *Account) Body(ctx context.Context, box uint32, e Entry) (Body, error) {
	const op = "post/mailbox.Body"
	var h messageHead
	var s summary
	var plain []byte
	err := a.read(ctx, func(r store.Reader) (err error) {
		var sealed []byte
		var k *seal.MailKey
		if h, sealed, k, err = a.openMail(r, e.Mid); err != nil {
			return err
		}
		if h.blob {
			if plain, err = k.OpenPartInPlace(seal.PartSummary, 0, sealed); err == nil {
				s, err = decodeSummary(plain)
			}
			return err
		}
		if sealed, err = r.Get(bodyKey(a.key.ID(), e.Mid)); err != nil {
			return errs.E(op, errs.Corrupt, "", err)
		}
		plain, err = k.OpenPartInPlace(seal.PartBody, 0, sealed)
		return err
	})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if !h.blob {
		return blob.Memory(plain), nil
	}
	f, err := a.openBlob(ctx, &h, &s)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return f, nil
}

func (a *Account) openBlob(ctx context.Context, h *messageHead, s *summary) (Body, error) {
	const op = "post/mailbox.openBlob"
	k, err := seal.MailKeyOf(s.blobKey)
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "", err)
	}
	f, err := a.b.blobs.Open(h.name, k, s.size)
	if errs.KindOf(err) == errs.NotFound && err != nil {
		// Gone because the mail is gone, or lost?
		lost := a.read(ctx, func(r store.Reader) error {
			_, err := r.Get(blobKey(a.key.ID(), h.name))
			return err
		})
		if lost == nil {
			return nil, errs.E(op, errs.Corrupt, "", err)
		}
		return nil, errs.Wrap(op, lost)
	}
	return f, err
}
