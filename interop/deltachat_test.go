package interop

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// eachWay is how many messages go in each direction.
const eachWay = 50

// dcSecurity are the two ways in which the app protects its connections.
var dcSecurity = []struct{ name, word string }{{"TLS", "ssl"}, {"STARTTLS", "starttls"}}

func (s *server) ports(t testing.TB, word string) (imap, smtp string) {
	t.Helper()
	if word == "ssl" {
		_, imap = hostPort(t, s.IMAPS)
		_, smtp = hostPort(t, s.Submissions)
	} else {
		_, imap = hostPort(t, s.IMAP)
		_, smtp = hostPort(t, s.Submission)
	}
	return imap, smtp
}

// dclogin is the QR text that carries a whole account.
func (s *server) dclogin(t testing.TB, u user, word string) string {
	imap, smtp := s.ports(t, word)
	q := fmt.Sprintf("?p=%s&v=1&ih=127.0.0.1&ip=%s&is=%s&sh=127.0.0.1&sp=%s&ss=%s&ic=3",
		strings.ReplaceAll(url.QueryEscape(u.password), "+", "%20"), imap, word, smtp, word)
	return "dclogin:" + u.addr + q
}

// credentials are the same account as the app's settings form gives it.
func (s *server) credentials(t testing.TB, u user, word string) map[string]any {
	imap, smtp := s.ports(t, word)
	number := func(port string) int { n, _ := strconv.Atoi(port); return n }
	return map[string]any{
		"addr": u.addr, "password": u.password,
		"imapServer": "127.0.0.1", "imapPort": number(imap), "imapSecurity": word,
		"smtpServer": "127.0.0.1", "smtpPort": number(smtp), "smtpSecurity": word,
		"certificateChecks": "acceptInvalidCertificates",
	}
}

// newProfile makes an account of the core that does not limit its own sending.
func (r *rpcServer) newProfile(name string) int {
	r.t.Helper()
	var id int
	r.must(&id, "add_account")
	r.must(nil, "set_config", id, "bot", "1")
	r.must(nil, "set_config", id, "displayname", name)
	return id
}

// TestDeltaChat makes two accounts with the real core, joins them and lets them
// write to each other.
func TestDeltaChat(t *testing.T) {
	t.Parallel() // it waits for the core most of the time
	deltachatBinary(t)
	for _, sec := range dcSecurity {
		t.Run(sec.name, func(t *testing.T) {
			s := start(t, noSendLimit...)
			r := startRPC(t)
			alice, bob := r.newProfile("Alice"), r.newProfile("Bob")
			began := time.Now()
			r.must(nil, "add_transport_from_qr", alice, s.dclogin(t, s.newUser(), sec.word))
			r.must(nil, "add_or_update_transport", bob, s.credentials(t, s.newUser(), sec.word))
			t.Logf("two accounts: %v", time.Since(began))
			r.must(nil, "start_io_for_all_accounts")
			// The app looks at what comes after its first SELECT only: a mail that is
			// quicker than that is not shown. People are slower than this test.
			idle := map[int]bool{}
			r.await(patience, "both inboxes idle", func(e rpcEvent) bool {
				idle[e.Account] = idle[e.Account] || e.kind() == "ImapInboxIdle"
				return idle[alice] && idle[bob]
			})

			began = time.Now()
			var qr string
			r.must(&qr, "get_chat_securejoin_qr_code", alice, nil)
			var bobChat int
			r.must(&bobChat, "secure_join", bob, qr)
			joined := map[string]bool{}
			var aliceContact int
			r.await(patience, "both ends of secure-join", func(e rpcEvent) bool {
				if e.number("progress") == 1000 && strings.HasPrefix(e.kind(), "Securejoin") {
					joined[e.kind()] = true
					if e.kind() == "SecurejoinInviterProgress" {
						aliceContact = e.number("contactId")
					}
				}
				return len(joined) == 2
			})
			t.Logf("secure-join: %v", time.Since(began))
			var aliceChat int
			r.must(&aliceChat, "create_chat_by_contact_id", alice, aliceContact)

			for _, way := range []struct {
				name           string
				from, chat, to int
			}{{"Alice to Bob", alice, aliceChat, bob}, {"Bob to Alice", bob, bobChat, alice}} {
				times := make([]time.Duration, eachWay)
				for i := range times {
					text := fmt.Sprintf("%s: message %d of %d, with ümläuts", way.name, i+1, eachWay)
					sent := time.Now()
					r.must(nil, "misc_send_text_message", way.from, way.chat, text)
					var got struct {
						Text        string `json:"text"`
						ShowPadlock bool   `json:"showPadlock"`
					}
					r.await(patience, "message "+text, func(e rpcEvent) bool {
						if e.kind() != "IncomingMsg" || e.Account != way.to {
							return false
						}
						r.must(&got, "get_message", way.to, e.number("msgId"))
						return true
					})
					times[i] = time.Since(sent)
					if got.Text != text {
						t.Fatalf("got %q, want %q", got.Text, text)
					}
					if !got.ShowPadlock {
						t.Fatalf("no padlock on %q", text)
					}
				}
				slices.Sort(times)
				t.Logf("%s, %s: p50 %v, p99 %v (most of it is the client's own work)", sec.name, way.name,
					times[len(times)/2].Round(time.Millisecond), times[len(times)*99/100].Round(time.Millisecond))
			}
		})
	}
}

// TestDeltaChatWrongPassword: the app gets a reason it can show.
func TestDeltaChatWrongPassword(t *testing.T) {
	deltachatBinary(t)
	s := start(t)
	owner := s.created(t, 1)[0]
	r := startRPC(t)
	thief := owner
	thief.password = "not the password"
	err := r.call(nil, "add_or_update_transport", r.newProfile("Mallory"), s.credentials(t, thief, "ssl"))
	if err == nil {
		t.Fatal("a wrong password was accepted")
	}
	if text := strings.ToLower(err.Error()); !strings.Contains(text, "login") && !strings.Contains(text, "auth") && !strings.Contains(text, "password") {
		t.Errorf("the reason does not speak of the login: %v", err)
	}
	t.Logf("the app shows: %v", err)
	s.mustLogin(t, owner) // and the owner is not locked out
}

// TestDeltaChatCleartextIsRefused lets the real core send to an address whose
// key it does not have: a current core refuses itself; if it sends, the server
// must refuse, and the message must show as failed.
func TestDeltaChatCleartextIsRefused(t *testing.T) {
	deltachatBinary(t)
	s := start(t)
	users := s.created(t, 1)
	r := startRPC(t)
	profile := r.newProfile("Alice")
	r.must(nil, "add_or_update_transport", profile, s.credentials(t, s.newUser(), "ssl"))
	r.must(nil, "start_io", profile)
	var contact, chat, msg int
	r.must(&contact, "create_contact", profile, users[0].addr, "Bob")
	r.must(&chat, "create_chat_by_contact_id", profile, contact)
	err := r.call(&msg, "misc_send_text_message", profile, chat, "in the clear")
	if err == nil {
		e := r.await(patience, "the refusal", func(e rpcEvent) bool { return e.kind() == "MsgFailed" && e.number("msgId") == msg })
		var info string
		r.must(&info, "get_message_info", profile, e.number("msgId"))
		t.Logf("the app shows: %s", info)
	} else {
		t.Logf("the core itself refuses: %v", err)
	}
	if got := s.inbox(t, users[0]); len(got) != 0 {
		t.Fatalf("%d mails arrived in the clear", len(got))
	}
}
