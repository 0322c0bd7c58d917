package interop

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// TestIdleMissesNothing lets mail arrive at any moment while a client does what
// the app does after each download: \Deleted, CLOSE, SELECT, IDLE. Every mail is
// told at once, by SELECT (in EXISTS and in UIDNEXT, which the app looks at) or
// within the IDLE.
func TestIdleMissesNothing(t *testing.T) {
	s := start(t, noSendLimit...)
	users := s.created(t, 2)
	in := s.mustLogin(t, users[1])
	if _, err := in.Select("INBOX"); err != nil {
		t.Fatal(err)
	}
	out := s.mustSubmit(t, users[0])
	maker := mailclient.NewMaker(1)
	rounds := 600
	if long() {
		rounds = 20_000
	}
	sent := make(chan error, 1)
	for round := range rounds { // the mail of a round has UID round+1
		mail := maker.Mail(users[0].addr, 2000)
		pause := time.Duration(round%40) * 25 * time.Microsecond
		go func() {
			<-time.After(pause)
			sent <- out.Send(users[0].addr, []string{users[1].addr}, mail)
		}()
		if round > 0 {
			if _, err := in.Cmd(`UID STORE %d +FLAGS (\Deleted)`, round); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := in.Cmd("CLOSE"); err != nil {
			t.Fatal(err)
		}
		box, err := in.Select("INBOX")
		if err != nil {
			t.Fatal(err)
		}
		if box.UIDNext != round+1+box.Exists {
			t.Fatalf("round %d: SELECT says %d EXISTS and UIDNEXT %d", round, box.Exists, box.UIDNext)
		}
		told := box.Exists
		if err := in.Idle(); err != nil {
			t.Fatal(err)
		}
		for told == 0 {
			text, err := in.Wait(5 * time.Second)
			if err != nil {
				t.Fatalf("round %d: nothing is told in IDLE (SELECT said %d mails; sent: %v): %v", round, box.Exists, <-sent, err)
			}
			if strings.HasSuffix(text, " EXISTS") {
				_, _ = fmt.Sscanf(text, "* %d EXISTS", &told)
			}
		}
		if err := in.Done(nil); err != nil {
			t.Fatal(err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}
