package client

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Path is a way as a user writes it, in the grammar of mixminion's -P: names of nodes and
// files of descriptors, ? for a node to be drawn, *3 for three of them, * for all that are open,
// with commas between them. Each named node takes the layer that the directory or its
// descriptor gives it, so the order of names is that of the layers; what is drawn fills layers
// that are open, and what is still open then is drawn too.
type Path struct {
	elems []element
}

type element struct {
	name   string
	random int // nodes to be drawn, where name is ""
}

// MaxPath bounds the text of a path, in bytes.
const MaxPath = 16 << 10

// ParsePath reads a path. "" is the path on which all is drawn. errs.Invalid, with a public
// text.
func ParsePath(s string) (Path, error) {
	const op = "mixnet/client.ParsePath"
	var p Path
	bad := func(text string, args ...any) (Path, error) {
		return Path{}, errs.E(op, errs.Invalid, fmt.Sprintf(text, args...), nil)
	}
	if len(s) > MaxPath {
		return bad("the path is too long")
	}
	if s = strings.TrimSpace(s); s == "" {
		return p, nil
	}
	named := 0
	for _, e := range strings.Split(s, ",") {
		switch e = strings.TrimSpace(e); {
		case e == "":
			return bad("the path has nothing between two commas")
		case strings.ContainsAny(e, "\x00\r\n"):
			return bad("the path has a character that no name has")
		case e == "*":
			p.elems = append(p.elems, element{random: -1})
		case e == "?":
			p.elems = append(p.elems, element{random: 1})
		case e[0] == '*':
			n, err := strconv.ParseUint(e[1:], 10, 8)
			if err != nil || n < 1 || n > packet.Layers {
				return bad("%q in the path is not *1 to *%d", e, packet.Layers)
			}
			p.elems = append(p.elems, element{random: int(n)})
		case e[0] == '~':
			return bad("the path asks for a random number of nodes (%s), but all ways have the same number here: use *", e)
		case e == ":" || strings.HasPrefix(e, ":") || strings.HasSuffix(e, ":"):
			return bad("the path has two legs (:), but ways have only one here")
		default:
			if named++; named > packet.Layers {
				return bad("the path names more than %d nodes", packet.Layers)
			}
			p.elems = append(p.elems, element{name: e})
		}
	}
	return p, nil
}

// Named tells how many nodes the path names.
func (p Path) Named() int {
	n := 0
	for _, e := range p.elems {
		if e.name != "" {
			n++
		}
	}
	return n
}

// Apply adds what the path names to a Want whose ends are given already. A name is looked
// for in the consensus, without regard to case; what is not there is read as a file by read.
// The keys in a file are used even where the directory knows the node. c may be nil: then all
// names are files. errs.Invalid with a public text for a path that is not possible; else what
// read says.
func (p Path) Apply(c *directory.Consensus, w Want, read func(file string) (*directory.Descriptor, error)) (Want, error) {
	const op = "mixnet/client.Path.Apply"
	bad := func(text string, args ...any) (Want, error) {
		return w, errs.E(op, errs.Invalid, fmt.Sprintf(text, args...), nil)
	}
	last, lastName := -1, ""
	drawn := 0
	for i, el := range p.elems {
		if el.name == "" {
			drawn += max(el.random, 0)
			continue
		}
		e, err := lookUp(c, el.name, read)
		if err != nil {
			return w, errs.Wrap(op, err)
		}
		l, err := p.layer(e, &w, i, last)
		if err != nil {
			return w, errs.Wrap(op, err)
		}
		switch given := w.Hops[l]; {
		case l == last:
			return bad("%s and %s are both in layer %d: a way has one node of each", lastName, e.Nickname, l)
		case l < last:
			return bad("%s is in layer %d and cannot stand behind %s, which is in layer %d", e.Nickname, l, lastName, last)
		case l < w.From || l > w.To:
			return bad("%s is in layer %d, which this way does not touch", e.Nickname, l)
		case given != nil && given.ID != e.ID && l == 0:
			return bad("the way begins at your own relay, %s, not at %s", given.Nickname, e.Nickname)
		case given != nil && given.ID != e.ID:
			return bad("the way ends at %s, where the mailbox is, not at %s", given.Nickname, e.Nickname)
		}
		w.Hops[l] = e
		last, lastName = l, e.Nickname
	}
	open := 0
	for l := w.From; l <= w.To; l++ {
		if w.Hops[l] == nil {
			open++
		}
	}
	if drawn > open {
		return bad("the path asks for %d nodes to be drawn, but only %d layers are open", drawn, open)
	}
	return w, nil
}

