package queue

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/seal"
)

var update = flag.Bool("update", false, "write testdata/golden.json anew: only for a new format beside the old ones")

func goldenMail() mailRecord {
	return mailRecord{Info{From: mail.Address{Local: "sender", Domain: "here.example"}, EightBit: true, RequireTLS: true, Return: ReturnFull,
		EnvID: "QQ314159", Kind: Report, Created: start, Expires: start.Add(48 * time.Hour), Size: 12345}}
}

func goldenRcpt() rcptRecord {
	return rcptRecord{Waiting: Waiting{N: 7, Rcpt: Rcpt{To: mail.Address{Local: "jürgen", Domain: "bücher.example"}, Dest: "xn--bcher-kva.example",
		Notify: 5, OriginalType: "utf-8", OriginalAddress: "jürgen@bücher.example"}, Tries: 3, LastWhy: "451 4.7.1 later", Since: start.Add(time.Hour)},
		due: start.Add(2 * time.Hour).UnixMilli(), held: true}
}

// goldenTold is a mail of whose fate somebody hears who is not its sender.
func goldenTold() mailRecord {
	m := goldenMail()
	m.Kind, m.Tell, m.TellID = Submission, mail.Address{Local: "reply.aaaaaaaaaaaaaaaaaaaaaaaaaa", Domain: "home.example"}, "<1@home.example>"
	return m
}

// golden is what was once written; JSON has bytes as base64.
type golden struct {
	RootKey, ID          []byte
	MailPlain, RcptPlain []byte // the records inside their seals
	MailKey, RcptKey     []byte // keys in the store
	TextKey              []byte
	Mail, Rcpt           []byte // records as they lie in the store
	BodyKey              []byte
	Text, TextSealed     []byte
}

const (
	goldenFile     = "testdata/golden.json"
	goldenToldFile = "testdata/told.record" // goldenTold inside its seal
)

