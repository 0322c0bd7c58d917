package mix

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// simple is a mail as a sender makes it.
const simple = "From: Berta <berta@example.org>\nSubject: hello\n\nA few words.\n"

// has: a mail with some options has a text, and by default it has not.
func has(text, want string, set ...string) func(*testing.T) {
	return func(t *testing.T) {
		if got := mailFrom(t, text, set...); !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
		if got := mailFrom(t, text); strings.Contains(got, want) {
			t.Errorf("%q is, by default, in\n%s", want, got)
		}
	}
}

// exitEffects are the tests of the options of an exit, for TestOptions.
func exitEffects() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"mbox.enabled": func(t *testing.T) {
			w := newExit(t)
			w.start(w.set()...)
			w.refused("mode exit needs mbox.enabled", "mode=exit")
			w.refused("mbox.enabled needs mode exit", "mbox.enabled=true")
		},
		"mbox.address_file": func(t *testing.T) {
			w := newExit(t)
			s := w.start(w.set()...)
			if err := exit(t, s, "nobody", simple, packet.MaxBody-300); errs.KindOf(err) != errs.NotFound {
				t.Errorf("%v", err)
			}
			if got := mailFrom(t, simple); !strings.Contains(got, "\nTo: <anna@example.org>") && !strings.Contains(got, "\nTo: anna@example.org") {
				t.Error(got)
			}
			s.Close()
			w.refused("cannot read mbox.address_file /node/none", w.set("mbox.address_file=none")...)
			w.refused("mbox needs address_file", w.set("mbox.address_file=")...)
			w.file("addresses", "nonsense\n")
			w.refused("/node/addresses: ", w.set()...)
		},
		"mbox.return_address": has(simple, "<else@example.com>", "mbox.return_address=else@example.com"),
		"mbox.remove_contact": has(simple, "stop@example.com", "mbox.remove_contact=stop@example.com"),
		"mbox.smtp_server":    testSMTPServer,
		"mbox.sendmail_command": func(t *testing.T) {
			if got := mailFrom(t, simple); !strings.Contains(got, "few words") {
				t.Error(got)
			}
			w := newExit(t)
			w.refused("mbox needs smtp_server or sendmail_command, one of them", w.set("mbox.smtp_server=localhost")...)
			w.refused("mbox needs smtp_server or sendmail_command, one of them", w.set("mbox.sendmail_command=")...)
			w.refused("mbox.sendmail_command: ", w.set("mbox.sendmail_command='x")...)
		},
		"mbox.retry": func(t *testing.T) {
			w := newExit(t)
			c, err := w.config(w.set("mbox.retry=2 hours, 1 day")...).exit(w.fs)
			if err != nil {
				t.Fatal(err)
			}
			first := time.Now()
			if next, ok := c.Retry.Next(first, first); !ok || next.Sub(first) != 2*time.Hour {
				t.Error(next.Sub(first), ok)
			}
			w.refused("mbox.retry: ", w.set("mbox.retry=often")...)
		},
		"mbox.advertise": func(t *testing.T) {
			w := newExit(t)
			d := w.start(w.set()...).node.Descriptor()
			if d.Parameters.Get("mbox-maximum-kb") != 100 {
				t.Errorf("%v", d.Parameters)
			}
			v := newExit(t)
			if d := v.start(v.set("mbox.advertise=false")...).node.Descriptor(); len(d.Parameters) > 0 {
				t.Errorf("%v", d.Parameters)
			}
		},
		"mbox.maximum_size": func(t *testing.T) {
			long := simple + strings.Repeat("0123456789abcde\n", 8<<10)
			for set, want := range map[string]bool{"mbox.maximum_size=100K": false, "mbox.maximum_size=200K": true} {
				w := newExit(t)
				s := w.start(w.set(set, "fragmented.enabled=true", "fragmented.maximum_size=1M")...)
				if err := exit(t, s, "anna", long, packet.MaxBody-300); (err == nil) != want {
					t.Errorf("%s: %v", set, err)
				}
			}
		},
		"mbox.allow_from_address": func(t *testing.T) {
			if got := mailFrom(t, simple); !strings.Contains(got, "[Anon] Berta") {
				t.Error(got)
			}
			if got := mailFrom(t, simple, "mbox.allow_from_address=false"); strings.Contains(got, "Berta") {
				t.Error(got)
			}
		},
		"mbox.subject_line": has("\nNo subject.\n", "Subject: Something", "mbox.subject_line=Something"),
		"mbox.from_tag":     has(simple, "[Nobody] Berta", "mbox.from_tag=[Nobody]"),
		"mbox.x_abuse":      has(simple, "X-Abuse: write to us", "mbox.x_abuse=write to us"),
		"mbox.comments":     has(simple, "Comments: from nobody", "mbox.comments=from nobody"),
		"mbox.message":      has(simple, "You asked for this.", "mbox.message=You asked for this."),

		"fragmented.enabled": func(t *testing.T) {
			long := simple + strings.Repeat("0123456789abcde\n", 4<<10)
			w := newExit(t)
			if err := exit(t, w.start(w.set()...), "anna", long, 4096); err == nil {
				t.Error("a mail in pieces is taken by default")
			}
			v := newExit(t)
			if err := exit(t, v.start(v.set("fragmented.enabled=true")...), "anna", long, 4096); err != nil {
				t.Fatal(err)
			}
			if got := v.sent(); !strings.Contains(got, "0123456789abcde") {
				t.Error(got)
			}
			w.refused("fragmented.enabled needs mbox.enabled", "fragmented.enabled=true")
		},
		"fragmented.maximum_size": func(t *testing.T) {
			// The bound is on what is put together, before it is unpacked.
			var long strings.Builder
			long.WriteString(simple)
			for i := range 8000 {
				fmt.Fprintf(&long, "%d\n", i*i*7919)
			}
			w := newExit(t)
			if err := exit(t, w.start(w.set("fragmented.enabled=true", "fragmented.maximum_size=32K")...), "anna", long.String(), 4096); err == nil {
				t.Error("a mail beyond the bound is taken")
			}
			v := newExit(t)
			if err := exit(t, v.start(v.set("fragmented.enabled=true")...), "anna", long.String(), 4096); err != nil {
				t.Error(err)
			}
		},
		"fragmented.maximum_interval": func(t *testing.T) {
			w := newExit(t)
			c, err := w.config(w.set("fragmented.enabled=true", "fragmented.maximum_interval=5h")...).exit(w.fs)
			if err != nil || c.Fragments.MaxInterval != 5*time.Hour {
				t.Errorf("%v, %v", c.Fragments, err)
			}
		},
	}
}

// testSMTPServer: mail goes to the server that is named.
func testSMTPServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		var all strings.Builder
		fmt.Fprintf(c, "220 test\r\n")
		for data := false; ; {
			line, err := r.ReadString('\n')
			if err != nil {
				break
			}
			all.WriteString(line)
			switch {
			case data && line != ".\r\n":
				continue
			case data:
				data = false
			case strings.HasPrefix(line, "DATA"):
				data = true
				fmt.Fprintf(c, "354 go\r\n")
				continue
			}
			fmt.Fprintf(c, "250 ok\r\n")
		}
		got <- all.String()
	}()
	w := newExit(t)
	s := w.start(w.set("mbox.sendmail_command=", "mbox.smtp_server="+ln.Addr().String())...)
	if err := exit(t, s, "anna", simple, packet.MaxBody-300); err != nil {
		t.Fatal(err)
	}
	text := ""
	select {
	case text = <-got:
	case <-soon(t).Done():
		t.Fatal("no mail came")
	}
	for _, want := range []string{"MAIL FROM:<nobody@example.net>", "RCPT TO:<anna@example.org>", "A few words."} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}
