package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"

	"postern.email/bench/rig"
	"postern.email/interop/mailclient"
)

// fillBatch is how many mails one MULTIAPPEND (RFC 3502) stores.
const fillBatch = 100

// fill appends n mails made by mail to INBOX of an account, as fast as the
// server can, and gives the hash of each.
func (b *bench) fill(account, n int, mail func() []byte) ([]mailclient.Hash, error) {
	c, err := b.IMAP(b.Account(account))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	hashes := make([]mailclient.Hash, 0, n)
	var text bytes.Buffer
	for len(hashes) < n {
		text.Reset()
		text.WriteString("APPEND INBOX")
		for range min(fillBatch, n-len(hashes)) {
			raw := mail()
			hashes = append(hashes, sha256.Sum256(raw))
			fmt.Fprintf(&text, " {%d+}\r\n%s", len(raw), raw)
		}
		if _, err := c.Cmd("%s", text.String()); err != nil {
			return nil, err
		}
	}
	return hashes, nil
}

// mails gives a maker of encrypted mails of the wanted size.
func (b *bench) mails(seed uint64) func() []byte {
	maker := mailclient.NewMaker(b.seed + seed)
	from := b.Account(accSender).Addr
	return func() []byte { return maker.Mail(from, b.sz.MailBytes) }
}

// small gives a maker of mails of some hundred bytes.
func (b *bench) small() func() []byte {
	n := 0
	return func() []byte {
		n++
		return fmt.Appendf(nil, "From: <%s>\r\nSubject: %d\r\nDate: Thu, 19 Nov 2026 08:01:02 +0000\r\nMessage-ID: <%d@localhost>\r\n\r\nNumber %d\r\n",
			b.Account(0).Addr, n, n, n)
	}
}

// huge gives a maker of mails just under the largest size that both systems take.
func (b *bench) huge() func() []byte {
	line := strings.Repeat("x", 70) + "\r\n"
	raw := []byte("From: <" + b.Account(0).Addr + ">\r\nSubject: large\r\n\r\n" + strings.Repeat(line, 30_000_000/len(line)))
	return func() []byte { return raw }
}

// appendRate stores mails one at a time over 4 sessions of one account.
func (b *bench) appendRate(account int) error {
	const sessions = 4
	data := make([][]byte, b.sz.Appends)
	mail := b.mails(1)
	for i := range data {
		data[i] = mail()
	}
	all := make([]*mailclient.IMAP, sessions)
	for i := range all {
		c, err := b.IMAP(b.Account(account))
		if err != nil {
			return err
		}
		defer c.Close()
		all[i] = c
	}
	took, err := b.timed(func() error {
		return rig.Parallel(sessions, len(data), func(w, i int) error {
			_, err := all[w].Append("INBOX", "", data[i])
			return err
		})
	})
	if err != nil {
		return err
	}
	n := float64(len(data))
	b.m[mAppend], b.m[mAppendCPU] = n/took.wall.Seconds(), rig.MS(took.server)/n
	want := map[mailclient.Hash]int{}
	for _, raw := range data {
		want[sha256.Sum256(raw)]++
	}
	_, err = all[0].Select("INBOX")
	if err != nil {
		return err
	}
	got, err := b.read(all[0], "BODY.PEEK[]")
	if err != nil {
		return err
	}
	for _, raw := range got {
		want[sha256.Sum256(raw)]--
	}
	for _, n := range want {
		if n != 0 {
			return fmt.Errorf("%s: what APPEND stored is not what was sent", b.Name)
		}
	}
	return nil
}
