package smallworld

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// MixNet is a mix network whose members are processes of the built program, each with an
// address, a configuration and a disk of its own. It is used by one goroutine, except that
// Kill and Start of different members may run beside each other.
type MixNet struct {
	File        string // the network file
	Period      time.Duration
	Authorities []*Member
	Nodes       []*Member

	program, dir string
	world        *World
}

// Member is an authority or a node of a MixNet.
type Member struct {
	Name    string
	ID      string // fingerprint of its identity
	Address string // host:port of its link
	Dir     string // its data
	Config  string // its configuration file

	net   *MixNet
	role  string // "authority" or "mix"
	p     *process
	log   string
	serve []string
}

// DirectoryNode is a node in a consensus, as `authority show --json` prints it.
type DirectoryNode struct {
	ID, Nickname, Mode string
	Layer              int
	Score              int
}

// Consensus is one as `authority show --json` prints it.
type Consensus struct {
	Epoch      uint64
	ValidAfter time.Time `json:"valid_after"`
	Hash       string
	SignedBy   []string `json:"signed_by"`
	Parameters map[string]int
	Nodes      []DirectoryNode
}

// NewMixNet sets up and starts the authorities of a network. set are options of each of them
// ("vote.parameters=delay=200"). Everything is stopped with the test.
func NewMixNet(t testing.TB, w *World, program string, authorities int, period time.Duration, set ...string) *MixNet {
	t.Helper()
	return NewMixNetWith(t, w, program, authorities, nil, period, set...)
}

