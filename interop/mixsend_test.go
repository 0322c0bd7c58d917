package interop

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/interop/smallworld"
)

// mixClient is a client of the mix network: a directory that `postern mix send` and `mix fetch`
// work on.
type mixClient struct {
	net     *smallworld.MixNet
	dir     string
	address string // file with it
}

// newMixClient registers one with a bare relay, whose operator lets it in.
func newMixClient(t *testing.T, n *smallworld.MixNet, relay *smallworld.Member) *mixClient {
	t.Helper()
	c := &mixClient{net: n, dir: filepath.Join(t.TempDir(), "client")}
	var made struct {
		LinkKey string `json:"link_key"`
	}
	c.json(t, &made, "register", "--network", n.File, "--relay", relay.Name)
	if len(made.LinkKey) != 64 {
		t.Fatalf("register printed no link key: %+v", made)
	}
	f, err := os.OpenFile(filepath.Join(relay.Dir, "clients"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(made.LinkKey + " a client of a test\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	relay.Ask(t, nil, "reload")
	c.address = filepath.Join(c.dir, "address.pb")
	if err := os.WriteFile(c.address, c.run(t, "", "address"), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// run calls `postern mix …` for the client.
func (c *mixClient) run(t *testing.T, in string, args ...string) []byte {
	t.Helper()
	cmd := c.net.Command(append([]string{"mix", args[0], "--dir", c.dir}, args[1:]...)...)
	cmd.Stdin = strings.NewReader(in)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("mix %s: %v: %s", strings.Join(args, " "), err, errOut.Bytes())
	}
	return out.Bytes()
}

func (c *mixClient) json(t *testing.T, v any, args ...string) {
	t.Helper()
	out := c.run(t, "", append(args, "--json")...)
	if err := json.Unmarshal(out, v); err != nil {
		t.Fatalf("mix %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// TestMixSend: a message that one process sends arrives, through its relay, three mixes and
// the recipient's relay, in a packet box, the relay of the box acknowledges it, and
// another process fetches it.
func TestMixSend(t *testing.T) {
	t.Parallel()
	n := smallMixNet(t, 1)
	anna, berta := newMixClient(t, n, n.Nodes[6]), newMixClient(t, n, n.Nodes[7])
	const letter = "Subject: through the mixes\r\n\r\nhello\r\n"
	t.Logf("send: %s", anna.run(t, letter, "send", "-t", berta.address, "--wait", "--timeout", "2m"))
	if got := berta.run(t, "", "fetch", "--wait", "--for", "2m"); string(got) != letter {
		t.Errorf("fetched: %q", got)
	}
}
