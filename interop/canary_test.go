package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/interop/canary"
	"postern.email/interop/mailclient"
)

// TestNothingReadableOnDisk plants canaries by the real protocols wherever a
// person's words can go, kills the server, and searches everything it left:
// the data directory, its log, its temporary files.
func TestNothingReadableOnDisk(t *testing.T) {
	// Mail for elsewhere waits in the queue: nobody answers there.
	s := start(t, append([]string{"delivery.remote=true", "delivery.routes=elsewhere.example host=127.0.0.1 smtp=1 https=off"}, noSendLimit...)...)
	u := user{"kanari4id@" + s.Domain, "Canary-Of-Password-09cf"} // the canary is the whole name: 9 letters
	friend := user{"zeisig4ax@" + s.Domain, "Second-Canary-Password-77"}
	planted := map[string]string{
		"account":        u.addr,
		"correspondent":  friend.addr,
		"password":       u.password,
		"other password": friend.password,
		"subject":        "canary-of-the-subject-55a1",
		"body":           "canary-of-the-body-8d03",
		"file name":      "canary-of-a-filename-31.pdf",
		"display name":   "Canary Of-A-Name Zwölf",
		"outside":        "canary.outside@elsewhere.example",
		"folder":         "Canary-Folder-e6b2",
		"keyword":        "CanaryKeyword77e1",
		"message id":     "canary-message-id-c9@client.example",
		"metadata":       "canary-of-metadata-40aa",
		"device token":   "canary-device-token-f00d",
		"search":         "canary-searched-for-1234",
		"ehlo":           "canary-ehlo-name.example",
		"client":         "canary-client-id-5150",
	}
	text := func(n int) []byte {
		var b strings.Builder
		fmt.Fprintf(&b, "From: %q <%s>\r\nTo: <%s>, <%s>\r\nSubject: %s\r\nMessage-ID: <%s>\r\n"+
			"Date: Thu, 19 Nov 2026 08:01:02 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n"+
			"--bb\r\nContent-Type: text/plain\r\n\r\n", "Canary Of-A-Name Zwoelf "+planted["display name"], u.addr, friend.addr, planted["outside"],
			planted["subject"], planted["message id"])
		for b.Len() < n {
			fmt.Fprintf(&b, "%s and the %s again.\r\n", planted["body"], planted["body"])
		}
		fmt.Fprintf(&b, "--bb\r\nContent-Type: application/pdf; name=%q\r\nContent-Disposition: attachment; filename=%q\r\n\r\n%%PDF\r\n--bb--\r\n",
			planted["file name"], planted["file name"])
		return []byte(b.String())
	}
	f := s.mustLogin(t, friend)
	c := s.mustLogin(t, u)
	do := func(format string, args ...any) {
		t.Helper()
		if _, err := c.Cmd(format, args...); err != nil {
			t.Fatal(err)
		}
	}
	try := func(format string, args ...any) { _, _ = c.Cmd(format, args...) } // what is not built may say NO; it may not write
	do(`ID ("name" %q)`, planted["client"])
	do("CREATE %q", planted["folder"])
	do("CREATE %q", planted["folder"]+"/"+planted["folder"])
	do("SUBSCRIBE %q", planted["folder"])
	do(`SETMETADATA "INBOX" (/private/devicetoken "openpgp:%s")`, planted["device token"])
	try(`SETMETADATA "INBOX" (/private/comment "%s")`, planted["metadata"])
	stored := 0
	for _, box := range []string{"INBOX", planted["folder"]} {
		for _, size := range []int{900, 20_000, 300_000} { // in the store, and beyond 64 KiB
			if _, err := c.Append(box, `\Seen `+planted["keyword"], text(size)); err == nil {
				stored++
			} else if _, err := c.Append(box, `\Seen `+planted["keyword"], mailclient.NewMaker(uint64(size)).Mail(u.addr, size)); err != nil {
				t.Fatalf("APPEND of an encrypted mail: %v", err)
			}
		}
	}
	if stored == 0 {
		t.Log("this server takes no cleartext by APPEND; bodies are planted in refused mails only")
	}
	do("SELECT INBOX")
	do(`UID STORE 1:* +FLAGS (%s)`, planted["keyword"])
	do("UID COPY 1 %q", planted["folder"])
	try("UID SEARCH TEXT %q", planted["search"])
	if _, err := f.Select("INBOX"); err != nil {
		t.Fatal(err)
	}

	// Submission: an encrypted mail with what stands around the ciphertext, a
	// refused one with everything, a refused recipient.
	out := s.mustSubmit(t, u)
	if _, err := out.Cmd("EHLO " + planted["ehlo"]); err != nil {
		t.Fatal(err)
	}
	mail := mailclient.NewMaker(9).Mail(u.addr, 9000)
	mail = []byte(strings.Replace(string(mail), "Subject: [...]", "Subject: "+planted["subject"]+"\r\nX-Mailer: "+planted["client"]+
		"\r\nMessage-ID: <"+planted["message id"]+">\r\nTo: <"+planted["outside"]+">", 1))
	for range 20 {
		if err := out.Send(u.addr, []string{friend.addr, u.addr}, mail); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Send(u.addr, []string{friend.addr}, text(5000)); mailclient.CodeOf(err) != 523 {
		t.Errorf("cleartext: %v, want 523", err)
	}
	for _, size := range []int{9000, 300_000} { // in the store, and in a file
		queued := []byte(strings.Replace(string(mailclient.NewMaker(uint64(size)).Mail(u.addr, size)), "To: ", "Message-ID: <"+planted["message id"]+">\r\nX-Note: "+
			planted["display name"]+"\r\nTo: <"+planted["outside"]+">, ", 1))
		if err := out.Send(u.addr, []string{planted["outside"], friend.addr}, queued); err != nil {
			t.Fatal(err)
		}
	}
	waits := func() {
		t.Helper()
		eventually(t, patience, func() error {
			r := command(t, nil, binary(t), "queue", "list", "--dir", s.dir)
			if strings.Count(r.out, planted["outside"]) != 2 || !strings.Contains(r.out, "does not answer") {
				return fmt.Errorf("two mails should wait: %s", r.out)
			}
			return nil
		})
	}
	waits()
	// Logins that fail are logged most readily.
	for _, bad := range []user{{u.addr, friend.password}, {friend.addr, u.password}, {planted["outside"], u.password}} {
		if _, err := s.login(bad); err == nil {
			t.Error("a wrong login was let in")
		}
		if _, err := s.submit(bad); err == nil {
			t.Error("a wrong login was let in")
		}
	}

	s.kill()
	searcher, err := canary.New(planted)
	if err != nil {
		t.Fatal(err)
	}
	searchAll(t, s, searcher)

	// A second life writes compacted files; the planted name is no hint to it.
	s.run(t)
	c2 := s.mustLogin(t, u)
	boxes, err := c2.Cmd(`LIST "" "*"`)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(fmt.Sprint(boxes), planted["folder"]) {
		t.Error("the folder is not there any more, so the search proved nothing")
	}
	waits()
	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	searchAll(t, s, searcher)
}

func searchAll(t *testing.T, s *server, searcher *canary.Searcher) {
	t.Helper()
	files := 0
	for _, root := range []string{s.dir, filepath.Dir(s.log)} {
		hits, err := searcher.Tree(root)
		if err != nil {
			t.Fatal(err)
		}
		for i, h := range hits {
			if i == 20 {
				t.Errorf("and %d more", len(hits)-i)
				break
			}
			t.Errorf("%v", h)
		}
		_ = filepath.WalkDir(root, func(_ string, d os.DirEntry, _ error) error {
			if d != nil && d.Type().IsRegular() {
				files++
			}
			return nil
		})
	}
	if files < 3 {
		t.Fatalf("only %d files were searched", files)
	}
	t.Logf("%d files searched", files)
}
