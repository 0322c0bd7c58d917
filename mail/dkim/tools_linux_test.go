package dkim

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/tooltest"
)

// ours gives mails that we signed, one for each kind of key and one with both.
func ours(t *testing.T) (mails map[string][]byte, keys map[string][]string) {
	t.Helper()
	s := newSigner()
	r, e := Key{"r1", s.rsa}, Key{"e1", s.ed}
	_, keys = signerOf(t, "a.example", r, e)
	mails = make(map[string][]byte)
	const odd = "From: Joe <joe@a.example>\r\nSubject:  white \t space\r\n  folded\r\nDate: Thu, 5 Nov 2026 10:00:00 +0000\r\nOdd_Field.:x\r\n\r\n a  line \t\r\n\r\nmore\r\n\r\n\r\n"
	for name, list := range map[string][]Key{"rsa": {r}, "ed25519": {e}, "both": {r, e}} {
		for kind, raw := range map[string]string{"chat": chat, "odd": odd} {
			mails[name+" "+kind] = signed(t, &Signer{Domain: "a.example", Keys: list}, raw)
		}
	}
	return mails, keys
}

// spoil changes one letter of the body.
func spoil(raw []byte) []byte {
	changed := bytes.Clone(raw)
	changed[bytes.LastIndex(raw, []byte("e"))] = 'i'
	return changed
}

// TestOpenDKIMVerifies: OpenDKIM's library finds our signatures valid, of both kinds, and
// not those of a changed mail.
func TestOpenDKIMVerifies(t *testing.T) {
	verify := tooltest.Tool(t, "opendkim-testmsg")
	mails, keys := ours(t)
	for name, raw := range mails {
		if out, code := withRecords(t, keys, raw, verify); code != 0 || out != "" {
			t.Errorf("%s: exit %d, %s", name, code, out)
		}
		if out, code := withRecords(t, keys, spoil(raw), verify); code == 0 {
			t.Errorf("%s: a changed mail passes: %s", name, out)
		}
	}
}

// TestDKIMPyVerifies: python3-dkim's dkimverify, for each signature of a mail.
func TestDKIMPyVerifies(t *testing.T) {
	verify := tooltest.Tool(t, "dkimverify")
	mails, keys := ours(t)
	for name, raw := range mails {
		for i := range bytes.Count(raw, []byte("DKIM-Signature:")) {
			index := []string{"0", "1"}[i]
			if out, code := withRecords(t, keys, raw, verify, "--index", index); code != 0 || !strings.Contains(out, "signature ok") {
				t.Errorf("%s, signature %s: exit %d, %s", name, index, code, out)
			}
			if out, code := withRecords(t, keys, spoil(raw), verify, "--index", index); code == 0 {
				t.Errorf("%s, signature %s: a changed mail passes: %s", name, index, out)
			}
		}
	}
}

// TestDKIMPySigns: python3-dkim's dkimsign, of both kinds; we verify.
func TestDKIMPySigns(t *testing.T) {
	sign := tooltest.Tool(t, "dkimsign")
	s := newSigner()
	dir := t.TempDir()
	rsaFile, edFile := filepath.Join(dir, "rsa"), filepath.Join(dir, "ed")
	rsaPEM := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(s.rsa)})
	for name, data := range map[string][]byte{rsaFile: rsaPEM, edFile: []byte(base64.StdEncoding.EncodeToString(s.ed.Seed()))} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v := &Verifier{Lookup: records(map[string][]string{"k._domainkey.a.example": {"p=" + s.rsaRecord(), "k=ed25519; p=" + s.edRecord()}})}
	for kind, file := range map[string]string{"rsa-sha256": rsaFile, "ed25519-sha256": edFile} {
		for _, form := range [][2]string{{"simple", "simple"}, {"relaxed", "simple"}, {"simple", "relaxed"}, {"relaxed", "relaxed"}} {
			c := exec.CommandContext(t.Context(), sign, "--signalg", kind, "--hcanon", form[0], "--bcanon", form[1], "k", "a.example", file)
			c.Stdin = strings.NewReader(chat)
			c.Stderr = t.Output()
			signed, err := c.Output()
			if err != nil {
				t.Fatal(err)
			}
			if got := v.Verify(t.Context(), signed, "a.example"); got.Verdict != Valid {
				t.Errorf("%s %s: %+v\n%.900s", kind, form, got, signed)
			}
			if got := v.Verify(t.Context(), spoil(signed), "a.example"); got.Verdict != Invalid {
				t.Errorf("%s %s: changed: %+v", kind, form, got)
			}
		}
	}
}

// mailauthScript verifies what it reads, then signs it anew.
const mailauthScript = `
const { dkimVerify } = require('mailauth/lib/dkim/verify');
const { dkimSign } = require('mailauth/lib/dkim/sign');
(async () => {
  const job = JSON.parse(require('fs').readFileSync(0));
  const resolver = async (name, type) => {
    const found = type === 'TXT' && job.records[name];
    if (!found) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });
    return found.map(t => [t]);
  };
  const out = {};
  for (const [name, raw] of Object.entries(job.mails)) {
    const got = await dkimVerify(Buffer.from(raw, 'base64'), { resolver });
    out[name] = got.results.map(r => r.status.result + ' ' + r.signingDomain + ' ' + (r.status.comment || ''));
  }
  const signed = await dkimSign(Buffer.from(job.unsigned, 'base64'), { canonicalization: 'relaxed/relaxed',
    signatureData: job.keys.map(k => ({ signingDomain: 'a.example', selector: 'k', privateKey: k })) });
  console.log(JSON.stringify({ out, signatures: signed.signatures, errors: signed.errors.length }));
})();
`

// TestMailauth: npm's mailauth verifies our signatures, and we those that it makes now.
func TestMailauth(t *testing.T) {
	node := tooltest.Tool(t, "node")
	dir, err := filepath.Abs("../../interop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "mailauth")); err != nil {
		tooltest.Missing(t, "mailauth (npm ci in interop)")
	}
	s := newSigner()
	mails, keys := ours(t)
	names := slices.Collect(maps.Keys(mails))
	for _, name := range names {
		mails[name+", changed"] = spoil(mails[name])
	}
	var pems []string
	for _, k := range []any{s.rsa, s.ed} {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		pems = append(pems, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	}
	job, err := json.Marshal(map[string]any{"records": keys, "mails": mails, "unsigned": []byte(chat), "keys": pems})
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), node, "-e", mailauthScript)
	c.Dir, c.Stdin, c.Stderr = dir, bytes.NewReader(job), t.Output()
	text, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Out        map[string][]string
		Signatures string
		Errors     int
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, name := range names {
		want := bytes.Count(mails[name], []byte("DKIM-Signature:"))
		pass, fail := 0, 0
		for _, r := range got.Out[name] {
			if strings.HasPrefix(r, "pass a.example") {
				pass++
			}
		}
		for _, r := range got.Out[name+", changed"] {
			if !strings.HasPrefix(r, "pass") {
				fail++
			}
		}
		if pass != want || fail != want {
			t.Errorf("%s: %q, changed: %q", name, got.Out[name], got.Out[name+", changed"])
		}
	}
	for _, record := range []string{"p=" + s.rsaRecord(), "k=ed25519; p=" + s.edRecord()} {
		v := &Verifier{Lookup: records(map[string][]string{"k._domainkey.a.example": {record}})}
		if r := v.Verify(t.Context(), []byte(got.Signatures+chat), "a.example"); r.Verdict != Valid || got.Errors != 0 {
			t.Errorf("%.20s: %+v\n%s", record, r, got.Signatures)
		}
	}
}