func writeGolden(t *testing.T) {
	t.Helper()
	id := ID{0xaa, 1, 2, 3}
	g := golden{RootKey: bytes.Repeat([]byte{0x11}, seal.KeyLen), ID: id[:], MailKey: mailKey(id), RcptKey: rcptKey(id, 7), TextKey: textKey(id),
		Text: []byte("Subject: x\r\n\r\nbody\r\n")}
	m, w := goldenMail(), goldenRcpt()
	m.Size = int64(len(g.Text))
	g.MailPlain, g.RcptPlain = m.encode(), w.encode()
	root, err := seal.NewRoot(g.RootKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := seal.NewMailKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	g.BodyKey = k.Bytes()
	if g.Mail, err = sealMail(root, id, k, &m); err != nil {
		t.Fatal(err)
	}
	if g.Rcpt, err = sealRcpt(root, id, 7, &w); err != nil {
		t.Fatal(err)
	}
	if g.TextSealed, err = k.SealPart(seal.PartBody, 0, g.Text); err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(g, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenFile, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestGolden: what was once written can be read by every later version.
func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	b, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	id := ID(g.ID)
	if !bytes.Equal(mailKey(id), g.MailKey) || !bytes.Equal(rcptKey(id, 7), g.RcptKey) || !bytes.Equal(textKey(id), g.TextKey) {
		t.Error("a key in the store has changed")
	}
	root, err := seal.NewRoot(g.RootKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantMail, wantRcpt := goldenMail(), goldenRcpt()
	wantMail.Size = int64(len(g.Text))
	if !bytes.Equal(wantMail.encode(), g.MailPlain) || !bytes.Equal(wantRcpt.encode(), g.RcptPlain) {
		t.Error("a record is written in another form")
	}
	wantMail.Shard = 9
	if m, err := openMail(root, 9, id, g.Mail); err != nil || m != wantMail {
		t.Errorf("mail: %+v, %v", m, err)
	}
	w, err := openRcpt(root, id, 7, g.Rcpt)
	if wantRcpt.stored = int64(len(g.Rcpt)); err != nil || w != wantRcpt {
		t.Errorf("recipient: %+v, %v", w, err)
	}
	k, err := openBodyKey(root, id, g.Mail)
	if err != nil || !bytes.Equal(k.Bytes(), g.BodyKey) {
		t.Fatalf("the body's key: %v", err)
	}
	if text, err := openText(k, wantMail.Size, bytes.Clone(g.TextSealed)); err != nil || !bytes.Equal(text, g.Text) {
		t.Errorf("body: %q, %v", text, err)
	}
}

// TestGoldenTold: the same of the form with Tell, which golden.json is older than.
func TestGoldenTold(t *testing.T) {
	want := goldenTold()
	if *update {
		if err := os.WriteFile(goldenToldFile, want.encode(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(goldenToldFile)
	if err != nil || !bytes.Equal(want.encode(), b) {
		t.Errorf("%v: a record is written in another form", err)
	}
	if m, err := decodeMail(b); err != nil || m != want {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestBound: a record is bound to its mail, its recipient and its kind.
func TestBound(t *testing.T) {
	root, err := seal.NewRoot(make([]byte, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	k, _ := seal.NewMailKey(nil)
	m, w := goldenMail(), goldenRcpt()
	sealedMail, err := sealMail(root, ID{1}, k, &m)
	if err != nil {
		t.Fatal(err)
	}
	sealedRcpt, err := sealRcpt(root, ID{1}, 1, &w)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, err error) {
		t.Helper()
		if err == nil || errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = openMail(root, 0, ID{2}, sealedMail)
	check("another mail's envelope", err)
	_, err = openBodyKey(root, ID{2}, sealedMail)
	check("another mail's key", err)
	_, err = openRcpt(root, ID{2}, 1, sealedRcpt)
	check("another mail's recipient", err)
	_, err = openRcpt(root, ID{1}, 2, sealedRcpt)
	check("another recipient", err)
	_, err = openMail(root, 0, ID{1}, sealedRcpt)
	check("a recipient as a mail", err)
	_, err = openText(k, 3, []byte("short"))
	check("no body", err)
	sealed, _ := k.SealPart(seal.PartBody, 0, []byte("four"))
	_, err = openText(k, 3, sealed)
	check("a body of another length", err)
}

// FuzzRecords: what is accepted encodes to the same bytes, so that no record has two forms.
func FuzzRecords(f *testing.F) {
	m, w := goldenMail(), goldenRcpt()
	told := goldenTold()
	f.Add(m.encode())
	f.Add(told.encode())
	f.Add(w.encode())
	f.Add([]byte{formatVersion})
	f.Add(make([]byte, block))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeMail(b); err == nil {
			if again := m.encode(); !bytes.Equal(again, b) {
				t.Errorf("mail %x encodes to %x", b, again)
			}
		} else if errs.KindOf(err) != errs.Corrupt {
			t.Error(err)
		}
		if w, err := decodeRcpt(b); err == nil {
			if again := w.encode(); !bytes.Equal(again, b) {
				t.Errorf("recipient %x encodes to %x", b, again)
			}
		} else if errs.KindOf(err) != errs.Corrupt {
			t.Error(err)
		}
	})
}

// FuzzKeys: a key that is read is written the same, and a mail's record is cut without harm.
func FuzzKeys(f *testing.F) {
	f.Add(mailKey(ID{1}))
	f.Add(rcptKey(ID{1}, 9))
	f.Add(textKey(ID{1}))
	f.Add([]byte{formatVersion, 3, 1, 2, 3, 4, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, id, n, ok := parseKey(b)
		if ok {
			k := key(kind, id)
			if kind == kindRcpt {
				k = rcptKey(id, n)
			}
			if !bytes.Equal(k, b) {
				t.Errorf("key %x is written as %x", b, k)
			}
		}
		if sealedKey, envelope, err := splitMail(b); err == nil && len(sealedKey)+len(envelope) > len(b) {
			t.Error("more than there is")
		}
	})
}
