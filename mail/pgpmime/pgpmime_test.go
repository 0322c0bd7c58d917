package pgpmime

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"postern.email/mail"
)

const topHeader = "From: a@example.org\r\nTo: \"hidden-recipients\": ;\r\nSubject: [...]\r\nMIME-Version: 1.0\r\n"

const encryptedType = "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n\tboundary=\"b1\"\r\n"

const versionPart = "Content-Type: application/pgp-encrypted\r\nContent-Description: PGP/MIME version identification\r\n\r\nVersion: 1\r\n"

// wrap puts an armor into a mail.
func wrap(armor, cte string) string {
	head := "Content-Type: application/octet-stream; name=\"encrypted.asc\"\r\n"
	switch cte {
	case "base64":
		head += "Content-Transfer-Encoding: base64\r\n"
		armor = fold(base64.StdEncoding.EncodeToString([]byte(armor)), 76)
	case "quoted-printable":
		head += "Content-Transfer-Encoding: quoted-printable\r\n"
		var b strings.Builder
		for line := range strings.SplitAfterSeq(armor, "\r\n") {
			line = strings.ReplaceAll(line, "=", "=3D")
			if len(line) > 40 {
				line = line[:30] + "=\r\n" + line[30:]
			}
			b.WriteString(line)
		}
		armor = b.String()
	case "7bit":
		head += "Content-Transfer-Encoding: 7bit\r\n"
	}
	return mailOf(versionPart, head+"\r\n"+armor)
}

func mailOf(parts ...string) string {
	var b strings.Builder
	b.WriteString(topHeader + encryptedType + "\r\n")
	for _, p := range parts {
		b.WriteString("--b1\r\n" + p + "\r\n")
	}
	b.WriteString("--b1--\r\n")
	return b.String()
}

func fold(s string, n int) string {
	var b strings.Builder
	for len(s) > n {
		b.WriteString(s[:n] + "\r\n")
		s = s[n:]
	}
	b.WriteString(s + "\r\n")
	return b.String()
}

// armorOf wraps packets as most programs do, without checksum.
func armorOf(packets []byte) string {
	return armorBegin + "\r\n\r\n" + fold(base64.StdEncoding.EncodeToString(packets), 64) + armorEnd + "\r\n"
}

func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

// dropCRC takes the checksum line out.
func dropCRC(armor string) string {
	i := strings.LastIndex(armor, "\r\n=")
	if i < 0 {
		return armor
	}
	return armor[:i] + armor[i+7:]
}

// Every armor that real programs wrote is accepted in every wrapping.
func TestAcceptRealProducers(t *testing.T) {
	files, err := filepath.Glob("testdata/armor/*.asc")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	seenCRC, seenNoCRC := false, false
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(f)
		for _, cte := range []string{"", "7bit", "base64", "quoted-printable"} {
			for _, crc := range []bool{true, false} {
				armor := crlf(string(b))
				if !crc {
					armor = dropCRC(armor)
				}
				if strings.Contains(armor, "\r\n=") {
					seenCRC = true
				} else {
					seenNoCRC = true
				}
				msg := []byte(wrap(armor, cte))
				if v := Check(msg, Incoming, nil); !v.Encrypted {
					t.Errorf("%s %s crc=%v incoming: %s", name, cte, crc, v.Reason)
				}
				v := Check(msg, Outgoing, nil)
				if headers := strings.HasPrefix(name, "in-"); v.Encrypted == headers || headers && v.Reason != "armor header" {
					t.Errorf("%s %s crc=%v outgoing: %+v", name, cte, crc, v)
				}
			}
		}
		// An armor with LF alone inside base64, as a file attached by hand has.
		lf := strings.ReplaceAll(string(b), "\r\n", "\n")
		if v := Check([]byte(wrap(lf, "base64")), Incoming, nil); !v.Encrypted {
			t.Errorf("%s LF: %s", name, v.Reason)
		}
	}
	if !seenCRC || !seenNoCRC {
		t.Error("the corpus does not cover the checksum both ways")
	}
}

