package client

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// signer gives an identity by name.
func signer(t testing.TB, name string) *directory.PrivateKey {
	t.Helper()
	if k, ok := testKeys.Load("signer " + name); ok {
		return k.(*directory.PrivateKey)
	}
	a, b := sha256.Sum256([]byte("one "+name)), sha256.Sum256([]byte("two "+name))
	k, err := directory.NewPrivateKey(append(a[:], b[:]...))
	must(t, err)
	testKeys.Store("signer "+name, k)
	return k
}

// descriptor is the file of a node, whose ID follows from its identity.
func descriptor(t testing.TB, e directory.Entry) *directory.Descriptor {
	t.Helper()
	d := directory.Descriptor{Network: "test.net", Published: begin, Node: e.Node}
	if !e.Mode.Has(directory.Mix) {
		d.NameKey = signer(t, "names").Public()
	}
	out, err := directory.SignDescriptor(d, signer(t, e.Nickname))
	must(t, err)
	return out
}

// line shows a Want as the names on the way, - where one is to be drawn.
func (w Want) line() string {
	var s []string
	for l := w.From; l <= w.To; l++ {
		name := "-"
		if e := w.Hops[l]; e != nil {
			name = e.Nickname
		}
		s = append(s, name)
	}
	return strings.Join(s, " ")
}

// TestPath: each name takes the layer of its node, what is open stays open, and an impossible
// path says why.
func TestPath(t *testing.T) {
	c := usual(t, 2)
	files := map[string]*directory.Descriptor{
		"./mine": descriptor(t, entry(t, "mine", directory.Mix, 0, 0, func(e *directory.Entry) {
			e.Parameters = directory.Parameters{{Name: directory.LayerParameter, Value: 2}}
		})),
		"./nobody": descriptor(t, entry(t, "nobody", directory.Mix, 0, 0)),
		"./far": descriptor(t, entry(t, "far", directory.Mix, 0, 0, func(e *directory.Entry) {
			e.Parameters = directory.Parameters{{Name: directory.LayerParameter, Value: 9}}
		})),
		"exit/d": descriptor(t, entry(t, "gate", directory.Relay|directory.Exit, 0, 0)),
	}
	read := func(name string) (*directory.Descriptor, error) {
		if d := files[name]; d != nil {
			return d, nil
		}
		return nil, errs.E("test", errs.NotFound, "", nil)
	}
	full := func(w *Want) {}
	open := func(w *Want) { w.Hops[packet.Last] = nil }
	block := func(w *Want) { w.From, w.Hops[0], w.Hops[packet.Last] = 1, nil, FindNode(c, "relay0") }
	for _, v := range []struct {
		path   string
		change func(*Want)
		want   string // the way, or a public text
	}{
		{"", full, "relay0 - - - relay1"},
		{"*", full, "relay0 - - - relay1"},
		{"*3", full, "relay0 - - - relay1"},
		{"?,?,?", full, "relay0 - - - relay1"},
		{"mix2a", full, "relay0 - mix2a - relay1"},
		{"MIX2A , *2", full, "relay0 - mix2a - relay1"},
		{"*2,mix1b", full, "relay0 mix1b - - relay1"},
		{"mix1a,mix2b,mix3a", full, "relay0 mix1a mix2b mix3a relay1"},
		{"relay0,mix1a,?,?,relay1", full, "relay0 mix1a - - relay1"},
		{"./mine,*2", full, "relay0 - mine - relay1"},
		{"*3,relay1", open, "relay0 - - - relay1"},
		{"relay1", open, "relay0 - - - relay1"},
		{"mix3b", block, "- - mix3b relay0"},
		{fmt.Sprintf("%x", FindNode(c, "mix1a").ID), full, "relay0 mix1a - - relay1"},

		{"*4", full, "the path asks for 4 nodes to be drawn, but only 3 layers are open"},
		{"mix1a,*3", full, "the path asks for 3 nodes to be drawn, but only 2 layers are open"},
		{"mix2a,mix1a", full, "mix1a is in layer 1 and cannot stand behind mix2a, which is in layer 2"},
		{"mix2a,mix2b", full, "mix2a and mix2b are both in layer 2: a way has one node of each"},
		{"relay1,mix1a", full, "the way begins at your own relay, relay0, not at relay1"},
		{"*3,relay0", full, "the way ends at relay1, where the mailbox is, not at relay0"},
		{"nosuch", full, "nosuch is neither the name of a node in the directory nor the file of a descriptor"},
		{"./nobody,*2", full, "nobody is in no layer: the directory does not list it, and its descriptor does not say one"},
		{"./far", full, "far is in no layer: the directory does not list it, and its descriptor does not say one"},
		{"*3,exit/d", open, "gate keeps no mailboxes, so that a way cannot end there"},
		{"relay0", func(w *Want) { block(w); w.Hops[packet.Last], w.Mode = nil, directory.Exit }, "relay0 is no exit"},
		{"*0", full, `"*0" in the path is not *1 to *5`},
		{"*6", full, `"*6" in the path is not *1 to *5`},
		{"*x", full, `"*x" in the path is not *1 to *5`},
		{"mix1a,,mix2a", full, "the path has nothing between two commas"},
		{"~3", full, "the path asks for a random number of nodes (~3), but all ways have the same number here: use *"},
		{"mix1a,:,mix2a", full, "the path has two legs (:), but ways have only one here"},
		{"a,b,c,d,e,f", full, "the path names more than 5 nodes"},
		{strings.Repeat("?,", MaxPath), full, "the path is too long"},
		{"mix1a\n", full, "relay0 mix1a - - relay1"},
		{"mix\n1a", full, "the path has a character that no name has"},
	} {
		w := ways(t, c)
		v.change(&w)
		p, err := ParsePath(v.path)
		if err == nil {
			w, err = p.Apply(c, w, read)
		}
		got := w.line()
		if err != nil {
			got = errs.Public(err)
		}
		if got != v.want {
			t.Errorf("%.40q gives %q, want %q", v.path, got, v.want)
		}
	}
}

