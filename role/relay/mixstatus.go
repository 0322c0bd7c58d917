package relay

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/link"
	"postern.email/mixnet/node"
)

// MixStatus is this relay's part in the mix network. No number in it tells about one user.
type MixStatus struct {
	Node     string `json:"node"`
	Nickname string `json:"nickname"`
	// Listed: it is in the directory, so that others send packets to it.
	Listed     bool   `json:"listed"`
	Epoch      uint64 `json:"epoch"` // of the consensus in use; 0: none
	ValidUntil string `json:"valid_until,omitempty"`
	Directory  string `json:"directory,omitempty"` // why there is no valid consensus

	Authorities struct { // what they made of the descriptor
		All      int `json:"all"`
		Accepted int `json:"accepted"`
		Held     int `json:"held"` // it waits for their operators
	} `json:"authorities"`
	Links struct {
		Nodes   int `json:"nodes"`   // to other nodes
		Clients int `json:"clients"` // of users
	} `json:"links"`
	Mailboxes struct {
		All     int64 `json:"all"`
		Packets int64 `json:"packets"`
	} `json:"mailboxes"`
	Log struct {
		Packets int   `json:"packets"` // under way through this relay
		Bytes   int64 `json:"bytes"`
		Damaged int   `json:"damaged"`
	} `json:"log"`
	Door struct { // letters to the relay: mail for mailboxes here, and for the exit
		Letters int   `json:"letters"` // that are not whole, or not delivered yet
		Bytes   int64 `json:"bytes"`
		Damaged int   `json:"damaged"`
	} `json:"door"`
	// Exit is there when mail may leave into the world here.
	Exit         *MixExit `json:"exit,omitempty"`
	Health       string   `json:"health"` // "ok", or why no packets are taken
	Insecurities []string `json:"insecurities,omitempty"`
}

// MixExit is the exit into the world.
type MixExit struct {
	Bounced int64 `json:"bounced"` // mails that came back since the start
}

// mixStatus gives the part of Status; nil where there is none.
func (s *Server) mixStatus() *MixStatus {
	if s.mix == nil || s.mix.node == nil {
		return nil
	}
	n, boxes := s.mix.node.Status(), s.packets.Stats()
	m := &MixStatus{Node: hex.EncodeToString(n.ID[:]), Nickname: s.c.Mixnet.Nickname, Listed: n.Listed, Epoch: n.Epoch, Health: "ok", Insecurities: n.Insecurities}
	if !n.ValidUntil.IsZero() {
		m.ValidUntil = n.ValidUntil.UTC().Format(time.RFC3339)
	}
	if n.Directory != nil {
		m.Directory = errs.Public(n.Directory)
	}
	for _, v := range n.Verdicts {
		m.Authorities.All++
		switch {
		case v.Held:
			m.Authorities.Held++
		case v.Err == nil && !v.At.IsZero():
			m.Authorities.Accepted++
		}
	}
	for _, p := range n.Peers {
		if p.Connected {
			m.Links.Nodes++
		}
	}
	m.Links.Clients = s.mix.feed.Stats().Connections
	m.Mailboxes.All, m.Mailboxes.Packets = boxes.Boxes, boxes.Waiting
	m.Log.Packets, m.Log.Bytes, m.Log.Damaged = n.Log.Waiting, n.Log.Bytes, n.Log.Damaged
	d := s.mix.door.Status()
	m.Door.Letters, m.Door.Bytes, m.Door.Damaged = d.Letters, d.Bytes, d.Aside
	if s.mix.exit != nil {
		m.Exit = &MixExit{Bounced: s.mix.exit.Bounces()}
	}
	for _, err := range []error{n.Health, n.BoxError, n.Keys} {
		if err != nil {
			m.Health = errs.Public(err)
			break
		}
	}
	return m
}

