package mailbox

import (
	"context"
	"sync"

	"postern.email/kit/errs"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// Bounds of one Open of Bodies. The second one has room for any body that is a
// record, so that each Open gets on.
const (
	maxBodies     = 64
	maxBodyMemory = 128 << 10
)

// bodyMemory lends the memory that bodies are opened into.
var bodyMemory = sync.Pool{New: func() any { return new([maxBodyMemory]byte) }}

// Bodies reads the bodies of many mails one after the other. It costs less than Body
// for each: neighbours are found with one look into the store and opened into memory
// that is used again. For one goroutine; Close gives the memory back.
type Bodies struct {
	a      *Account
	memory *[maxBodyMemory]byte
	used   int // bytes of memory that hold bodies of the last Open
	most   int // the most that used ever was
	mails  []bodyMail
	keys   [][]byte
}

// bodyMail is one mail of the last Open.
type bodyMail struct {
	mid    uint64
	head   messageHead
	key    *seal.MailKey // of a mail whose body is a file
	sealed []byte        // its summary
	raw    blob.Memory
	file   Body
	err    error
}

// Bodies begins to read bodies.
func (a *Account) Bodies() *Bodies { return &Bodies{a: a} }

// Open opens the bodies of the first mails of es and says of how many: of one at least,
// when there is one. Together they take 128 KiB at most; one that lies in a file is
// opened alone. Those of the Open before must not be used any more. An
// error is one of the whole; At tells what befell a single mail.
func (s *Bodies) Open(ctx context.Context, es []Entry) (n int, err error) {
	const op = "post/mailbox.Bodies"
	s.drop()
	if len(es) == 0 {
		return 0, nil
	}
	if s.memory == nil {
		s.memory = bodyMemory.Get().(*[maxBodyMemory]byte)
	}
	err = s.read(ctx, es[:min(len(es), maxBodies)])
	if errs.KindOf(err) == errs.Corrupt && len(s.mails) > 1 {
		s.drop() // a damaged record does not stand in the way of its neighbours
		err = s.read(ctx, es[:1])
	}
	if err != nil {
		s.drop()
		return 0, errs.Wrap(op, err)
	}
	return len(s.mails), nil
}

// At gives the body of es[i] of the last Open, until the next one or Close; or why there
// is none. errs.NotFound: the mail was expunged meanwhile.
func (s *Bodies) At(i int) (Body, error) {
	switch m := &s.mails[i]; {
	case m.err != nil:
		return nil, errs.Wrap("post/mailbox.Bodies", m.err)
	case m.file != nil:
		return m.file, nil
	default:
		return m.raw, nil
	}
}

// Close ends the reading.
func (s *Bodies) Close() {
	s.drop()
	if s.memory != nil {
		clear(s.memory[:s.most]) // no opened mail lies in memory that waits for its next user
		bodyMemory.Put(s.memory)
		s.memory, s.most = nil, 0
	}
}

// drop forgets the mails of the last Open.
func (s *Bodies) drop() {
	for i := range s.mails {
		if f := s.mails[i].file; f != nil {
			_ = f.Close()
		}
	}
	clear(s.mails)
	s.mails, s.used = s.mails[:0], 0
}

// read opens as many of es as go together, in one state of the store.
func (s *Bodies) read(ctx context.Context, es []Entry) error {
	s.mails = append(s.mails, bodyMail{mid: es[0].Mid})
	for _, e := range es[1:] {
		if e.Mid <= s.mails[len(s.mails)-1].mid {
			break // copies may lie in any order, and GetMany wants them to ascend
		}
		s.mails = append(s.mails, bodyMail{mid: e.Mid})
	}
	err := s.a.read(ctx, func(r store.Reader) error {
		if err := s.readHeads(r); err != nil {
			return err
		}
		if m := &s.mails[0]; m.err != nil || !m.head.blob {
			return s.readBodies(r)
		} else {
			m.key, m.err = s.a.mailKey(r, &m.head)
		}
		return nil
	})
	if m := &s.mails[0]; err == nil && m.key != nil {
		m.file, m.err = s.openFile(ctx, m)
	}
	return err
}

// readHeads reads the heads, and cuts off the mails whose bodies have no room.
func (s *Bodies) readHeads(r store.Reader) error {
	end, full, room := 0, false, int64(maxBodyMemory)
	err := r.GetMany(s.keysOf(messageKey), func(i int, value []byte) (bool, error) {
		s.lost(end, i, errs.NotFound)
		h, sealed, err := decodeMessage(value)
		if full = i > 0 && (h.blob || h.stored > room); full {
			end = i
			return false, nil
		}
		end, full = i+1, h.blob
		m := &s.mails[i]
		if m.head, m.err = h, err; h.blob {
			m.sealed = append([]byte(nil), sealed...)
		}
		room -= h.stored // of which the body is a part
		return !full, nil
	})
	if err != nil {
		return err
	}
	if !full {
		s.lost(end, len(s.mails), errs.NotFound)
		end = len(s.mails)
	}
	s.mails = s.mails[:end]
	return nil
}

func (s *Bodies) readBodies(r store.Reader) error {
	end := 0
	err := r.GetMany(s.keysOf(bodyKey), func(i int, value []byte) (bool, error) {
		s.lost(end, i, errs.Corrupt)
		end = i + 1
		if m := &s.mails[i]; m.err == nil {
			m.raw, m.err = s.open(r, m, value)
		}
		return true, nil
	})
	if err == nil {
		s.lost(end, len(s.mails), errs.Corrupt)
	}
	return err
}

// open opens a body behind those that are open already.
func (s *Bodies) open(r store.Reader, m *bodyMail, sealed []byte) (blob.Memory, error) {
	k, err := s.a.mailKey(r, &m.head)
	if err != nil {
		return nil, err
	}
	plain, err := k.OpenPartInto(s.memory[s.used:], seal.PartBody, 0, sealed)
	if err != nil {
		return nil, err
	}
	s.used = min(s.used+len(sealed), len(s.memory))
	s.most = max(s.most, s.used)
	return plain, nil
}

func (s *Bodies) openFile(ctx context.Context, m *bodyMail) (Body, error) {
	plain, err := m.key.OpenPartInPlace(seal.PartSummary, 0, m.sealed)
	if err != nil {
		return nil, err
	}
	sum, err := decodeSummary(plain)
	if err != nil {
		return nil, err
	}
	f, err := s.a.openBlob(ctx, &m.head, &sum)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// keysOf gives the keys of the mails' records of one kind.
func (s *Bodies) keysOf(key func(seal.AccountID, uint64) []byte) [][]byte {
	s.keys = s.keys[:0]
	for i := range s.mails {
		s.keys = append(s.keys, key(s.a.key.ID(), s.mails[i].mid))
	}
	return s.keys
}

// lost notes that the mails from start to before end have no record.
func (s *Bodies) lost(start, end int, kind errs.Kind) {
	for ; start < end; start++ {
		if m := &s.mails[start]; m.err == nil {
			m.err = errs.E("post/mailbox.Bodies", kind, "", nil)
		}
	}
}
