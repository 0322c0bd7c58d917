package interop

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"postern.email/interop/smallworld"
)

// alias runs a command about aliases as who holds a secret.
func (s *server) alias(t testing.TB, secret string, args ...string) string {
	t.Helper()
	cmd := s.aliasCommand(t, args...)
	cmd.Env = append(os.Environ(), "POSTERN_ALIAS_SECRET="+secret)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("alias %q: %v\n%s%s", args, err, out, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// press opens a page of a relay and, with a word, presses one of its buttons.
func (s *server) press(t testing.TB, path, do string) (status int, text string) {
	t.Helper()
	client := s.httpClient(t)
	var res *http.Response
	var err error
	if at := "https://" + s.HTTPS + path; do == "" {
		res, err = client.Get(at)
	} else {
		res, err = client.PostForm(at, url.Values{"do": {do}})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

var confirmLink = regexp.MustCompile(`https://\S+?(/forward/confirm/[a-z2-7]+)`)

// TestAliasForward: an owner whose mailbox is at a Postfix elsewhere: it is asked first, mail of a shop (a
// Postfix too) goes on to it with a good signature of ours, its answer reaches the shop as the alias and
// shows nothing of it, and what comes back to the shop names the alias alone.
func TestAliasForward(t *testing.T) {
	w := newWorld(t)
	home := w.Postfix(t, smallworld.PostfixOptions{Domain: "home.example", Users: []string{"anna"}})
	shop := w.Postfix(t, smallworld.PostfixOptions{Domain: "shop.example", Users: []string{"news"}})
	a := w.relay(t, "a.example", append([]string{"aliases.forward=true"}, noSendLimit...)...)
	anna := func() ([]string, error) { return home.Mails("anna") }
	news := func() ([]string, error) { return shop.Mails("news") }

	secret := a.alias(t, "", "new", "account", "anna@home.example")
	alias := a.alias(t, secret, "new", "handle", "--site", "shop.example")
	mail := func(subject string) []byte {
		return []byte("From: The Shop <news@shop.example>\r\nTo: <" + alias + ">\r\nSubject: " + subject + "\r\nMessage-ID: <" + subject + "@shop.example>\r\nDate: Fri, 20 Nov 2026 10:00:00 +0000\r\n" +
			"Content-Type: text/plain\r\n\r\nthe text of " + subject + "\r\n")
	}
	hand(t, shop.Submission, "news@shop.example", alias, "", mail("offers-1"))
	// It was asked when the owner was made, and is not once more.
	question := awaitMail(t, anna, "Shall mail be sent on to this mailbox?", "dkim=pass")
	link := confirmLink.FindStringSubmatch(strings.ReplaceAll(question, "=\r\n", ""))
	if link == nil {
		t.Fatal(question)
	}
	if status, text := a.press(t, link[1], ""); status != 200 || !strings.Contains(text, "anna@home.example") {
		t.Fatalf("%d %s", status, text)
	}
	if list, err := home.Mails("anna"); err != nil || len(list) != 1 {
		t.Errorf("%d mails before the mailbox agreed, %v", len(list), err)
	}
	if status, text := a.press(t, link[1], "yes"); status != 200 {
		t.Fatalf("%d %s", status, text)
	}

	// Postfix tries again by itself.
	m := awaitMail(t, anna, "Subject: offers-1", "the text of offers-1", "dkim=pass", "header.d=a.example")
	from := regexp.MustCompile(`From: "The Shop \(news at shop\.example\)" <(re\.[a-z2-7]{42}@a\.example)>`).FindStringSubmatch(m)
	ret := regexp.MustCompile(`Return-Path: <(bounce\.[a-z2-7]{47}@a\.example)>`).FindStringSubmatch(m)
	if from == nil || ret == nil || !strings.Contains(m, "X-Postern-Alias: "+alias) || strings.Contains(m, "dkim=fail") {
		t.Fatalf("%.3000s", m)
	}

	answer := "From: Anna Secret <anna@home.example>\r\nTo: <" + from[1] + ">\r\nSubject: Re: offers-1\r\nMessage-ID: <secret-1@home.example>\r\nIn-Reply-To: <offers-1@shop.example>\r\nUser-Agent: Secret/1\r\n" +
		"Date: Fri, 20 Nov 2026 12:00:00 +0900\r\nContent-Type: text/plain\r\n\r\nyes please\r\n> to anna@home.example\r\n"
	hand(t, home.Submission, "anna@home.example", from[1], "", []byte(answer))
	got := awaitMail(t, news, "From: <"+alias+">", "yes please", "dkim=pass", "In-Reply-To: <offers-1@shop.example>", "> to "+alias)
	for _, word := range []string{"home.example", "ecret", "+0900", "anna"} {
		if strings.Contains(got, word) {
			t.Errorf("the answer shows %q:\n%s", word, got)
		}
	}

	// Who is not the mailbox, or cannot show it, writes to nobody.
	hand(t, shop.Submission, "news@shop.example", from[1], "", []byte("From: <news@shop.example>\r\nTo: <"+from[1]+">\r\nSubject: mine\r\n\r\nx\r\n"))
	if back := awaitMail(t, news, "Undelivered Mail Returned to Sender", "only the mailbox that mail was sent on to"); strings.Contains(back, "home.example") {
		t.Errorf("%s", back)
	}
	a.emptyQueue(t)
	if list, err := shop.Mails("news"); err != nil || len(list) != 2 {
		t.Errorf("the shop has %d mails, %v", len(list), err)
	}

	// Mailboxes that are not there: what Postfix takes and sends back, and what it refuses at once.
	for _, name := range []string{"gone", "nobody"} {
		lost := a.alias(t, "", "new", "account", name+"@home.example")
		eventually(t, patience, func() error {
			if out := a.alias(t, lost, "elsewhere", "show", "--json"); !strings.Contains(out, `"failed":1`) {
				return errors.New(out)
			}
			return nil
		})
	}
}
