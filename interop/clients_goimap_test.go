package interop

import (
	"crypto/tls"
	"slices"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"postern.email/interop/mailclient"
)

// TestGoIMAP drives the server with the IMAP client library of Go.
func TestGoIMAP(t *testing.T) {
	s := start(t)
	u := s.plainUser(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	exists, gone := make(chan uint32, 100), make(chan uint32, 100)
	connect := func(handler *imapclient.UnilateralDataHandler) *imapclient.Client {
		t.Helper()
		c, err := imapclient.DialTLS(s.IMAPS, &imapclient.Options{TLSConfig: &tls.Config{RootCAs: s.pool, ServerName: s.Domain}, UnilateralDataHandler: handler})
		must(err)
		t.Cleanup(func() { c.Close() })
		must(c.Login(u.addr, u.password).Wait())
		return c
	}
	// After STARTTLS, as IMAP4rev2 and with literals that do not wait (LITERAL+).
	plain, err := imapclient.DialStartTLS(s.IMAP, &imapclient.Options{TLSConfig: &tls.Config{RootCAs: s.pool, ServerName: s.Domain}})
	must(err)
	defer plain.Close()
	must(plain.Login(u.addr, u.password).Wait())
	if caps := plain.Caps(); !caps.Has(imap.CapLiteralPlus) || !caps.Has(imap.CapIMAP4rev2) {
		t.Errorf("capabilities: %v", caps)
	}
	enabled, err := plain.Enable(imap.CapIMAP4rev2).Wait()
	must(err)
	if !enabled.Caps.Has(imap.CapIMAP4rev2) {
		t.Errorf("ENABLE: %+v", enabled)
	}
	must(plain.Create("Entwürfe-2", nil).Wait())
	if list, err := plain.List("", "Entw*", nil).Collect(); err != nil || len(list) != 1 || list[0].Mailbox != "Entwürfe-2" {
		t.Errorf("LIST in IMAP4rev2: %+v, %v", list, err)
	}
	if rev2, err := plain.Select("Entwürfe-2", nil).Wait(); err != nil || rev2.NumMessages != 0 || rev2.List == nil || rev2.List.Mailbox != "Entwürfe-2" {
		t.Errorf("SELECT in IMAP4rev2: %+v, %v", rev2, err)
	}
	must(plain.Delete("Entwürfe-2").Wait())
	must(plain.Logout().Wait())

	first := connect(&imapclient.UnilateralDataHandler{
		Mailbox: func(data *imapclient.UnilateralDataMailbox) {
			if data.NumMessages != nil {
				exists <- *data.NumMessages
			}
		},
		Expunge: func(seq uint32) { gone <- seq },
	})
	second := connect(nil)

	must(first.Create("Go", nil).Wait())
	must(first.Subscribe("Go").Wait())
	boxes, err := first.List("", "*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true}, ReturnSubscribed: true, ReturnSpecialUse: true}).Collect()
	must(err)
	if !slices.ContainsFunc(boxes, func(b *imap.ListData) bool {
		return b.Mailbox == "Go" && b.Status != nil && slices.Contains(b.Attrs, imap.MailboxAttrSubscribed)
	}) {
		t.Errorf("LIST-EXTENDED with STATUS: %+v", boxes)
	}
	if !slices.ContainsFunc(boxes, func(b *imap.ListData) bool { return slices.Contains(b.Attrs, imap.MailboxAttrSent) }) {
		t.Errorf("no \\Sent among %d", len(boxes))
	}
	selected, err := first.Select("Go", &imap.SelectOptions{CondStore: true}).Wait()
	must(err)
	if selected.NumMessages != 0 || selected.UIDValidity == 0 || selected.HighestModSeq == 0 {
		t.Errorf("SELECT: %+v", selected)
	}

	maker := mailclient.NewMaker(21)
	var bodies []mailclient.Hash
	for range 5 {
		mail := maker.Mail(u.addr, 2000)
		bodies = append(bodies, mailclient.BodyHash(mail))
		cmd := first.Append("Go", int64(len(mail)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagFlagged}, Time: time.Unix(1e9, 0)})
		_, err := cmd.Write(mail)
		must(err)
		must(cmd.Close())
		data, err := cmd.Wait()
		must(err)
		if data.UID != imap.UID(len(bodies)) || data.UIDValidity != selected.UIDValidity {
			t.Errorf("APPENDUID: %+v", data)
		}
	}
	section := &imap.FetchItemBodySection{Peek: true}
	got, err := first.Fetch(imap.SeqSetNum(1, 2, 3, 4, 5), &imap.FetchOptions{UID: true, Flags: true, Envelope: true, InternalDate: true,
		RFC822Size: true, ModSeq: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	must(err)
	if len(got) != 5 {
		t.Fatalf("%d of 5 fetched", len(got))
	}
	for i, m := range got {
		raw := m.FindBodySection(section)
		if mailclient.BodyHash(raw) != bodies[i] || int64(len(raw)) != m.RFC822Size || m.UID != imap.UID(i+1) || m.ModSeq == 0 ||
			!m.InternalDate.Equal(time.Unix(1e9, 0)) || !slices.Contains(m.Flags, imap.FlagFlagged) {
			t.Errorf("message %d: UID %d, size %d of %d, %v, %v", i+1, m.UID, m.RFC822Size, len(raw), m.InternalDate, m.Flags)
		}
		if kind := m.BodyStructure.MediaType(); kind != "multipart/encrypted" {
			t.Errorf("BODYSTRUCTURE: %s", kind)
		}
		if len(m.Envelope.From) != 1 || m.Envelope.From[0].Addr() != u.addr {
			t.Errorf("ENVELOPE: %+v", m.Envelope)
		}
	}

	_, err = second.Select("Go", nil).Wait()
	must(err)
	idle, err := first.Idle()
	must(err)
	must(second.Store(imap.UIDSetNum(2), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}, Silent: true}, nil).Close())
	expunged, err := second.UIDExpunge(imap.UIDSetNum(2)).Collect()
	must(err)
	if len(expunged) != 1 || expunged[0] != 2 {
		t.Errorf("UID EXPUNGE: %v", expunged)
	}
	timer := time.NewTimer(20 * time.Second)
	defer timer.Stop()
	select {
	case seq := <-gone:
		if seq != 2 {
			t.Errorf("IDLE tells EXPUNGE %d, want 2", seq)
		}
	case <-timer.C:
		t.Error("IDLE tells no EXPUNGE")
	}
	must(idle.Close())
	must(idle.Wait())

	moved, err := second.Move(imap.UIDSetNum(1), "INBOX").Wait()
	must(err)
	if from, ok := moved.SourceUIDs.(imap.UIDSet); !ok || from.String() != "1" {
		t.Errorf("MOVE: %+v", moved)
	}
	copied, err := second.Copy(imap.UIDSetNum(3, 4), "INBOX").Wait()
	must(err)
	if copied.SourceUIDs.String() != "3:4" {
		t.Errorf("COPY: %+v", copied)
	}
	must(first.Noop().Wait())
	found, err := first.UIDSearch(&imap.SearchCriteria{Flag: []imap.Flag{imap.FlagFlagged}}, &imap.SearchOptions{ReturnAll: true, ReturnCount: true}).Wait()
	must(err)
	if found.Count != 3 || len(found.AllUIDs()) != 3 {
		t.Errorf("ESEARCH: %+v", found)
	}
	sorted, err := second.UIDSort(&imapclient.SortOptions{SearchCriteria: &imap.SearchCriteria{},
		SortCriteria: []imapclient.SortCriterion{{Key: imapclient.SortKeyArrival, Reverse: true}, {Key: imapclient.SortKeySize}}}).Wait()
	must(err)
	if len(sorted) != 3 {
		t.Errorf("SORT: %v", sorted)
	}
	for _, algorithm := range []imap.ThreadAlgorithm{imap.ThreadOrderedSubject, imap.ThreadReferences} {
		threads, err := second.UIDThread(&imapclient.ThreadOptions{Algorithm: algorithm, SearchCriteria: &imap.SearchCriteria{}}).Wait()
		must(err)
		if n := inThreads(threads); n != 3 {
			t.Errorf("THREAD %s: %d messages in %+v", algorithm, n, threads)
		}
	}
	status, err := first.Status("INBOX", &imap.StatusOptions{NumMessages: true, Size: true, UIDNext: true}).Wait()
	must(err)
	if status.NumMessages == nil || *status.NumMessages != 3 || status.Size == nil || *status.Size <= 0 {
		t.Errorf("STATUS: %+v", status)
	}
	must(first.Unselect().Wait())
	must(first.Rename("Go", "Gone", nil).Wait())
	must(first.Delete("Gone").Wait())
	must(first.Logout().Wait())
	if got := <-exists; got != 1 {
		t.Errorf("the first EXISTS after APPEND is %d", got)
	}
}

// inThreads counts messages.
func inThreads(threads []imapclient.ThreadData) (n int) {
	for _, t := range threads {
		n += len(t.Chain) + inThreads(t.SubThreads)
	}
	return n
}
