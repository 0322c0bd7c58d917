package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/wire/control"
)

// How long the network is waited for: nodes come in with the next epoch or the one after, and
// machines are busy.
const (
	agreeEpochs = 8
	agreeTime   = time.Minute // beside the epochs
)

// startNetwork starts authorities and mixes.
func (l *Lab) startNetwork(ctx context.Context) error {
	l.say(fmt.Sprintf("Starting %d directory authorities and %d mixes", Authorities, Mixes))
	all := append(l.of("authority"), l.of("mix")...)
	infos := make([]authorityReady, Authorities)
	nodes := make([]nodeReady, Mixes)
	for i, m := range l.of("authority") {
		m.info = &infos[i]
	}
	for i, m := range l.of("mix") {
		m.info = &nodes[i]
	}
	if err := l.startAll(ctx, all); err != nil {
		return err
	}
	for i, m := range l.of("authority") {
		m.info = nil
		l.info.Authorities = append(l.info.Authorities, AuthorityInfo{Name: m.name, ID: infos[i].Authority, Link: infos[i].Link, Dir: m.dir, Config: m.config, PID: m.pid()})
	}
	for i, m := range l.of("mix") {
		m.info = nil
		l.info.Mixes = append(l.info.Mixes, NodeInfo{Name: m.name, ID: nodes[i].ID, Link: l.plan.at(m.name, "link"), Dir: m.dir, Config: m.config, PID: m.pid()})
	}
	return nil
}

// authorityReady and nodeReady are what the lab reads of their ready lines.
type authorityReady struct {
	Authority string `json:"authority"`
	Link      string `json:"link"`
}

type nodeReady struct {
	ID string `json:"id"`
}

// startRelays puts what has to be in the DNS there, starts the relays, and makes the account of a user at
// each.
func (l *Lab) startRelays(ctx context.Context) error {
	l.say(fmt.Sprintf("Starting %d relays", Relays))
	ready := make([]relayReady, Relays)
	var all []*member
	for i := range Relays {
		m := l.add("relay", i, &ready[i])
		var err error
		if m.config, err = l.relayConfig(i); err != nil {
			return err
		}
		m.args = []string{"serve", "--config", m.config, "--json"}
		all = append(all, m)
	}
	if err := l.publish(ctx, all); err != nil {
		return err
	}
	if err := l.startAll(ctx, all); err != nil {
		return err
	}
	for i, m := range all {
		m.info = nil
		var st relayStatus
		if err := control.Call(ctx, m.dir, "status", nil, &st, nil); err != nil {
			return errs.Wrap("lab.startRelays", err)
		}
		r := ready[i]
		user := RelayInfo{Name: m.name, ID: st.Mixnet.Node, Domain: r.Domain, Link: l.plan.at(m.name, "link"), Dir: m.dir, Config: m.config, PID: m.pid(),
			HTTPS: r.HTTPS, IMAPS: r.IMAPS, IMAP: r.IMAP, SMTP: r.SMTP, Submissions: r.Submissions, Submission: r.Submission, POP3S: r.POP3S, POP3: r.POP3, TLSCert: l.path(m.name, "cert.pem"),
			Account: userNames[i%len(userNames)] + "@" + r.Domain}
		user.Password = l.plan.password(user.Account)
		if err := createAccount(ctx, m.dir, user.Account, user.Password); err != nil {
			return err
		}
		l.info.Relays = append(l.info.Relays, user)
	}
	for i := range l.plan.Proxies {
		address := proxyAddress(i)
		if err := createAccount(ctx, all[i%Relays].dir, address, l.plan.password(address)); err != nil {
			return err
		}
	}
	return l.plan.save(l.c.Dir)
}

// userNames are the names of the relays' ordinary users, proxyNames those of the proxies'.
var (
	userNames  = []string{"carla", "dario"}
	proxyNames = []string{"anna", "berta"}
)

// proxyAddress is the address of the i-th proxy's account; they take turns with the relays.
func proxyAddress(i int) string {
	name := fmt.Sprint("user", i+1)
	if i < len(proxyNames) {
		name = proxyNames[i]
	}
	return name + "@" + relayDomain(i%Relays)
}

