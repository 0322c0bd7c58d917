package imap

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

func cmdThread(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doThread(ctx, p, false)
}

func cmdUIDThread(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doThread(ctx, p, true)
}

// noNode stands for no message: no parent, no child.
const noNode int32 = -1

// threadNode is a message, or a dummy: one that is only referred to, or that holds
// threads of one subject together (RFC 5256 §3).
type threadNode struct {
	num      uint32 // what the client is told; 0: a dummy
	subject  int32  // number of the base subject; 0: the empty one
	parent   int32
	reply    bool
	children bool  // some node has this one as parent
	date     int64 // sent date, unix seconds
	kids     []int32
}

// threader gathers the messages of one THREAD.
type threader struct {
	ctx      context.Context
	nodes    []threadNode // messages among them by ascending number
	subjects map[string]int32
	ids      map[string]int32 // Message-ID to node; only for REFERENCES
	roots    []int32
	memory   int
	steps    int // of looking for loops
}

// Limits of one THREAD beside those of a search: bytes for messages and what they
// refer to, bytes of a subject that are compared, and steps of looking for loops,
// which only headers made for it need many of.
const (
	maxThreadMemory = 128 << 20
	maxThreadSteps  = 50_000_000
	threadNodeBytes = 120 // of a node with its places in lists and maps
)

// doThread is THREAD of RFC 5256 §3.
func (c *conn) doThread(ctx context.Context, p *parser, byUID bool) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	algorithm, err := p.upperAtom()
	if err != nil {
		return reply{}, err
	}
	if algorithm != "ORDEREDSUBJECT" && algorithm != "REFERENCES" {
		return reply{}, bad("", "Unknown threading algorithm")
	}
	var q searchRequest
	if err := p.criteria(&q); err != nil {
		return reply{}, err
	}
	if q.modseq {
		c.enabled.condstore = true
	}
	if err := c.refreshFor(ctx, byUID); err != nil {
		return reply{}, err
	}
	q.key.prepare(c.sel)
	t := &threader{ctx: ctx, subjects: map[string]int32{"": 0}}
	if algorithm == "REFERENCES" {
		t.ids = make(map[string]int32)
	}
	err = c.scan(ctx, &q.key, func(m *candidate) error {
		num := m.seq
		if byUID {
			num = m.e.UID
		}
		return t.add(num, m)
	})
	if err != nil {
		return reply{}, err
	}
	if t.ids == nil {
		t.orderedSubject()
	} else {
		t.references()
	}
	c.w.s("* THREAD")
	if len(t.roots) > 0 {
		c.w.s(" ")
	}
	t.write(&c.w)
	c.w.crlf()
	return reply{"", "THREAD done"}, c.w.err
}

// charge counts memory.
func (t *threader) charge(n int) error {
	if t.memory += n; t.memory > maxThreadMemory {
		return no("LIMIT", "Too many messages to thread at once")
	}
	return nil
}

// add takes a message in.
func (t *threader) add(num uint32, m *candidate) error {
	sum, err := m.summary()
	if err != nil {
		return err
	}
	h, err := m.fields()
	if err != nil {
		return err
	}
	n := threadNode{num: num, parent: noNode, date: sentTime(h, sum.Date).Unix()}
	base, reply := baseSubject(h.Get("Subject"))
	n.reply = reply
	if n.subject, err = t.subject(cutText(fold(base))); err != nil {
		return err
	}
	if t.ids == nil {
		t.nodes = append(t.nodes, n)
		return t.charge(threadNodeBytes)
	}
	return t.link(n, h)
}

// subject gives the number of a base subject.
func (t *threader) subject(s string) (int32, error) {
	if n, ok := t.subjects[s]; ok {
		return n, nil
	}
	n := int32(len(t.subjects))
	t.subjects[strings.Clone(s)] = n
	return n, t.charge(len(s) + threadNodeBytes)
}

// byDate orders siblings: by sent date, then as in the mailbox. A dummy, which has
// children in order already, is where its first child is.
func (t *threader) byDate(list []int32) {
	first := func(i int32) *threadNode {
		if n := &t.nodes[i]; n.num == 0 && len(n.kids) > 0 {
			return &t.nodes[n.kids[0]]
		}
		return &t.nodes[i]
	}
	slices.SortFunc(list, func(a, b int32) int {
		x, y := first(a), first(b)
		return cmp.Or(cmp.Compare(x.date, y.date), cmp.Compare(x.num, y.num))
	})
}

// orderedSubject makes a thread of each base subject: its first message, and the others
// as children of that.
func (t *threader) orderedSubject() {
	order := make([]int32, len(t.nodes))
	for i := range order {
		order[i] = int32(i)
	}
	t.byDate(order)
	first := make([]int32, len(t.subjects))
	for i := range first {
		first[i] = noNode
	}
	for _, i := range order {
		if top := first[t.nodes[i].subject]; top != noNode {
			t.nodes[top].kids = append(t.nodes[top].kids, i)
			continue
		}
		first[t.nodes[i].subject] = i
		t.roots = append(t.roots, i)
	}
}

// closing is what write puts on its stack for a ")".
const closing int32 = -1

// write gives the threads as lists (RFC 5256 §5). It keeps a stack of its own: there
// is no limit to how deep threads are.
func (t *threader) write(w *writer) {
	var stack []int32
	for _, root := range t.roots {
		stack = append(stack[:0], root)
		for len(stack) > 0 {
			i := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if i == closing {
				w.s(")")
				continue
			}
			w.s("(")
			stack = append(stack, closing)
			for {
				n := &t.nodes[i]
				if n.num != 0 {
					w.u32(n.num)
				}
				if n.num != 0 && len(n.kids) > 0 {
					w.s(" ")
				}
				if len(n.kids) == 1 {
					i = n.kids[0]
					continue
				}
				for k := len(n.kids) - 1; k >= 0; k-- {
					stack = append(stack, n.kids[k])
				}
				break
			}
		}
	}
}
