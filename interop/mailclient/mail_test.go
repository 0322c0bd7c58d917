package mailclient_test

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"postern.email/interop/mailclient"
)

// TestMakerMakesOpenPGPMIME reads made mails with other people's parsers.
func TestMakerMakesOpenPGPMIME(t *testing.T) {
	maker := mailclient.NewMaker(1)
	seen := map[mailclient.Hash]bool{}
	for _, size := range []int{1500, 10_000, 100_000, 1_000_000} {
		raw := maker.Mail("someone@example.org", size)
		if d := len(raw) - size; d < -200 || d > 200 {
			t.Errorf("%d bytes, want about %d", len(raw), size)
		}
		if bytes.Contains(bytes.ReplaceAll(raw, []byte("\r\n"), nil), []byte("\n")) || !bytes.HasSuffix(raw, []byte("\r\n")) {
			t.Error("not CRLF text")
		}
		h := mailclient.BodyHash(raw)
		if seen[h] {
			t.Error("two mails have one body")
		}
		seen[h] = true
		msg, err := mail.ReadMessage(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
		if err != nil || kind != "multipart/encrypted" {
			t.Fatalf("%s %v", kind, err)
		}
		parts := multipart.NewReader(msg.Body, params["boundary"])
		one, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if text, _ := io.ReadAll(one); string(text) != "Version: 1\r\n" {
			t.Errorf("first part %q", text)
		}
		two, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		block, err := armor.Decode(two)
		if err != nil || block.Type != "PGP MESSAGE" {
			t.Fatalf("armor: %v", err)
		}
		payload, err := io.ReadAll(block.Body) // checks the CRC
		if err != nil {
			t.Fatal(err)
		}
		packets := packet.NewReader(bytes.NewReader(payload))
		if p, err := packets.Next(); err != nil {
			t.Fatal(err)
		} else if _, ok := p.(*packet.EncryptedKey); !ok {
			t.Errorf("first packet %T", p)
		}
		if p, err := packets.Next(); err != nil {
			t.Fatal(err)
		} else if _, ok := p.(*packet.SymmetricallyEncrypted); !ok {
			t.Errorf("second packet %T", p)
		}
	}
}

func TestBodyHashIgnoresTheHeader(t *testing.T) {
	a := mailclient.BodyHash([]byte("A: 1\r\n\r\nbody\r\n"))
	b := mailclient.BodyHash([]byte("B: 2\r\nC: 3\r\n\r\nbody\r\n"))
	c := mailclient.BodyHash([]byte("A: 1\r\n\r\nBody\r\n"))
	if a != b || a == c {
		t.Error("the hash must be that of the body, and only that")
	}
}
