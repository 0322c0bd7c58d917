package interop

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// command is `postern mix …` for the client.
func (c *mixClient) command(in string, args ...string) *exec.Cmd {
	cmd := c.net.Command(append(append([]string{"mix"}, args...), "--dir", c.dir)...)
	cmd.Stdin = strings.NewReader(in)
	return cmd
}

// run gives what a command prints on standard output.
func (c *mixClient) run(t *testing.T, in string, args ...string) []byte {
	t.Helper()
	out, _ := c.both(t, in, args...)
	return out
}

// both gives what a command prints on standard output and on standard error.
func (c *mixClient) both(t *testing.T, in string, args ...string) (out, said []byte) {
	t.Helper()
	cmd := c.command(in, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("mix %s: %v: %s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.Bytes(), stderr.Bytes()
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
	t.Logf("send: %s", anna.run(t, letter, "send", "-t", berta.address, "--wait", "--timeout", "8m"))
	fetched := func(c *mixClient, want string) {
		t.Helper()
		if got := c.run(t, "", "fetch", "--wait", "--for", "8m"); string(got) != want {
			t.Errorf("fetched: %q", got)
		}
	}
	fetched(berta, letter)

	path := filepath.Join(n.Nodes[0].Dir, "current-desc") + ",*2"
	const chosen = "Subject: a way of its own\r\n\r\nhello\r\n"
	_, way := anna.both(t, chosen, "send", "-t", berta.address, "-P", path, "--now", "--wait", "--timeout", "8m")
	if !throughMixes(string(way), "relay1", "mix1", "relay2") {
		t.Errorf("the way is not printed: %s", way)
	}
	fetched(berta, chosen)
	var ping struct {
		Way  string
		Back bool
	}
	anna.json(t, &ping, "ping", "-P", path, "--timeout", "8m")
	if !ping.Back || !throughMixes(ping.Way, "relay1", "mix1", "relay1") {
		t.Errorf("ping: %+v", ping)
	}

	blocks := filepath.Join(t.TempDir(), "blocks")
	berta.run(t, "", "reply-block", "make", "-o", blocks)
	const answer = "Subject: to somebody\r\n\r\nhello\r\n"
	anna.run(t, answer, "reply-block", "use", blocks, "--now", "--wait", "--timeout", "8m")
	fetched(berta, answer)
	if out, err := anna.command(answer, "reply-block", "use", blocks).CombinedOutput(); err == nil || !bytes.Contains(out, []byte("was used before")) {
		t.Errorf("a reply block is used again: %v: %s", err, out)
	}
}

// throughMixes tells whether a printed way begins and ends at these relays, passes this mix, and
// has five nodes.
func throughMixes(way, first, mix, last string) bool {
	names := regexp.MustCompile(`\b(relay|mix)[0-9]\b`).FindAllString(way, -1)
	return len(names) == 5 && names[0] == first && names[4] == last && slices.Contains(names[1:4], mix)
}

// mixRelay is a whole relay that is an end of the network.
func mixRelay(t *testing.T, n *smallworld.MixNet, nickname string) (s *server, id string) {
	t.Helper()
	at := n.Address()
	s = start(t, "domain="+nickname+".example", "mixnet.enabled=true", "mixnet.network="+n.File, "mixnet.nickname="+nickname, "mixnet.listen="+at, "mixnet.addresses="+at)
	var status struct {
		Mixnet struct{ Node string }
	}
	out, err := n.Command("status", "--dir", s.dir, "--json").Output()
	if err == nil {
		err = json.Unmarshal(out, &status)
	}
	if err != nil || status.Mixnet.Node == "" {
		t.Fatalf("status: %v: %s", err, out)
	}
	return s, status.Mixnet.Node
}

// goesBy waits until a relay goes by the consensus of an epoch or a later one, and is connected to mixes.
func goesBy(t *testing.T, n *smallworld.MixNet, s *server, epoch uint64) {
	t.Helper()
	eventually(t, patience, func() error {
		var status struct {
			Mixnet struct {
				Epoch uint64
				Links struct{ Nodes int }
			}
		}
		out, err := n.Command("status", "--dir", s.dir, "--json").Output()
		if err == nil {
			err = json.Unmarshal(out, &status)
		}
		if err == nil && (status.Mixnet.Epoch < epoch || status.Mixnet.Links.Nodes == 0) {
			err = fmt.Errorf("the relay goes by the consensus of epoch %d, and %d nodes are connected", status.Mixnet.Epoch, status.Mixnet.Links.Nodes)
		}
		return err
	})
}

// userClient registers a client with a relay as a user does, with address and password.
func userClient(t *testing.T, n *smallworld.MixNet, s *server) *mixClient {
	t.Helper()
	c := &mixClient{net: n, dir: filepath.Join(t.TempDir(), "client")}
	u := s.created(t, 1)[0]
	c.run(t, u.password+"\n", "register", "https://"+s.HTTPS, "--user", u.addr, "--ca", s.TLSCert)
	c.address = filepath.Join(c.dir, "address.pb")
	if err := os.WriteFile(c.address, c.run(t, "", "address"), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMixRelays: three authorities, six mixes and two whole relays. Their users register with
// address and password, and write to each other through relay, three mixes, relay; a large message,
// too. A recipient that was away finds its message, also after its relay was killed.
func TestMixRelays(t *testing.T) {
	t.Parallel()
	n := smallworld.NewMixNet(t, smallworld.New(t), binary(t), 3, mixPeriod, mixFast...)
	for _, name := range []string{"mix1", "mix2", "mix3", "mix4", "mix5", "mix6"} {
		n.Node(t, name, "mix")
	}
	n.Approve(t)
	one, id1 := mixRelay(t, n, "relay1")
	two, id2 := mixRelay(t, n, "relay2")
	n.ApproveID(t, id1)
	n.ApproveID(t, id2)
	c := n.Lists(t, append(ids(n.Nodes), id1, id2)...)
	for _, s := range []*server{one, two} {
		goesBy(t, n, s, c.Epoch)
	}

	anna, berta := userClient(t, n, one), userClient(t, n, two)
	const hello = "Subject: hello\r\n\r\nhello\r\n"
	// What is lost is sent again after five minutes.
	anna.run(t, hello, "send", "-t", berta.address, "--wait", "--timeout", "8m")
	two.kill()
	two.run(t)
	if got := berta.run(t, "", "fetch", "--wait", "--for", "8m"); string(got) != hello {
		t.Errorf("fetched: %q", got)
	}
	large := "Subject: large\r\n\r\n" + strings.Repeat(rand.Text()+"\r\n", 5000)
	berta.run(t, large, "send", "-t", anna.address, "--wait", "--timeout", "8m")
	if got := anna.run(t, "", "fetch", "--wait", "--for", "8m"); string(got) != large {
		t.Errorf("a large message came with %d bytes of %d", len(got), len(large))
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
			m := n.Nodes[mathrand.IntN(len(n.Nodes))]
			m.Kill()
			m.Start(t)
		}
	}()
	for i := range letters {
		anna.run(t, fmt.Sprintf("letter %d\r\n", i), "send", "-t", berta.address, "--no-ack")
	}
	<-killed

	into := t.TempDir()
	deadline := time.Now().Add(8 * time.Minute)
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
