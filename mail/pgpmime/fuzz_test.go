package pgpmime

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pgparmor "github.com/ProtonMail/go-crypto/openpgp/armor"
)

// slowPackets is the packet rule once more, written from RFC 9580 §4.2 and §10.3 over
// the whole data, with nothing shared with packets.go.
func slowPackets(data []byte) bool {
	sawData := false
	for len(data) > 0 {
		if sawData {
			return false
		}
		tag, body, rest, ok := slowPacket(data)
		if !ok || len(body) == 0 {
			return false
		}
		switch v := body[0]; tag {
		case 1:
			ok = (v == 3 || v == 6) && len(body) <= 8192
		case 3:
			ok = (v == 4 || v == 5 || v == 6) && len(body) <= 8192
		case 18:
			ok = (v == 1 || v == 2) && len(body) >= 33
			sawData = true
		default:
			ok = false
		}
		if !ok {
			return false
		}
		data = rest
	}
	return sawData
}

func slowPacket(b []byte) (tag int, body, rest []byte, ok bool) {
	take := func(n int) (v int, ok bool) {
		if len(b) < n {
			return 0, false
		}
		for _, c := range b[:n] {
			v = v<<8 + int(c)
		}
		b = b[n:]
		return v, true
	}
	head, _ := take(1)
	if head < 128 {
		return
	}
	if head < 192 { // old format
		n, known := map[int]int{0: 1, 1: 2, 2: 4}[head%4]
		if !known {
			return
		}
		size, have := take(n)
		if !have || size > len(b) {
			return
		}
		return (head - 128) / 4, b[:size], b[size:], true
	}
	tag = head - 192
	for {
		l, have := take(1)
		if !have {
			return
		}
		last := true
		switch {
		case l >= 192 && l <= 223:
			m, have := take(1)
			if !have {
				return
			}
			l = (l-192)*256 + m + 192
		case l == 255:
			if l, have = take(4); !have {
				return
			}
		case l >= 224:
			l = 1 << (l - 224)
			last = false
			if tag != 18 || body == nil && l < 512 {
				return
			}
		}
		if l > len(b) {
			return
		}
		body = append(body, b[:l]...)
		b = b[l:]
		if last {
			return tag, body, b, true
		}
	}
}

// The walker and the slow rule agree on any bytes, in pieces of any size.
func FuzzPackets(f *testing.F) {
	files, _ := filepath.Glob("testdata/armor/*.asc")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) > 4000 {
			continue
		}
		block, err := pgparmor.Decode(bytes.NewReader(b))
		if err != nil {
			f.Fatal(err)
		}
		data, err := io.ReadAll(block.Body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint8(48))
	}
	f.Add(cat(pkesk(), seipd(40)), uint8(1))
	f.Add(append(append([]byte{0xd2, 0xe9, 1}, make([]byte, 511)...), 0xc0, 0), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		n := int(piece)%64 + 1
		var w walker
		ok := true
		for i := 0; i < len(data) && ok; i += n {
			ok = w.write(data[i:min(i+n, len(data))])
		}
		why := w.finish()
		if (why == "") != slowPackets(data) {
			t.Fatalf("walker: %q, slow rule: %v", why, slowPackets(data))
		}
		if !ok && why == "" {
			t.Fatal("refused without a reason")
		}
	})
}

// slowCheck takes a mail apart with the standard library and go-crypto.
func slowCheck(raw []byte) error {
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(raw)))
	h, err := r.ReadMIMEHeader()
	if err != nil {
		return err
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "multipart/encrypted" {
		return errors.New("type " + kind)
	}
	mr := multipart.NewReader(r.R, params["boundary"])
	for i := range 3 {
		p, err := mr.NextRawPart()
		if i == 2 {
			if err == io.EOF {
				return nil
			}
			return errors.New("third part")
		}
		if err != nil {
			return err
		}
		var body io.Reader = p
		switch strings.ToLower(p.Header.Get("Content-Transfer-Encoding")) {
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, p)
		case "quoted-printable":
			body = quotedprintable.NewReader(p)
		}
		b, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		kind, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if i == 0 {
			if kind != "application/pgp-encrypted" || strings.TrimSpace(string(b)) != "Version: 1" {
				return errors.New("first part")
			}
			continue
		}
		if kind != "application/octet-stream" {
			return errors.New("second part")
		}
		data, err := slowArmor(string(b))
		if err != nil {
			return err
		}
		if !slowPackets(data) {
			return errors.New("packets")
		}
	}
	return nil
}

// slowArmor takes an armor apart; go-crypto's reader refuses lines over 96 characters,
// which RFC 9580 does not.
func slowArmor(s string) ([]byte, error) {
	s = strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	s, ok1 := strings.CutPrefix(s, "-----BEGIN PGP MESSAGE-----\n")
	s, ok2 := strings.CutSuffix(s, "\n-----END PGP MESSAGE-----")
	header, body, ok3 := strings.Cut("\n"+s, "\n\n")
	if !ok1 || !ok2 || !ok3 {
		return nil, errors.New("armor")
	}
	for line := range strings.SplitSeq(strings.TrimPrefix(header, "\n"), "\n") {
		if line != "" && !strings.Contains(line, ": ") {
			return nil, errors.New("armor header")
		}
	}
	body = strings.TrimLeft(body, "\n")
	if i := strings.LastIndex(body, "\n="); i >= 0 && len(body) == i+6 {
		body = body[:i]
	}
	if strings.Contains(body, "\n\n") {
		return nil, errors.New("empty line")
	}
	return base64.StdEncoding.Strict().DecodeString(strings.ReplaceAll(body, "\n", ""))
}

// What Check calls encrypted, an independent reader finds encrypted too.
func FuzzCheck(f *testing.F) {
	files, _ := filepath.Glob("testdata/armor/*.asc")
	for i, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) > 2500 {
			continue
		}
		f.Add([]byte(wrap(crlf(string(b)), []string{"", "base64", "quoted-printable"}[i%3])), i%2 == 0)
	}
	f.Add([]byte(wrap(good(), "")), true)
	f.Add([]byte(topHeader+"Secure-Join: vc-request\r\nContent-Type: text/plain\r\n\r\nsecure-join: vc-request"), true)
	f.Fuzz(func(t *testing.T, raw []byte, in bool) {
		dir := Outgoing
		if in {
			dir = Incoming
		}
		v := Check(raw, dir, nil)
		if v.Encrypted == (v.Reason != "") || v.Encrypted && v.Exception != NoException {
			t.Fatalf("%+v", v)
		}
		if v.Encrypted {
			var strange textproto.ProtocolError // a field name that HTTP does not know
			if err := slowCheck(raw); err != nil && !errors.As(err, &strange) {
				t.Fatalf("accepted, but: %v", err)
			}
			if !in && !Check(raw, Incoming, nil).Encrypted {
				t.Fatal("outgoing is looser than incoming")
			}
		}
	})
}
