package client

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"time"

	"postern.email/kit/errs"
)

// What is remembered of mails that came for reply addresses, so that an answer to one does not leave under
// another name.
const (
	MaxThreads = 4000
	ThreadTime = 180 * 24 * time.Hour
)

// nymThread is a mail that came for a reply address.
type nymThread struct {
	ID    []byte // keyed hash of its Message-ID
	Label string
	At    time.Time
}

// Came notes under which address a mail came, by its Message-ID. It is durable on return; the oldest are
// forgotten beyond MaxThreads, and after ThreadTime.
func (y *Nyms) Came(label, messageID string) error {
	const op = "mixnet/client.Nyms.Came"
	if messageID == "" {
		return nil
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	list, err := y.threads()
	if err != nil {
		return errs.Wrap(op, err)
	}
	id := y.threadID(messageID)
	if slices.ContainsFunc(list, func(t nymThread) bool { return bytes.Equal(t.ID, id) && t.Label == label }) {
		return nil
	}
	list = append(list, nymThread{id, label, y.o.Now().Truncate(time.Second)})
	if n := len(list) - MaxThreads; n > 0 {
		list = list[n:]
	}
	return errs.Wrap(op, y.o.Store.saveJSON(threadsFile, list))
}

// Thread gives the labels of the addresses for which a mail with a Message-ID came; none for any other mail.
func (y *Nyms) Thread(messageID string) (labels []string, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	list, err := y.threads()
	if err != nil {
		return nil, errs.Wrap("mixnet/client.Nyms.Thread", err)
	}
	id := y.threadID(messageID)
	for _, t := range list {
		if bytes.Equal(t.ID, id) {
			labels = append(labels, t.Label)
		}
	}
	return labels, nil
}

func (y *Nyms) threads() (out []nymThread, err error) {
	var list []nymThread
	if err := y.o.Store.loadJSON(threadsFile, &list); err != nil {
		return nil, err
	}
	for _, t := range list {
		if y.o.Now().Sub(t.At) < ThreadTime {
			out = append(out, t)
		}
	}
	return out, nil
}

func (y *Nyms) threadID(messageID string) []byte {
	h := hmac.New(sha256.New, y.o.Store.id.names[:])
	h.Write([]byte("message " + messageID))
	return h.Sum(nil)[:16]
}