// diagnoseMix looks at the mix network: the directory and the clock, the authorities, the
// disk, and the link as others see it.
func (s *Server) diagnoseMix(ctx context.Context, d *diagnoses) {
	if s.mix == nil || s.mix.node == nil {
		return
	}
	n := s.mix.node.Status()
	s.diagnoseDirectory(&n, d)
	const disk = "mix network: disk"
	switch {
	case n.Health != nil:
		d.Fault(disk, "Look at the disk that "+mixDir+" in the data directory lies on.", "no packets are taken: %s", errs.Public(n.Health))
	case n.BoxError != nil:
		d.Fault(disk, "Look at the disk, and at postern status. The packets wait; none is lost.", "packets cannot be put into mailboxes: %s", errs.Public(n.BoxError))
	case s.mix.door.Status().Aside > 0:
		d.Advise(disk, "Look at the disk. What was damaged is kept in "+mixDir+"/"+mixDoorDir+", in crp files; its senders sent it again if they heard nothing.", "%d parts of letters to this relay were damaged", s.mix.door.Status().Aside)
	case n.Log.Damaged > 0:
		d.Advise(disk, "Look at the disk. What was damaged is kept beside the log, in crp- files.", "%d records of the log of packets were damaged", n.Log.Damaged)
	default:
		d.OK(disk, "%d packets are under way through this relay", n.Log.Waiting)
	}
	for _, a := range s.mix.settings().About.Addresses {
		s.diagnoseLink(ctx, a, d)
	}
}

func (s *Server) diagnoseDirectory(n *node.Status, d *diagnoses) {
	const what, skew = "mix network: directory", "mix network: clock"
	var held int
	for _, v := range n.Verdicts {
		if v.Held {
			held++
		}
	}
	switch {
	case n.Epoch == 0:
		d.Fault(what, "Look at the network file (mixnet.network), and whether this machine may connect to the authorities that it names.", "no consensus of the network is known yet")
		return
	case n.Directory != nil:
		d.Fault(what, "Look at this machine's clock first. If it is right, the authorities have not agreed for a while: ask their operators.", "the consensus is not valid now: %s", errs.Public(n.Directory))
		return
	case !n.Listed && !s.c.Mixnet.Publish:
		d.Fault(what, "Set mixnet.publish.", "the consensus is valid, and this relay is not in it: its authorities are not told of it")
	case !n.Listed && held > 0:
		d.Advise(what, "Ask their operators to approve the node "+hex.EncodeToString(n.ID[:])+".", "the consensus is valid, and this relay is not in it: it waits for the operators of %d authorities", held)
	case !n.Listed:
		d.Advise(what, "A new relay comes in with the next consensus after its approval. postern status shows what the authorities say.", "the consensus is valid, and this relay is not in it")
	default:
		d.OK(what, "the consensus of epoch %d is valid until %s, and this relay is in it", n.Epoch, n.ValidUntil.UTC().Format(time.DateTime))
	}
	d.OK(skew, "this machine's clock fits the consensus")
}

// diagnoseLink connects to an address of the link as another node does, as far as one gets
// whom nobody knows.
func (s *Server) diagnoseLink(ctx context.Context, address string, d *diagnoses) {
	const what = "mix network: link"
	ctx, cancel := context.WithTimeout(ctx, doorTime)
	defer cancel()
	key, err := s.linkKeyAt(ctx, address)
	switch {
	case err != nil:
		d.Fault(what, "Look at the firewall, and at mixnet.addresses and mixnet.listen. Some routers do not lead a machine to its own public address: then look from another one.", "%s does not answer as a link", address)
	case key != s.mix.node.Link().Key():
		d.Fault(what, "Look at mixnet.addresses: this is another node's.", "%s answers with another key than this relay's", address)
	default:
		d.OK(what, "%s answers", address)
	}
}

// linkKeyAt tells which link key answers at an address. The other side then finds that it does not
// know us, which does not matter.
func (s *Server) linkKeyAt(ctx context.Context, address string) (key link.Key, err error) {
	dial := s.d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	c, err := dial(ctx, "tcp", address)
	if err != nil {
		return key, err
	}
	defer c.Close()
	found := false
	t := tls.Client(c, &tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}, InsecureSkipVerify: true,
		NextProtos: []string{fmt.Sprintf("postern-link/%d", link.Version)},
		VerifyConnection: func(st tls.ConnectionState) error {
			if len(st.PeerCertificates) == 1 {
				key, found = sha256.Sum256(st.PeerCertificates[0].RawSubjectPublicKeyInfo), true
			}
			return nil
		}})
	if err := t.HandshakeContext(ctx); err != nil && !found {
		return key, err
	}
	return key, nil
}