type relayReady struct {
	Domain, HTTPS, IMAPS, IMAP, SMTP, Submissions, Submission, POP3S, POP3 string
}

type relayStatus struct {
	Mixnet struct {
		Node   string `json:"node"`
		Listed bool   `json:"listed"`
		Links  struct {
			Nodes   int `json:"nodes"`
			Clients int `json:"clients"`
		} `json:"links"`
		Log struct {
			Packets int `json:"packets"`
		} `json:"log"`
	} `json:"mixnet"`
}

type mixStatus struct {
	Listed  bool         `json:"listed"`
	Layers  []int        `json:"layers"`
	Peers   []peerStatus `json:"peers"`
	Packets struct {
		Held int    `json:"held"`
		Sent uint64 `json:"sent"`
	} `json:"packets"`
}

type peerStatus struct {
	Connected bool `json:"connected"`
}

type authorityStatus struct {
	Epoch     uint64 `json:"epoch"`
	Consensus *struct {
		SignedBy []string `json:"signed_by"`
	} `json:"consensus"`
	Agreement struct {
		Phase string `json:"phase"`
	} `json:"agreement"`
}

// createAccount makes an account at a relay, if it is not there.
func createAccount(ctx context.Context, dir, address, password string) error {
	err := control.Call(ctx, dir, "account.create", map[string]string{"address": address, "password": password}, nil, nil)
	if errs.KindOf(err) == errs.Exists && err != nil {
		return nil
	}
	return errs.Wrap("lab.createAccount", err)
}

// agree has the authorities let all nodes in, and waits until every member goes by a consensus
// in which they are, and is connected to others.
func (l *Lab) agree(ctx context.Context) error {
	limit := agreeEpochs*l.plan.Period + agreeTime
	var ids []string
	for _, m := range l.info.Mixes {
		ids = append(ids, m.ID)
	}
	for _, r := range l.info.Relays {
		ids = append(ids, r.ID)
	}
	if !l.plan.Made {
		for _, a := range l.of("authority") {
			for _, id := range ids {
				if err := poll(ctx, limit, a.name+" hears of all nodes", func() bool { return approve(ctx, a.dir, id) }); err != nil {
					return err
				}
			}
		}
	}
	l.say(fmt.Sprintf("Waiting for the network to agree (an epoch is %v)", l.plan.Period))
	for _, m := range append(l.of("mix"), l.of("relay")...) {
		if err := poll(ctx, limit, m.name+" is in the directory and connected", func() bool { return settled(ctx, m) }); err != nil {
			return err
		}
	}
	return nil
}

// approve lets a node in; false: it is not known yet.
func approve(ctx context.Context, dir, id string) bool {
	state := ""
	err := control.Call(ctx, dir, "authority.list", nil, nil, func(line json.RawMessage) {
		var n struct{ ID, State string }
		if json.Unmarshal(line, &n) == nil && n.ID == id {
			state = n.State
		}
	})
	if err != nil || state == "" {
		return false
	}
	if state == "approved" {
		return true
	}
	return control.Call(ctx, dir, "authority.approve", map[string]string{"node": id}, nil, nil) == nil
}

// settled tells whether a node is in a valid directory and connected to others.
func settled(ctx context.Context, m *member) bool {
	if m.kind == "relay" {
		var st relayStatus
		return control.Call(ctx, m.dir, "status", nil, &st, nil) == nil && st.Mixnet.Listed && st.Mixnet.Links.Nodes > 0
	}
	var st mixStatus
	if control.Call(ctx, m.dir, "status", nil, &st, nil) != nil || !st.Listed || len(st.Peers) == 0 {
		return false
	}
	return !slices.ContainsFunc(st.Peers, func(p peerStatus) bool { return !p.Connected })
}

// pid is the number of the member's process.
func (m *member) pid() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc == nil || m.proc.cmd.Process == nil {
		return 0
	}
	return m.proc.cmd.Process.Pid
}
