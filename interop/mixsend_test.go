package interop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// TestMixKills: packets that a link has acknowledged are neither lost nor doubled while random
// nodes are killed and started again. The letters ask for no acknowledgement, so nothing is sent
// again from end to end.
func TestMixKills(t *testing.T) {
	t.Parallel()
	kills, letters := 6, 20
	if long() {
		kills, letters = 20, 200
	}
	n := smallMixNet(t, 1)
	anna, berta := newMixClient(t, n, n.Nodes[6]), newMixClient(t, n, n.Nodes[7])
	for _, c := range []*mixClient{anna, berta} {
		c.background(t)
	}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		for range kills {
			m := n.Nodes[rand.IntN(len(n.Nodes))]
			m.Kill()
			m.Start(t)
		}
	}()
	for i := range letters {
		anna.run(t, fmt.Sprintf("letter %d\r\n", i), "send", "-t", berta.address, "--no-ack")
	}
	<-killed

	into := t.TempDir()
	deadline := time.Now().Add(4 * time.Minute)
	for {
		berta.run(t, "", "fetch", "--for", "0", "-o", into)
		files, err := os.ReadDir(into)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) >= letters || time.Now().After(deadline) {
			break
		}
		<-time.After(time.Second)
	}
	<-time.After(5 * time.Second) // for what may come twice
	berta.run(t, "", "fetch", "--for", "0", "-o", into)
	files, err := os.ReadDir(into)
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(into, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		times[strings.TrimSpace(string(b))]++
	}
	for i := range letters {
		if k := times[fmt.Sprintf("letter %d", i)]; k != 1 {
			t.Errorf("letter %d came %d times", i, k)
		}
	}
	t.Logf("%d letters, %d kills", len(files), kills)
}

// background runs the client until the end of the test.
func (c *mixClient) background(t *testing.T) {
	t.Helper()
	cmd := c.net.Command("mix", "run", "--dir", c.dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("mix run: %s", out.Bytes())
		}
	})
}