// Packets built by hand. b is the body without the version octet.
func newFormat(tag byte, body []byte) []byte {
	return append([]byte{0xc0 | tag, 255, 0, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}

func pkesk() []byte { return newFormat(tagPKESK, append([]byte{3}, make([]byte, 90)...)) }

func seipd(n int) []byte {
	return newFormat(tagSEIPD, append([]byte{1}, bytes.Repeat([]byte{0x5a}, n-1)...))
}

func cat(p ...[]byte) []byte { return bytes.Join(p, nil) }

func TestPackets(t *testing.T) {
	body := func(n int) []byte { return append([]byte{1}, make([]byte, n-1)...) }
	partial := func(first byte, rest ...[]byte) []byte {
		out := append([]byte{0xc0 | tagSEIPD, first}, body(1<<(first&31))...)
		return append(out, cat(rest...)...)
	}
	chunk := func(l byte) []byte { return append([]byte{l}, make([]byte, 1<<(l&31))...) }
	for name, c := range map[string]struct {
		data []byte
		why  string
	}{
		"pkesk, seipd":                  {cat(pkesk(), seipd(100)), ""},
		"many":                          {cat(pkesk(), pkesk(), newFormat(tagSKESK, []byte{4, 9, 0, 8}), seipd(100)), ""},
		"seipd alone":                   {seipd(100), ""},
		"skesk v5, v6":                  {cat(newFormat(tagSKESK, []byte{5, 0}), newFormat(tagSKESK, []byte{6, 0}), seipd(100)), ""},
		"pkesk v6, seipd v2":            {cat(newFormat(tagPKESK, []byte{6, 0}), newFormat(tagSEIPD, append([]byte{2}, make([]byte, 60)...))), ""},
		"one octet length":              {append([]byte{0xc0 | tagSEIPD, 191}, body(191)...), ""},
		"two octet length, low":         {append([]byte{0xc0 | tagSEIPD, 192, 0}, body(192)...), ""},
		"two octet length, high":        {append([]byte{0xc0 | tagSEIPD, 223, 255}, body(8383)...), ""},
		"old format, one octet":         {cat([]byte{0x84, 3, 3, 0, 0}, seipd(100)), ""},
		"old format, two octets":        {cat([]byte{0x85, 0, 3, 3, 0, 0}, seipd(100)), ""},
		"old format, four octets":       {cat([]byte{0x86, 0, 0, 0, 3, 3, 0, 0}, seipd(100)), ""},
		"partial 512":                   {partial(0xe9, []byte{0}), ""},
		"partial 512, small second":     {partial(0xe9, chunk(0xe0), []byte{1, 0}), ""},
		"shortest seipd":                {seipd(minSEIPD), ""},
		"largest esk":                   {cat(newFormat(tagPKESK, append([]byte{3}, make([]byte, maxESK-1)...)), seipd(100)), ""},
		"nothing":                       {nil, "packets are cut off"},
		"pkesk alone":                   {pkesk(), "packets are cut off"},
		"seipd cut off":                 {seipd(100)[:105], "packets are cut off"},
		"pkesk cut off":                 {pkesk()[:20], "packets are cut off"},
		"header cut off":                {cat(pkesk(), []byte{0xc0 | tagSEIPD, 255, 0}), "packets are cut off"},
		"tag alone":                     {cat(pkesk(), []byte{0xc0 | tagSEIPD}), "packets are cut off"},
		"partial without end":           {partial(0xe9), "packets are cut off"},
		"one octet behind":              {cat(pkesk(), seipd(100), []byte{0}), "data behind the encrypted packet"},
		"two seipd":                     {cat(pkesk(), seipd(100), seipd(100)), "data behind the encrypted packet"},
		"pkesk behind":                  {cat(seipd(100), pkesk()), "data behind the encrypted packet"},
		"behind a partial":              {cat(partial(0xe9, []byte{0}), []byte("x")), "data behind the encrypted packet"},
		"literal data":                  {newFormat(11, body(100)), "packet that does not belong into an encrypted message"},
		"compressed data":               {cat(pkesk(), newFormat(8, body(100))), "packet that does not belong into an encrypted message"},
		"signature first":               {cat(newFormat(2, body(50)), seipd(100)), "packet that does not belong into an encrypted message"},
		"marker":                        {cat(newFormat(10, []byte("PGP")), pkesk(), seipd(100)), "packet that does not belong into an encrypted message"},
		"padding":                       {cat(pkesk(), newFormat(21, body(50)), seipd(100)), "packet that does not belong into an encrypted message"},
		"sed without integrity (tag 9)": {cat(pkesk(), newFormat(9, body(100))), "packet that does not belong into an encrypted message"},
		"ocb packet (tag 20)":           {cat(pkesk(), newFormat(20, body(100))), "packet that does not belong into an encrypted message"},
		"tag 0":                         {cat([]byte{0xc0, 0}, seipd(100)), "packet that does not belong into an encrypted message"},
		"text":                          {[]byte("hello world"), "not a packet"},
		"indeterminate":                 {append([]byte{0x87}, body(100)...), "packet of indeterminate length"},
		"first partial 256":             {partial(0xe8, []byte{0}), "first partial length too short"},
		"partial pkesk":                 {append([]byte{0xc0 | tagPKESK, 0xe9, 3}, make([]byte, 600)...), "session key packet of partial length"},
		"pkesk version 2":               {cat(newFormat(tagPKESK, []byte{2, 0}), seipd(100)), "unknown packet version"},
		"skesk version 3":               {cat(newFormat(tagSKESK, []byte{3, 0}), seipd(100)), "unknown packet version"},
		"seipd version 3":               {newFormat(tagSEIPD, append([]byte{3}, make([]byte, 90)...)), "unknown packet version"},
		"seipd is text":                 {newFormat(tagSEIPD, []byte(strings.Repeat("hello ", 20))), "unknown packet version"},
		"empty pkesk":                   {cat([]byte{0xc0 | tagPKESK, 0}, seipd(100)), "empty packet"},
		"short seipd":                   {seipd(minSEIPD - 1), "encrypted packet too short"},
		"large esk":                     {cat(newFormat(tagPKESK, append([]byte{3}, make([]byte, maxESK)...)), seipd(100)), "session key packet too large"},
	} {
		if v := Check([]byte(wrap(armorOf(c.data), "")), Incoming, nil); v.Reason != c.why || v.Encrypted != (c.why == "") {
			t.Errorf("%s: %+v, want %q", name, v, c.why)
		}
		for _, n := range []int{1, 2, 7} { // pieces must not matter
			var w walker
			ok := true
			for i := 0; i < len(c.data) && ok; i += n {
				ok = w.write(c.data[i:min(i+n, len(c.data))])
			}
			if why := w.finish(); why != c.why {
				t.Errorf("%s in pieces of %d: %q, want %q", name, n, why, c.why)
			}
		}
	}
}

// good is a short accepted armor.
func good() string { return armorOf(cat(pkesk(), seipd(100))) }

func TestArmor(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString(cat(pkesk(), seipd(100))) // 203 octets: ends in "="
	if b64[len(b64)-1] != '=' {
		t.Fatal("the test needs padding")
	}
	head, tail := armorBegin+"\r\n\r\n", armorEnd+"\r\n"
	body := fold(b64, 64)
	lines := strings.SplitAfter(body, "\r\n")
	for name, c := range map[string]struct {
		armor   string
		in, out string // reasons; "" accepted
	}{
		"plain":                       {head + body + tail, "", ""},
		"no line end at the end":      {head + body + armorEnd, "", ""},
		"empty lines behind":          {head + body + tail + "\r\n\r\n", "", ""},
		"empty lines before the data": {head + "\r\n" + body + tail, "", ""},
		"checksum":                    {head + body + "=AbC+\r\n" + tail, "", ""},
		"wrong checksum":              {head + body + "=AAAA\r\n" + tail, "", ""},
		"lines of 61":                 {head + fold(b64, 61) + tail, "", ""},
		"lines of 1":                  {head + fold(b64, 1) + tail, "", ""},
		"one line":                    {head + fold(b64, 500) + tail, "", ""},
		"Version":                     {armorBegin + "\r\nVersion: x\r\n\r\n" + body + tail, "", "armor header"},
		"Comment":                     {armorBegin + "\r\nComment: x\r\n\r\n" + body + tail, "", "armor header"},
		"all known":                   {armorBegin + "\r\nVersion: x\r\nComment: x\r\nHash: x\r\nCharset: x\r\nMessageID: x\r\n\r\n" + body + tail, "", "armor header"},
		"8 headers":                   {armorBegin + strings.Repeat("\r\nComment: x", 8) + "\r\n\r\n" + body + tail, "", "armor header"},
		"9 headers":                   {armorBegin + strings.Repeat("\r\nComment: x", 9) + "\r\n\r\n" + body + tail, "too much armor header", "armor header"},
		"long header":                 {armorBegin + "\r\nComment: " + strings.Repeat("x", maxArmorHeaderLine) + "\r\n\r\n" + body + tail, "too much armor header", "armor header"},
		"unknown header":              {armorBegin + "\r\nText: x\r\n\r\n" + body + tail, "unknown armor header", "armor header"},
		"no empty line":               {armorBegin + "\r\n" + body + tail, "unknown armor header", "armor header"},
		"nothing":                     {"", "armor without end", "armor without end"},
		"text before":                 {"hello\r\n" + head + body + tail, "no armor at the start", "no armor at the start"},
		"empty line before":           {"\r\n" + head + body + tail, "no armor at the start", "no armor at the start"},
		"space in the first line":     {armorBegin + " \r\n\r\n" + body + tail, "no armor at the start", "no armor at the start"},
		"signed message":              {strings.ReplaceAll(head+body+tail, "PGP MESSAGE", "PGP SIGNATURE"), "no armor at the start", "no armor at the start"},
		"text behind":                 {head + body + tail + "hello\r\n", "text behind the armor", "text behind the armor"},
		"text in the last line":       {head + body + armorEnd + " hello\r\n", "malformed end of the armor", "malformed end of the armor"},
		"second armor":                {head + body + tail + head + body + tail, "text behind the armor", "text behind the armor"},
		"no end":                      {head + body, "armor without end", "armor without end"},
		"no data":                     {head + tail, "packets are cut off", "packets are cut off"},
		"text between":                {head + lines[0] + "hello, world\r\n" + strings.Join(lines[1:], "") + tail, "malformed base64 in the armor", "malformed base64 in the armor"},
		"empty line between":          {head + lines[0] + "\r\n" + strings.Join(lines[1:], "") + tail, "empty line in the armor", "empty line in the armor"},
		"space at a line end":         {head + lines[0][:64] + " \r\n" + strings.Join(lines[1:], "") + tail, "malformed base64 in the armor", "malformed base64 in the armor"},
		"CRs between":                 {head + lines[0][:64] + "\r\r\r\r\r\n" + strings.Join(lines[1:], "") + tail, "malformed base64 in the armor", "malformed base64 in the armor"},
		"text behind the padding":     {head + strings.TrimSuffix(body, "\r\n") + "AAAA\r\n" + tail, "malformed base64 in the armor", "malformed base64 in the armor"},
		"line behind the padding":     {head + body + "AAAA\r\n" + tail, "malformed base64 in the armor", "malformed base64 in the armor"},
		"missing padding":             {head + strings.TrimSuffix(body, "=\r\n") + "\r\n" + tail, "malformed base64 in the armor", "malformed base64 in the armor"},
		"bits behind the end":         {head + fold(b64[:len(b64)-2]+"p=", 64) + tail, "malformed base64 in the armor", "malformed base64 in the armor"},
		"url alphabet":                {head + "-_-_\r\n" + body + tail, "malformed end of the armor", "malformed end of the armor"},
		"two checksums":               {head + body + "=AAAA\r\n=AAAA\r\n" + tail, "malformed end of the armor", "malformed end of the armor"},
		"long checksum":               {head + body + "=AAAAA\r\n" + tail, "malformed armor checksum", "malformed armor checksum"},
		"padded checksum":             {head + body + "=AAA=\r\n" + tail, "malformed armor checksum", "malformed armor checksum"},
		"checksum is text":            {head + body + "=a b!\r\n" + tail, "malformed armor checksum", "malformed armor checksum"},
		"data behind the checksum":    {head + body + "=AAAA\r\nAAAA\r\n" + tail, "malformed end of the armor", "malformed end of the armor"},
	} {
		for _, cte := range []string{"", "base64", "quoted-printable"} {
			if strings.Contains(c.armor, "\r\r") && cte != "" && cte != "base64" {
				continue // a bare CR cannot be written in this test's quoted-printable
			}
			m := []byte(wrap(c.armor, cte))
			if v := Check(m, Incoming, nil); v.Reason != c.in || v.Encrypted != (c.in == "") {
				t.Errorf("%s %s incoming: %+v, want %q", name, cte, v, c.in)
			}
			if v := Check(m, Outgoing, nil); v.Reason != c.out || v.Encrypted != (c.out == "") {
				t.Errorf("%s %s outgoing: %+v, want %q", name, cte, v, c.out)
			}
		}
		// Pieces must not matter.
		for _, n := range []int{1, 3, 50} {
			a := armor{incoming: true}
			ok := true
			for i := 0; i < len(c.armor) && ok; i += n {
				ok = a.write([]byte(c.armor[i:min(i+n, len(c.armor))]))
			}
			if why := a.finish(); why != c.in {
				t.Errorf("%s in pieces of %d: %q, want %q", name, n, why, c.in)
			}
		}
	}
	long := head + strings.Repeat("A", maxEncodedLine+4) + "\r\n" + tail
	if v := Check([]byte(wrap(long, "")), Incoming, nil); v.Encrypted || v.Reason == "" {
		t.Errorf("long line: %+v", v)
	}
}

func TestStructure(t *testing.T) {
	data := "Content-Type: application/octet-stream\r\n\r\n" + good()
	ok := mailOf(versionPart, data)
	sub := func(old, new string) string {
		if strings.Count(ok, old) == 0 {
			t.Fatalf("%q is not in the mail", old)
		}
		return strings.Replace(ok, old, new, 1)
	}
	head, body, _ := strings.Cut(ok, "\r\n\r\n")
	for name, c := range map[string]struct{ msg, why string }{
		"plain":                    {ok, ""},
		"upper case types":         {strings.NewReplacer("multipart/encrypted", "Multipart/ENCRYPTED", "application/pgp-encrypted\r", "Application/PGP-Encrypted\r", "octet-stream", "Octet-Stream").Replace(ok), ""},
		"other protocol":           {sub(`protocol="application/pgp-encrypted"`, `protocol="x/y"`), ""},
		"no protocol":              {sub(`protocol="application/pgp-encrypted";`, ""), ""},
		"boundary token":           {sub(`boundary="b1"`, "boundary=b1"), ""},
		"boundary folded":          {sub(`boundary="b1"`, "\r\n boundary = \"b1\" ;"), ""},
		"CRLF before":              {head + "\r\n\r\n\r\n" + body, ""},
		"Thunderbird's sentence":   {head + "\r\n\r\n" + knownPreambles[0] + body, ""},
		"GPGTools' sentence":       {head + "\r\n\r\n" + knownPreambles[1] + body, ""},
		"both sentences":           {head + "\r\n\r\n" + knownPreambles[0] + knownPreambles[1] + body, "text before the first part"},
		"sentence, empty line":     {head + "\r\n\r\n" + knownPreambles[0] + "\r\n" + body, "text before the first part"},
		"no CRLF at the end":       {strings.TrimSuffix(ok, "\r\n"), ""},
		"two CRLF at the end":      {ok + "\r\n", ""},
		"encodings":                {sub("Content-Type: application/octet-stream\r\n", "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: 8BIT\r\n"), ""},
		"version base64":           {sub("\r\n\r\nVersion: 1\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\nVmVyc2lvbjogMQ==\r\n"), ""},
		"version qp":               {sub("\r\n\r\nVersion: 1\r\n", "\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nVersion=3A =\r\n1\r\n"), ""},
		"version white space":      {sub("Version: 1\r\n", "\r\nVersion: 1 \r\n\r\n"), ""},
		"top 8bit":                 {sub("MIME-Version", "Content-Transfer-Encoding: 8bit\r\nMIME-Version"), ""},
		"empty":                    {"", "not multipart/encrypted"},
		"no header":                {"\r\nhello", "not multipart/encrypted"},
		"garbage header":           {"hello world\r\n" + ok, "malformed message header"},
		"plain text":               {"From: a@b\r\n\r\nhello", "not multipart/encrypted"},
		"mixed":                    {sub("multipart/encrypted", "multipart/mixed"), "not multipart/encrypted"},
		"NUL in the header":        {sub("Subject: [...]", "Subject: [\x00]"), "control character in a header"},
		"bare LF in the header":    {sub("Subject: [...]\r\n", "Subject: [...]\n"), "control character in a header"},
		"bare CR in the header":    {sub("Subject: [...]", "Subject: [.\r.]"), "control character in a header"},
		"bare LF in a part header": {mailOf(versionPart, "X: y\n"+data), "control character in a header"},
		"8-bit and TAB in header":  {sub("Subject: [...]", "Subject: \té"), ""},
		"two types":                {sub("MIME-Version", "Content-Type: text/plain\r\nMIME-Version"), "repeated MIME header field"},
		"same type twice":          {sub("MIME-Version", encryptedType+"MIME-Version"), "malformed boundary"},
		"type with comment":        {sub("multipart/encrypted;", "multipart/encrypted (x);"), "malformed Content-Type"},
		"no boundary":              {sub("boundary=", "bound="), "no boundary"},
		"two boundaries":           {sub(`boundary="b1"`, `boundary="b1"; boundary="b2"`), "malformed boundary"},
		"RFC 2231 boundary":        {sub(`boundary="b1"`, `boundary*0="b1"`), "malformed boundary"},
		"RFC 2231 boundary second": {sub(`boundary="b1"`, `boundary="b1"; boundary*=us-ascii''b2`), "malformed boundary"},
		"boundary token, space":    {strings.ReplaceAll(sub(`boundary="b1"`, "boundary=b 1"), "--b1", "--b 1"), "malformed boundary"},
		"boundary quoted, space":   {strings.ReplaceAll(sub(`boundary="b1"`, `boundary="b 1"`), "--b1", "--b 1"), ""},
		"name with spaces":         {sub("application/octet-stream\r\n", "application/octet-stream; name=my file@x.asc; a=b\r\n"), ""},
		"no semicolon":             {sub(`protocol="application/pgp-encrypted";`, `protocol="application/pgp-encrypted"`), "malformed Content-Type"},
		"comment in a value":       {sub(`boundary="b1"`, `x=y (z); boundary="b1"`), "malformed Content-Type"},
		"quote in a token":         {sub(`boundary="b1"`, `x=y"; boundary="b1"`), "malformed Content-Type"},
		"open quote":               {sub(`boundary="b1"`, `boundary="b1`), "malformed Content-Type"},
		"empty boundary":           {strings.ReplaceAll(ok, "b1", ""), "malformed boundary"},
		"long boundary":            {strings.ReplaceAll(ok, "b1", strings.Repeat("b", 71)), "malformed boundary"},
		"longest boundary":         {strings.ReplaceAll(ok, "b1", strings.Repeat("b", 70)), ""},
		"encoded multipart":        {sub("MIME-Version", "Content-Transfer-Encoding: base64\r\nMIME-Version"), "encoded multipart"},
		"two encodings":            {sub("MIME-Version", "Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: 7bit\r\nMIME-Version"), "repeated MIME header field"},
		"preamble":                 {head + "\r\n\r\nhello\r\n" + body, "text before the first part"},
		"two CRLF before":          {head + "\r\n\r\n\r\n\r\n" + body, "text before the first part"},
		"sentence and more":        {head + "\r\n\r\n" + knownPreambles[0] + "hello\r\n" + body, "text before the first part"},
		"epilogue":                 {ok + "hello\r\n", "text behind the last part"},
		"three CRLF at the end":    {ok + "\r\n\r\n", "text behind the last part"},
		"text in the last line":    {sub("--b1--", "--b1--hello"), "text behind the last part"},
		"text in a boundary line":  {sub("--b1\r\n", "--b1 hello\r\n"), "malformed boundary line"},
		"padding in boundary line": {sub("--b1\r\n", "--b1 \r\n"), "malformed boundary line"},
		"no last boundary":         {sub("--b1--\r\n", ""), "no final boundary"},
		"one part":                 {mailOf(versionPart), "not exactly two parts"},
		"no parts":                 {mailOf(), "not exactly two parts"},
		"three parts":              {mailOf(versionPart, data, "Content-Type: text/plain\r\n\r\nhello"), "too many parts"},
		"empty third part":         {mailOf(versionPart, data, ""), "too many parts"},
		"parts swapped":            {mailOf(data, versionPart), "first part is not application/pgp-encrypted"},
		"empty first part":         {mailOf("", data), "first part is not application/pgp-encrypted"},
		"longer boundary inside":   {mailOf(versionPart, data+"\r\n--b1x\r\nhello"), "malformed boundary line"},
		"version 2":                {sub("\nVersion: 1", "\nVersion: 2"), "first part is not Version: 1"},
		"version and text":         {sub("Version: 1\r\n", "Version: 1\r\nhello\r\n"), "first part is not Version: 1"},
		"version lower case":       {sub("\nVersion: 1", "\nversion: 1"), "first part is not Version: 1"},
		"version large":            {sub("Version: 1\r\n", "Version: 1\r\n"+strings.Repeat("\r\n", 600)), "first part is not Version: 1"},
		"first part is text":       {sub("Content-Type: application/pgp-encrypted\r\n", "Content-Type: text/plain\r\n"), "first part is not application/pgp-encrypted"},
		"first part is multipart":  {sub("Content-Type: application/pgp-encrypted\r\n", "Content-Type: multipart/mixed; boundary=x\r\n"), "first part is not application/pgp-encrypted"},
		"first part bad header":    {mailOf("hello\r\n"+versionPart, data), "malformed part header"},
		"second part is text":      {sub("application/octet-stream", "text/plain"), "second part is not application/octet-stream"},
		"second part two types":    {mailOf(versionPart, "Content-Type: text/plain\r\n"+data), "repeated MIME header field"},
		"unknown encoding":         {mailOf(versionPart, "Content-Transfer-Encoding: x-uuencode\r\n"+data), "malformed transfer encoding"},
		"base64 but is not":        {mailOf(versionPart, "Content-Transfer-Encoding: base64\r\n"+data), "malformed transfer encoding"},
		"qp but is not":            {mailOf(versionPart, "Content-Transfer-Encoding: quoted-printable\r\n"+strings.Replace(data, "BEGIN", "=ZZ", 1)), "malformed transfer encoding"},
	} {
		for _, dir := range []Direction{Outgoing, Incoming} {
			if v := Check([]byte(c.msg), dir, nil); v.Reason != c.why || v.Encrypted != (c.why == "") || v.Exception != NoException {
				t.Errorf("%s (%d): %+v, want %q", name, dir, v, c.why)
			}
		}
	}
	// Foreign characters in the transfer encoding are a place for text too.
	b := wrap(good(), "base64")
	i := strings.Index(b, "base64\r\n\r\n") + 10
	for name, m := range map[string]string{
		"text":           b[:i] + "hello world!\r\n" + b[i:],
		"empty line":     b[:i+78] + "\r\n" + b[i+78:],
		"CR":             b[:i+76] + "\r" + b[i+76:],
		"LF":             b[:i+76] + "\n" + b[i+76:],
		"behind padding": strings.Replace(b, "\r\n\r\n--b1--", "\r\nAAAA\r\n\r\n--b1--", 1),
	} {
		if v := Check([]byte(m), Incoming, nil); v.Encrypted || v.Reason == "" {
			t.Errorf("base64 with %s: %+v", name, v)
		}
	}
}

func TestExceptions(t *testing.T) {
	addr := func(s string) mail.Address {
		a, err := mail.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	self, other := []mail.Address{addr("A@example.org")}, []mail.Address{addr("b@example.org")}
	join := func(header, part string) string {
		return topHeader + header + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + part + "\r\n--b--\r\n"
	}
	req := "Secure-Join: vc-request\r\n"
	setup := "From: a@example.org\r\nSubject: Autocrypt Setup Message\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b--\r\n"
	bounce := "From: Mail <MAILER-DAEMON@x.example>\r\nAuto-Submitted: auto-replied\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b--\r\n"
	text := "Content-Type: text/plain; charset=utf-8\r\n\r\n"
	for name, c := range map[string]struct {
		msg     string
		rcpt    []mail.Address
		out, in Exception
	}{
		"vc-request":             {join(req, text+"Secure-Join: vc-request"), other, SecureJoinRequest, SecureJoinRequest},
		"vg-request":             {join("Secure-Join: vg-request\r\n", text+"secure-join: vg-request\r\n"), other, SecureJoinRequest, SecureJoinRequest},
		"no part header":         {join(req, "\r\nsecure-join: vc-request"), other, SecureJoinRequest, SecureJoinRequest},
		"bare text":              {topHeader + req + text + "secure-join: vc-request\r\n", other, SecureJoinRequest, SecureJoinRequest},
		"base64":                 {join(req, "Content-Transfer-Encoding: base64\r\n\r\nc2VjdXJlLWpvaW46IHZjLXJlcXVlc3Q=\r\n"), other, SecureJoinRequest, SecureJoinRequest},
		"qp":                     {join(req, "Content-Transfer-Encoding: quoted-printable\r\n\r\nsecure-join: vc-=\r\nrequest"), other, SecureJoinRequest, SecureJoinRequest},
		"no header":              {join("", text+"secure-join: vc-request"), other, NoException, NoException},
		"other header":           {join("Secure-Join: vc-auth-required\r\n", text+"secure-join: vc-request"), other, NoException, NoException},
		"upper case header":      {join("Secure-Join: VC-REQUEST\r\n", text+"secure-join: vc-request"), other, NoException, NoException},
		"two headers":            {join(req+req, text+"secure-join: vc-request"), other, NoException, NoException},
		"other text":             {join(req, text+"secure-join: vc-request and more"), other, NoException, NoException},
		"html":                   {join(req, "Content-Type: text/html\r\n\r\nsecure-join: vc-request"), other, NoException, NoException},
		"two parts":              {join(req, text+"secure-join: vc-request\r\n--b\r\n"+text+"hello"), other, NoException, NoException},
		"preamble":               {strings.Replace(join(req, text+"secure-join: vc-request"), "\r\n\r\n--b", "\r\n\r\nhello\r\n--b", 1), other, NoException, NoException},
		"Thunderbird's preamble": {strings.Replace(join(req, text+"secure-join: vc-request"), "\r\n\r\n--b", "\r\n\r\n"+knownPreambles[0]+"--b", 1), other, NoException, NoException},
		"epilogue":               {join(req, text+"secure-join: vc-request") + "hello", other, NoException, NoException},
		"nested":                 {join(req, "Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nsecure-join: vc-request\r\n--c--"), other, NoException, NoException},

		"setup":                {setup, self, SetupMessage, NoException},
		"setup to another":     {setup, other, NoException, NoException},
		"setup to two":         {setup, append(other, self...), NoException, NoException},
		"setup to nobody":      {setup, nil, NoException, NoException},
		"setup, other subject": {strings.Replace(setup, "Setup Message", "Setup message", 1), self, NoException, NoException},
		"setup, two subjects":  {"Subject: Autocrypt Setup Message\r\n" + setup, self, NoException, NoException},
		"setup, other type":    {strings.Replace(setup, "mixed", "alternative", 1), self, NoException, NoException},
		"setup, two From":      {"From: a@example.org\r\n" + setup, self, NoException, NoException},

		"bounce":               {bounce, other, NoException, Bounce},
		"bounce, no auto":      {strings.Replace(bounce, "Auto-Submitted", "X", 1), other, NoException, NoException},
		"bounce, empty auto":   {strings.Replace(bounce, "auto-replied", "", 1), other, NoException, NoException},
		"bounce, other sender": {strings.Replace(bounce, "MAILER-DAEMON", "mailer-daemon2", 1), other, NoException, NoException},
		"bounce, other type":   {strings.Replace(bounce, "multipart/report", "multipart/mixed", 1), other, NoException, NoException},
		"bounce, two From":     {"From: a@b\r\n" + bounce, other, NoException, NoException},

		"plain": {topHeader + "\r\nhello\r\n", self, NoException, NoException},
		"mdn":   {topHeader + "Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n--b\r\n\r\nread\r\n--b--\r\n", self, NoException, NoException},
	} {
		for dir, want := range map[Direction]Exception{Outgoing: c.out, Incoming: c.in} {
			v := Check([]byte(c.msg), dir, c.rcpt)
			if v.Encrypted || v.Exception != want || v.Reason == "" || v.Allowed() != (want != NoException) {
				t.Errorf("%s (%d): %+v, want exception %d", name, dir, v, want)
			}
		}
	}
	if v := Check([]byte(wrap(good(), "")), Outgoing, nil); !v.Allowed() {
		t.Errorf("%+v", v)
	}
}

// The reason never quotes the mail.
func TestReasonIsFixedText(t *testing.T) {
	for _, m := range []string{"canary-9: x", "canary-9", topHeader + "Content-Type: canary-9\r\n\r\n",
		mailOf("canary-9"), mailOf(versionPart, "canary-9: y\r\n\r\ncanary-9"), wrap("canary-9", ""), wrap(armorBegin+"\r\ncanary-9: x", "")} {
		v := Check([]byte(m), Incoming, nil)
		if v.Encrypted || v.Reason == "" || strings.Contains(v.Reason, "canary") {
			t.Errorf("%+v", v)
		}
	}
}

func sized(n int) []byte {
	return []byte(wrap(armorOf(cat(pkesk(), newFormat4(n))), ""))
}

func newFormat4(n int) []byte {
	return append([]byte{0xc0 | tagSEIPD, 255, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 1}, make([]byte, n-1)...)
}

// Memory does not grow with the mail.
func TestMemory(t *testing.T) {
	for _, cte := range []string{"", "base64", "quoted-printable"} {
		var got [2]uint64
		for i, n := range []int{10_000, 1_000_000} {
			m := []byte(wrap(armorOf(cat(pkesk(), newFormat4(n))), cte))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range 16 {
				if v := Check(m, Outgoing, nil); !v.Encrypted {
					t.Fatal(v.Reason)
				}
			}
			runtime.ReadMemStats(&after)
			got[i] = (after.TotalAlloc - before.TotalAlloc) / 16
		}
		if got[1] > got[0]+1024 || got[0] > 32<<10 {
			t.Errorf("%q: %v bytes for 10 kB, %v for 1 MB", cte, got[0], got[1])
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{7_000, 1_000_000, 22_000_000} {
		m := sized(n)
		b.Run(fmt.Sprintf("%dkB", len(m)/1000), func(b *testing.B) {
			b.SetBytes(int64(len(m)))
			b.ReportAllocs()
			for b.Loop() {
				if v := Check(m, Outgoing, nil); !v.Encrypted {
					b.Fatal(v.Reason)
				}
			}
		})
	}
}