// TestPathWithoutDirectory: a way can be all files; and where the directory knows a node, the
// keys are those of its file.
func TestPathWithoutDirectory(t *testing.T) {
	var files []*directory.Descriptor
	for l := 1; l <= 3; l++ {
		files = append(files, descriptor(t, entry(t, fmt.Sprint("own", l), directory.Mix, 0, 0, func(e *directory.Entry) {
			e.Parameters = directory.Parameters{{Name: directory.LayerParameter, Value: uint64(l)}}
		})))
	}
	files = append(files, descriptor(t, entry(t, "end", directory.Mailbox, 0, 0)))
	read := func(name string) (*directory.Descriptor, error) { return files[name[0]-'0'], nil }
	p, err := ParsePath("0/,1/,2/,3/")
	must(t, err)
	relay := entry(t, "relay0", directory.Relay, 0, 0)
	w := Want{To: packet.Last, Hops: [packet.Layers]*directory.Entry{&relay}}
	w, err = p.Apply(nil, w, read)
	must(t, err)
	if w.line() != "relay0 own1 own2 own3 end" {
		t.Error(w.line())
	}
	way, err := Pick(&directory.Consensus{}, begin, rng(1), w)
	must(t, err)
	if len(way.Hops) != packet.Layers {
		t.Error(way)
	}
	// Known, with another key in the file.
	known := directory.Entry{ID: files[0].ID(), Layer: 3, Score: 5, Node: files[0].Node}
	c := network(known)
	p, err = ParsePath("0/")
	must(t, err)
	w, err = p.Apply(c, Want{To: packet.Last, Hops: [packet.Layers]*directory.Entry{&relay}}, func(string) (*directory.Descriptor, error) { return files[0], nil })
	must(t, err)
	if e := w.Hops[3]; e == nil || e.Score != 5 || e.Nickname != "own1" {
		t.Errorf("%+v", w.line())
	}
}

// TestWithoutConsensus: while there is no consensus, a message whose path is all files leaves, is
// acknowledged and arrives, at once and at the ticks; others wait and say why.
func TestWithoutConsensus(t *testing.T) {
	for _, free := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			m := newMesh(t, 10*time.Second)
			m.set(directory.Delay, 5*time.Second)
			files := map[string][]byte{}
			file := func(name string, mode directory.Mode, layer int) packet.ID {
				d := descriptor(t, entry(t, name, mode, 0, 0, func(e *directory.Entry) {
					if layer > 0 {
						e.Parameters = directory.Parameters{{Name: directory.LayerParameter, Value: uint64(layer)}}
					}
				}))
				files["./"+name] = d.Bytes()
				return d.ID()
			}
			own := file("relay0", directory.Relay|directory.Mailbox, 0)
			end := file("relay1", directory.Relay|directory.Mailbox|directory.Exit, 0)
			for l, name := range []string{"mix1a", "mix2a", "mix3a"} {
				file(name, directory.Mix, l+1)
			}
			alice, bob := m.user("alice", clock(), 1), m.user("bob", clock(), 2)
			alice.lost = &own
			sealed, err := letter.Seal(bob.id.Letter.Public(), letter.Message{Content: []byte("by files")}, letter.Options{Room: letter.RoomACK})
			must(t, err)
			o := Outgoing{Kind: content.Letter, Relay: end, Mailbox: bob.mailbox, Ack: true, Bodies: sealed.Bodies}
			others := map[string]string{}
			queue := func(path, why string) string {
				o.Path, o.Files = path, files
				if path == "" {
					o.Files = nil
				}
				name, err := alice.store.Queue(o)
				must(t, err)
				others[name] = why
				return name
			}
			queue("", "there is no directory of the network now")
			queue("./mix1a,./mix2a,./mix3a,./relay1", "without the directory of the network the path begins with the file of your own relay")
			queue("./relay0,./mix1a,*1,./mix3a,./relay1", "there is no directory of the network now, and the path names no mix of layer 2 by a file")
			name := queue("./relay0,./mix1a,./mix2a,./mix3a,./relay1", "")
			delete(others, name)
			alice.start(free)
			time.Sleep(8 * time.Minute)
			p, err := alice.store.Progress(name)
			must(t, err)
			if p.Result != Delivered {
				t.Errorf("free %v: %+v", free, p)
			}
			if s := alice.client.Status(); s.Drops != 0 || s.Loops != 0 || s.Waiting != len(others) || s.Problem == nil {
				t.Errorf("%+v", s)
			}
			list, err := alice.client.Messages()
			must(t, err)
			for _, p := range list {
				if p.Why != others[p.Name] {
					t.Errorf("%s waits because %q, want %q", p.Name, p.Why, others[p.Name])
				}
			}
			alice.halt()
			bob.start(true)
			time.Sleep(time.Minute)
			bob.halt()
			if got := bob.fetch(); len(got) != 1 || got[0] != "by files" {
				t.Errorf("%q", got)
			}
			m.stop()
		})
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"", "a,*2", "*", "?,?,x/y", "~3", ":,a", "*6"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePath(s)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid || errs.Public(err) == "" {
				t.Fatal(err)
			}
			return
		}
		c := usual(t, 1)
		w, err := p.Apply(c, ways(t, c), nil)
		if err != nil {
			return
		}
		if way, err := Pick(c, begin, rng(1), w); err == nil && len(way.Hops) != packet.Layers {
			t.Fatal("a way of another length")
		}
	})
}