// NewMixNetWith is NewMixNet with more authorities than those of the program. others are their
// network files, as `authority init` writes them, of a network called small-net and of this period.
// Their processes are the caller's; MixNet.Authorities lacks them.
func NewMixNetWith(t testing.TB, w *World, program string, authorities int, others []string, period time.Duration, set ...string) *MixNet {
	t.Helper()
	n := &MixNet{program: program, dir: t.TempDir(), Period: period, world: w}
	n.File = filepath.Join(n.dir, "network")
	var files []string
	for i := range authorities {
		name := fmt.Sprintf("authority%d", i+1)
		m := n.member(name, "authority", w.Address()+":48100")
		args := []string{"authority", "init", "small-net", "--address", m.Address, "--period", period.String(), "--config", m.Config,
			"--set", "listen.link=" + m.Address, "--set", "network=" + n.File, "--json"}
		var made struct {
			Dir, Authority string
			File           string `json:"network_file"`
			Network        string
		}
		n.ask(t, &made, append(args, sets(set)...)...)
		m.Dir, m.ID = made.Dir, made.Authority
		own := filepath.Join(n.dir, name, "own.network")
		if err := os.WriteFile(own, []byte(made.Network), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, own)
		m.serve = []string{"authority", "serve", "--config", m.Config}
		n.Authorities = append(n.Authorities, m)
	}
	os.Remove(n.File) // each init wrote the one that names it alone
	if files = append(files, others...); len(files) == 1 {
		b, err := os.ReadFile(files[0])
		if err == nil {
			err = os.WriteFile(n.File, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	} else {
		n.run(t, append(append([]string{"authority", "network"}, files...), "--output", n.File)...)
	}
	for _, a := range n.Authorities {
		a.Start(t)
	}
	return n
}

func sets(set []string) (args []string) {
	for _, s := range set {
		args = append(args, "--set", s)
	}
	return args
}

func (n *MixNet) member(name, role, address string) *Member {
	return &Member{Name: name, Address: address, Config: filepath.Join(n.dir, name, role+".toml"), log: filepath.Join(n.dir, name+".out"), net: n, role: role}
}

// Node sets up and starts a bare node. mode is one of mix, relay, mailbox, exit, or several
// with commas; set are more options.
func (n *MixNet) Node(t testing.TB, nickname, mode string, set ...string) *Member {
	t.Helper()
	m := n.member(nickname, "mix", n.world.Address()+":48099")
	var made struct {
		Node struct{ Dir, ID string }
	}
	args := []string{"mix", "init", nickname, "--network", n.File, "-f", m.Config, "--address", m.Address, "--contact", "op@example.net", "--json",
		"--set", "mode=" + mode, "--set", "incoming.listen=" + m.Address, "--set", "directory.publish=true"}
	n.ask(t, &made, append(args, sets(set)...)...)
	m.Dir, m.ID = made.Node.Dir, made.Node.ID
	m.serve = []string{"mix", "start", "--nodaemon", "-f", m.Config}
	n.Nodes = append(n.Nodes, m)
	m.Start(t)
	return m
}

// Start runs the member's process, and waits until it answers.
func (m *Member) Start(t testing.TB) {
	t.Helper()
	m.p = start(t, m.log, exec.Command(m.net.program, m.serve...))
	t.Cleanup(m.Kill)
	p := m.p
	await(t, m.Name+" starts", func() bool {
		if p.over() {
			t.Fatalf("%s ended: %s", m.Name, m.Log())
		}
		return exec.Command(m.net.program, m.role, "status", "--config", m.Config).Run() == nil
	})
}

// Kill ends the process at once, as a power cut would; it does nothing where none runs.
func (m *Member) Kill() {
	if m.p != nil {
		m.p.kill()
	}
}

// Stop has the process end cleanly, and waits for that.
func (m *Member) Stop(t testing.TB) {
	t.Helper()
	if err := m.p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await(t, m.Name+" stops", m.p.over)
}

// Log gives what the member has said so far, to its terminal and to its log.
func (m *Member) Log() string {
	said, _ := os.ReadFile(m.log)
	log, _ := os.ReadFile(filepath.Join(m.Dir, "log"))
	return string(said) + string(log)
}

// Ask runs a command about the member (`mix queue`, `authority list`) and reads its JSON
// into v; nil: the output is not looked at.
func (m *Member) Ask(t testing.TB, v any, args ...string) {
	t.Helper()
	m.net.ask(t, v, append([]string{m.role}, append(args, "--config", m.Config, "--json")...)...)
}

// Approve has every authority let all nodes in that wait. It waits until each of them knows
// all nodes.
func (n *MixNet) Approve(t testing.TB) {
	t.Helper()
	for _, a := range n.Authorities {
		for _, m := range n.Nodes {
			n.approve(t, a, m.ID)
		}
	}
}

// ApproveID has every authority let one node in, once it has published.
func (n *MixNet) ApproveID(t testing.TB, id string) {
	t.Helper()
	for _, a := range n.Authorities {
		n.approve(t, a, id)
	}
}

func (n *MixNet) approve(t testing.TB, a *Member, id string) {
	t.Helper()
	await(t, a.Name+" knows of "+id, func() bool {
		out, err := exec.Command(n.program, "authority", "list", "--config", a.Config, "--json").Output()
		return err == nil && strings.Contains(string(out), id)
	})
	out, err := exec.Command(n.program, "authority", "approve", id, "--config", a.Config).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "approved") {
		t.Fatalf("approve: %v: %s", err, out)
	}
}

// Consensus gives the newest that an authority has; false: none.
func (n *MixNet) Consensus(a *Member) (c Consensus, ok bool) {
	out, err := exec.Command(n.program, "authority", "show", "--json", "--config", a.Config).Output()
	return c, err == nil && json.Unmarshal(out, &c) == nil && c.Epoch > 0
}

// Wait waits, for up to twelve epochs, until f is true of the newest consensus of one of the
// authorities, and gives that.
func (n *MixNet) Wait(t testing.TB, what string, f func(Consensus) bool) Consensus {
	t.Helper()
	deadline := time.Now().Add(12*n.Period + 20*time.Second)
	tick := time.NewTicker(n.Period / 10)
	defer tick.Stop()
	var last Consensus
	for time.Now().Before(deadline) {
		for _, a := range n.Authorities {
			if c, ok := n.Consensus(a); ok {
				if last = c; f(c) {
					return c
				}
			}
		}
		<-tick.C
	}
	t.Fatalf("waited in vain: %s; the last consensus: %+v", what, last)
	return last
}

// Lists waits until a consensus in which exactly these nodes are is that of the present epoch, and
// the bare ones among them that run go by it and are connected: what is sent before that may get lost.
func (n *MixNet) Lists(t testing.TB, ids ...string) Consensus {
	t.Helper()
	slices.Sort(ids)
	c := n.Wait(t, fmt.Sprintf("a consensus with %d nodes", len(ids)), func(c Consensus) bool {
		var have []string
		for _, x := range c.Nodes {
			have = append(have, x.ID)
		}
		slices.Sort(have)
		return slices.Equal(have, ids)
	})
	<-time.After(time.Until(c.ValidAfter))
	for _, m := range n.Nodes {
		if m.p.over() {
			continue
		}
		await(t, m.Name+" goes by the new consensus", func() bool {
			var s struct {
				Epoch uint64
				Peers []struct {
					ID        string
					Connected bool
				}
			}
			m.Ask(t, &s, "status")
			for _, p := range s.Peers {
				listed := slices.ContainsFunc(ids, func(id string) bool { return strings.HasPrefix(id, p.ID) })
				if listed && !p.Connected {
					return false
				}
			}
			return s.Epoch >= c.Epoch
		})
	}
	return c
}

// Address gives a host:port for the link of a node that is set up elsewhere.
func (n *MixNet) Address() string { return n.world.Address() + ":48099" }

// Command is a call of the program.
func (n *MixNet) Command(args ...string) *exec.Cmd { return exec.Command(n.program, args...) }

func (n *MixNet) run(t testing.TB, args ...string) []byte {
	t.Helper()
	out, err := n.Command(args...).Output()
	if err != nil {
		var e *exec.ExitError
		if errors.As(err, &e) {
			t.Fatalf("postern %s: %v: %s", strings.Join(args, " "), err, e.Stderr)
		}
		t.Fatal(err)
	}
	return out
}

func (n *MixNet) ask(t testing.TB, v any, args ...string) {
	t.Helper()
	out := n.run(t, args...)
	if v == nil {
		return
	}
	if err := json.Unmarshal(out, v); err != nil {
		t.Fatalf("postern %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// Command is a call of the program about the member.
func (m *Member) Command(args ...string) *exec.Cmd {
	return m.net.Command(append([]string{m.role}, append(args, "--config", m.Config)...)...)
}