// lookUp finds a node by name, else by file.
func lookUp(c *directory.Consensus, name string, read func(string) (*directory.Descriptor, error)) (*directory.Entry, error) {
	if c != nil {
		if e := FindNode(c, name); e != nil {
			return e, nil
		}
	}
	if read == nil {
		return nil, errs.E("mixnet/client.Path", errs.NotFound, fmt.Sprintf("no node is called %s", name), nil)
	}
	d, err := read(name)
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			return nil, errs.E("mixnet/client.Path", errs.NotFound, fmt.Sprintf("%s is neither the name of a node in the directory nor the file of a descriptor", name), err)
		}
		return nil, err
	}
	e := &directory.Entry{ID: d.ID(), Descriptor: d.Hash(), Node: d.Node}
	if e.Mode.Has(directory.Mix) {
		if l := d.Node.UnlistedLayer(); l > 0 {
			e.Layer = l
		}
	}
	if c != nil {
		if known := c.Find(e.ID); known != nil {
			e.Layer, e.Score = known.Layer, known.Score
		}
	}
	return e, nil
}

// FromFiles makes the part of a directory that the files of a path tell, for ways of which every hop
// is a file while there is no consensus: a mix of each layer, the end, and the own relay, to which
// answers come. It has no parameters but those that are given. errs.Invalid and errs.Unavailable,
// with a public text that says which file is missing; else what read says.
func FromFiles(p Path, own packet.ID, params directory.Parameters, read func(file string) (*directory.Descriptor, error)) (*directory.Consensus, error) {
	const op = "mixnet/client.FromFiles"
	c := &directory.Consensus{Parameters: params}
	var layers [packet.Layers]bool
	for _, el := range p.elems {
		if el.name == "" {
			continue
		}
		e, err := lookUp(nil, el.name, read)
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		if layers[e.Layer] = true; c.Find(e.ID) == nil {
			c.Nodes = append(c.Nodes, *e)
			slices.SortFunc(c.Nodes, func(a, b directory.Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		}
	}
	if c.Find(own) == nil {
		return nil, errs.E(op, errs.Invalid, "without the directory of the network the path begins with the file of your own relay", nil)
	}
	for l := 1; l < packet.Last; l++ {
		if !layers[l] {
			return nil, errs.E(op, errs.Unavailable, fmt.Sprintf("there is no directory of the network now, and the path names no mix of layer %d by a file", l), nil)
		}
	}
	return c, nil
}

// FindNode gives the node with a nickname, compared without case, or with an ID in hex digits;
// nil if there is none.
func FindNode(c *directory.Consensus, name string) *directory.Entry {
	for i := range c.Nodes {
		if e := &c.Nodes[i]; strings.EqualFold(e.Nickname, name) || strings.EqualFold(fmt.Sprintf("%x", e.ID), name) {
			return e
		}
	}
	return nil
}

// layer tells which layer of the way a named node takes.
func (p Path) layer(e *directory.Entry, w *Want, at, last int) (int, error) {
	const op = "mixnet/client.Path"
	if e.Mode.Has(directory.Mix) {
		if e.Layer == 0 {
			return 0, errs.E(op, errs.Invalid, fmt.Sprintf("%s is in no layer: the directory does not list it, and its descriptor does not say one", e.Nickname), nil)
		}
		return e.Layer, nil
	}
	// A relay stands at one of the ends.
	if last < 0 && at == 0 && w.From == 0 && serves(e, 0, 0) && (len(p.elems) > 1 || !serves(e, packet.Last, w.Mode) || w.To < packet.Last) {
		return 0, nil
	}
	if !serves(e, packet.Last, w.Mode) {
		if w.Mode.Has(directory.Exit) {
			return 0, errs.E(op, errs.Invalid, fmt.Sprintf("%s is no exit", e.Nickname), nil)
		}
		return 0, errs.E(op, errs.Invalid, fmt.Sprintf("%s keeps no mailboxes, so that a way cannot end there", e.Nickname), nil)
	}
	return packet.Last, nil
}
