package interop

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"postern.email/interop/smallworld"
)

// mixPeriod is the length of an epoch in these tests: an hour of a real network.
const mixPeriod = 16 * time.Second

// mixFast are parameters of a network in a hurry.
var mixFast = []string{"vote.parameters=delay=200,max-delay=60000,link-interval=500,loop-interval=2000,drop-interval=2000,payload-interval=300,receive-interval=100,mix-loop-interval=1000"}

// smallMixNet starts authorities, six mixes and two bare relays with mailboxes, and waits until
// all of them are in the consensus.
func smallMixNet(t *testing.T, authorities int) *smallworld.MixNet {
	t.Helper()
	n := smallworld.NewMixNet(t, smallworld.New(t), binary(t), authorities, mixPeriod, mixFast...)
	for _, name := range []string{"mix1", "mix2", "mix3", "mix4", "mix5", "mix6"} {
		n.Node(t, name, "mix")
	}
	for _, name := range []string{"relay1", "relay2"} {
		n.Node(t, name, "relay,mailbox")
	}
	n.Approve(t)
	n.Lists(t, ids(n.Nodes)...)
	return n
}

func ids(list []*smallworld.Member) (all []string) {
	for _, m := range list {
		all = append(all, m.ID)
	}
	return all
}

// TestMixNetwork: three authorities and eight nodes in separate processes agree: every
// authority signs, each layer has two mixes, and the consensus has the voted parameters. A mix that
// is killed is voted out, the others stay, and traffic flows on; when it comes back it has its old
// layer.
func TestMixNetwork(t *testing.T) {
	t.Parallel()
	n := smallMixNet(t, 3)
	c := n.Wait(t, "all signatures", func(c smallworld.Consensus) bool { return len(c.SignedBy) == 3 && len(c.Nodes) == 8 })
	layers := map[int]int{}
	var lost smallworld.DirectoryNode
	for _, x := range c.Nodes {
		layers[x.Layer]++
		if x.ID == n.Nodes[0].ID {
			lost = x
		}
	}
	if layers[1] != 2 || layers[2] != 2 || layers[3] != 2 || layers[0] != 2 {
		t.Errorf("layers: %v", layers)
	}
	if c.Parameters["delay"] != 200 || c.Parameters["mix-loop-interval"] != 1000 {
		t.Errorf("parameters: %v", c.Parameters)
	}

	anna, berta := newMixClient(t, n, n.Nodes[6]), newMixClient(t, n, n.Nodes[7])
	dead := n.Nodes[0]
	dead.Kill()
	n.Lists(t, ids(n.Nodes[1:])...)
	for i := range 3 { // each would pass the dead one by chance, if ways still did
		letter := fmt.Sprintf("letter %d\r\n", i)
		anna.run(t, letter, "send", "-t", berta.address, "--wait", "--timeout", "8m")
		if got := berta.run(t, "", "fetch", "--wait", "--for", "8m"); string(got) != letter {
			t.Errorf("fetched: %q", got)
		}
	}
	dead.Start(t)
	n.Wait(t, "the mix is back in its layer", func(c smallworld.Consensus) bool {
		return len(c.Nodes) == 8 && slices.ContainsFunc(c.Nodes, func(x smallworld.DirectoryNode) bool { return x.ID == lost.ID && x.Layer == lost.Layer })
	})
}
