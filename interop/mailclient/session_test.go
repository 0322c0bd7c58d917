package mailclient_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// scripted is a server that answers each line it expects with the given text
// and reports any other line.
func scripted(t *testing.T, greeting string, script ...[2]string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-ended })
	go func() {
		defer close(ended)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(conn, greeting)
		r := bufio.NewReader(conn)
		for _, step := range script {
			for _, want := range strings.SplitAfter(step[0], "\r\n") {
				if want == "" {
					continue
				}
				if line, err := r.ReadString('\n'); err != nil || line != want {
					t.Errorf("server read %q (%v), want %q", line, err, want)
					return
				}
			}
			fmt.Fprint(conn, step[1])
		}
	}()
	return l.Addr().String()
}

func TestSMTPDialogue(t *testing.T) {
	addr := scripted(t, "220 hello\r\n",
		[2]string{"EHLO [127.0.0.1]\r\n", "250-me\r\n250-PIPELINING\r\n250 SIZE 100\r\n"},
		[2]string{"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n", "250 ok\r\n250 ok\r\n354 go\r\n"},
		[2]string{"H: 1\r\n\r\n..dot\r\n.\r\n", "250 2.0.0 kept\r\n"},
		[2]string{"MAIL FROM:<a@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n", "250 ok\r\n550 5.1.1 no\r\n503 no recipients\r\n"},
		[2]string{"RSET\r\n", "250 ok\r\n"},
	)
	c, err := mailclient.DialSMTP(addr, mailclient.Plain, mailclient.Dialer{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !c.Has("pipelining") || !c.Has("SIZE") || c.Has("AUTH") {
		t.Errorf("extensions: %v", c.Extensions)
	}
	if err := c.Send("a@x", []string{"b@x"}, []byte("H: 1\r\n\r\n.dot\r\n")); err != nil {
		t.Error(err)
	}
	if err := c.Send("a@x", []string{"c@x"}, []byte("H: 1\r\n\r\nx\r\n")); mailclient.CodeOf(err) != 550 {
		t.Errorf("%v, want the first refusal", err)
	}
}

func TestIMAPDialogue(t *testing.T) {
	addr := scripted(t, "* OK ready\r\n",
		[2]string{`t1 LOGIN "a\"b" "c\\d"` + "\r\n", "* CAPABILITY IMAP4rev1\r\nt1 OK [CAPABILITY IDLE] in\r\n"},
		[2]string{"t2 SELECT \"INBOX\"\r\n", "* 2 EXISTS\r\n* OK [UIDVALIDITY 7] .\r\n* OK [UIDNEXT 9] .\r\nt2 OK done\r\n"},
		[2]string{"t3 UID FETCH 1:* (FLAGS BODY.PEEK[])\r\n", "* 1 FETCH (UID 5 FLAGS (\\Seen) BODY[] {6}\r\nab\r\ncd)\r\n" +
			"* 2 FETCH (BODY[] {0}\r\n UID 8 FLAGS ())\r\nt3 OK done\r\n"},
		[2]string{"t4 IDLE\r\n", "+ idling\r\n* 3 EXISTS\r\n"},
		[2]string{"DONE\r\nt5 FETCH 3 (UID BODY.PEEK[])\r\n", "t4 OK idle\r\n* 3 FETCH (UID 9 BODY[] {1}\r\nx)\r\nt5 OK done\r\n"},
		[2]string{"t6 APPEND \"INBOX\" (\\Seen) {2}\r\n", "+ go\r\n"},
		[2]string{"hi\r\n", "t6 NO [OVERQUOTA] full\r\n"},
	)
	c, err := mailclient.DialIMAP(addr, mailclient.Plain, mailclient.Dialer{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(`a"b`, `c\d`); err != nil || !strings.Contains(c.LoginOK, "[CAPABILITY IDLE]") {
		t.Errorf("%v %q", err, c.LoginOK)
	}
	if box, err := c.Select("INBOX"); err != nil || box != (mailclient.Mailbox{Exists: 2, UIDNext: 9, UIDValidity: 7}) {
		t.Errorf("%+v %v", box, err)
	}
	var got []string
	keep := func(m mailclient.Message) { got = append(got, fmt.Sprintf("%d %s %q", m.UID, m.Flags, m.Raw)) }
	if err := c.FetchAll("1:*", keep); err != nil {
		t.Error(err)
	}
	if err := c.Idle(); err != nil {
		t.Error(err)
	}
	if text, err := c.Wait(10 * time.Second); err != nil || text != "* 3 EXISTS" {
		t.Errorf("%q %v", text, err)
	}
	if err := c.DoneAndFetch(3, keep); err != nil {
		t.Error(err)
	}
	if fmt.Sprint(got) != `[5 \Seen "ab\r\ncd" 8  "" 9  "x"]` {
		t.Errorf("fetched %v", got)
	}
	if _, err := c.Append("INBOX", `\Seen`, []byte("hi")); err == nil || !strings.Contains(err.Error(), "OVERQUOTA") {
		t.Errorf("%v, want the NO", err)
	}
}
