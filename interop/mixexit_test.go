package interop

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/interop/smallworld"
)

// TestMixExit: mail of several packets for a name at an exit comes, through relay, three mixes and
// the exit, out of the program that the exit's operator has for it, put together, under the
// address of its address file.
func TestMixExit(t *testing.T) {
	t.Parallel()
	n := smallworld.NewMixNet(t, smallworld.New(t), binary(t), 1, mixPeriod, mixFast...)
	for _, name := range []string{"mix1", "mix2", "mix3"} {
		n.Node(t, name, "mix")
	}
	relay := n.Node(t, "relay1", "relay,mailbox")
	dir := t.TempDir()
	names, came := filepath.Join(dir, "names"), filepath.Join(dir, "came")
	if err := os.WriteFile(names, []byte("info: desk@example.org\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Node(t, "exit1", "exit", "mbox.enabled=true", "mbox.address_file="+names, "mbox.return_address=nobody@exit.example",
		"mbox.remove_contact=op@exit.example", "mbox.sendmail_command=tee "+came, "fragmented.enabled=true")
	n.Approve(t)
	n.Lists(t, ids(n.Nodes)...)

	anna := newMixClient(t, n, relay)
	anna.background(t) // it learns the directory
	last := "the last line: " + rand.Text()
	text := "Subject: to the desk\n\n" + strings.Repeat(rand.Text()+"\n", 2000) + last + "\n"
	eventually(t, patience, func() error {
		out, err := anna.command(text, "send", "-t", "info@exit1").CombinedOutput()
		if err != nil {
			return fmt.Errorf("send: %w: %s", err, out)
		}
		return nil
	})
	var mail []byte
	eventually(t, patience, func() (err error) {
		if mail, err = os.ReadFile(came); err == nil && !strings.Contains(string(mail), last) {
			err = fmt.Errorf("%d bytes came: %.300q", len(mail), mail)
		}
		return err
	})
	for _, want := range []string{"desk@example.org", "nobody@exit.example", "to the desk"} {
		if !strings.Contains(string(mail), want) {
			t.Errorf("there is no %q in the mail: %.500q", want, mail)
		}
	}
}
