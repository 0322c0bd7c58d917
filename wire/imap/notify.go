package imap

import (
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
)

// notify is what a client asked to be told (RFC 5465), and what it was told last. A
// session that never sends NOTIFY has none. It belongs to the session's goroutine, and
// while that waits for the client to whoever tells changes.
type notify struct {
	selected events // of the selected mailbox
	delayed  bool   // SELECTED-DELAYED
	items    []fetchItem
	groups   []eventGroup

	here   *watched // the selected mailbox
	hereOf *selected
	list   *watched // the list of mailboxes; nil: no group needs it
	server *watched // annotations of the server
	boxes  []*watchedBox

	folders []Folder // as they were told last
	before  []Folder // those before them, while watches are changed
	entries entrySums
	seed    maphash.Seed
	version int // counts changes of the watches

	own   []ownMessages // what the current command put into mailboxes
	names []string      // mailboxes that the current command made, removed or renamed
	sums  []ownEntry    // annotations that it set
}

// watched is a watch that notes that it fired.
type watched struct {
	watch Watch
	fired atomic.Bool
}

// take reports whether the watch fired since the last call.
func (w *watched) take() bool {
	select {
	case <-w.watch.C():
		w.fired.Store(false)
		return true
	default:
		return w.fired.Swap(false)
	}
}

// watchedBox is a mailbox with what was told of it.
type watchedBox struct {
	watched
	Folder
	events  events
	last    Status
	entries entrySums
}

// entrySums are the annotations of a mailbox: names, and sums of values that tell whether
// they changed.
type entrySums map[string]uint64

// ownMessages are messages that this session put into a mailbox by one command.
type ownMessages struct {
	box   uint32
	first uint32
	count int
}

// ownEntry is an annotation that this session set.
type ownEntry struct {
	box  uint32
	name string
}

// maxWatches bounds the mailboxes that one session watches. More are refused with
// NOTIFICATIONOVERFLOW (RFC 5465 §3.1).
const maxWatches = 200

// cmdNotify is RFC 5465 §3.1.
func cmdNotify(c *conn, ctx context.Context, p *parser) (reply, error) {
	n, status, err := p.notify()
	if err != nil {
		return reply{}, err
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	done := reply{"", "NOTIFY done"}
	old := c.notify
	if n == nil {
		c.dropNotify()
		c.notify = &notify{}
		return done, nil
	}
	n.seed = maphash.MakeSeed()
	if err := c.startNotify(ctx, n); err != nil {
		n.close()
		return reply{}, err
	}
	// SET implies a NOOP, whatever was asked for before.
	if c.notify = nil; c.sel != nil {
		err = c.sync(ctx, true)
	}
	if c.notify = n; old != nil {
		old.close()
	}
	if err != nil || !status {
		return done, err
	}
	for _, b := range n.boxes {
		if b.events&messageEvents != 0 && !c.isSelected(b.Box) {
			c.statusLine(b.Folder, b.last, []string{"MESSAGES", "UIDNEXT", "UIDVALIDITY", "HIGHESTMODSEQ"})
		}
	}
	return done, c.w.err
}

// nothing reports that the client wants to be told nothing at all.
func (n *notify) nothing() bool { return n.selected == 0 && len(n.groups) == 0 }

func (c *conn) isSelected(box uint32) bool { return c.sel != nil && c.sel.box == box }

// startNotify sets the watches up before it looks at anything, so that no change falls
// between.
func (c *conn) startNotify(ctx context.Context, n *notify) (err error) {
	var all events
	for i := range n.groups {
		all |= n.groups[i].events
	}
	if all&^evServer != 0 { // which mailboxes a group means changes with the list
		n.list = &watched{watch: c.session.WatchFolders()}
	}
	if all&evServer != 0 {
		n.server = &watched{watch: c.session.WatchMetadata()}
		if n.entries, err = c.entrySums(ctx, n, 0); err != nil {
			return err
		}
	}
	if n.list == nil {
		return nil
	}
	if n.folders, err = c.sortedFolders(ctx); err != nil {
		return err
	}
	return c.watchBoxes(ctx, n, true)
}

// sortedFolders gives all mailboxes by name: what is told has one order.
func (c *conn) sortedFolders(ctx context.Context) ([]Folder, error) {
	all, err := c.session.Folders(ctx)
	if err != nil {
		return nil, err
	}
	list := slices.Clone(all) // it belongs to the backend
	slices.SortFunc(list, func(a, b Folder) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// watchBoxes makes the watches of mailboxes agree with n.folders. known says that the
// client knows what is in those that are new to us.
func (c *conn) watchBoxes(ctx context.Context, n *notify, known bool) error {
	old := make(map[uint32]*watchedBox, len(n.boxes))
	for _, b := range n.boxes {
		old[b.Box] = b
	}
	n.boxes = n.boxes[:0]
	n.version++
	defer func() {
		for _, b := range old {
			b.watch.Close()
		}
	}()
	for i := range n.folders {
		f := &n.folders[i]
		ev := n.eventsOf(f) & (messageEvents | evMetadata)
		if ev == 0 || f.NoSelect || f.NonExistent {
			continue
		}
		if len(n.boxes) >= maxWatches {
			return no("NOTIFICATIONOVERFLOW", "Too many mailboxes to watch")
		}
		b := old[f.Box]
		if b != nil && b.UIDValidity == f.UIDValidity {
			delete(old, f.Box)
			b.Folder, b.events = *f, ev
			n.boxes = append(n.boxes, b)
			continue
		}
		b, err := c.watchBox(ctx, n, *f, ev, known)
		if err != nil {
			if skipGone(err) == nil {
				continue // deleted just now: the list will say so
			}
			return err
		}
		n.boxes = append(n.boxes, b)
	}
	return nil
}

// watchBox begins to watch a mailbox.
func (c *conn) watchBox(ctx context.Context, n *notify, f Folder, ev events, known bool) (*watchedBox, error) {
	m, err := c.session.Open(ctx, f.Box)
	if err != nil {
		return nil, err
	}
	b := &watchedBox{Folder: f, events: ev}
	b.watch = m.Watch()
	b.last, err = c.session.Status(ctx, f.Box)
	if err == nil && ev&evMetadata != 0 {
		b.entries, err = c.entrySums(ctx, n, f.Box)
	}
	if err != nil {
		b.watch.Close()
		return nil, err
	}
	made := !slices.ContainsFunc(n.before, func(o Folder) bool { return o.Box == f.Box && o.UIDValidity == f.UIDValidity })
	if !known && made && b.last.UIDNext > 1 { // whatever is in it is new to the client
		b.last = Status{UIDNext: 1, UIDValidity: b.last.UIDValidity}
		b.fired.Store(true)
	}
	return b, nil
}

// eventsOf gives what the client wants to be told of a mailbox that is not selected.
func (n *notify) eventsOf(f *Folder) (ev events) {
	for i := range n.groups {
		if n.groups[i].covers(f) {
			ev |= n.groups[i].events
		}
	}
	return ev
}

// entrySums reads the annotations of a mailbox (0: of the server).
func (c *conn) entrySums(ctx context.Context, n *notify, box uint32) (entrySums, error) {
	list, err := c.session.Metadata(ctx, box)
	if err != nil {
		return nil, err
	}
	sums := make(entrySums, len(list))
	for _, e := range list {
		sums[e.Name] = maphash.Bytes(n.seed, e.Value)
	}
	return sums, nil
}

// dropNotify ends what was asked for.
func (c *conn) dropNotify() {
	if c.notify != nil {
		c.notify.close()
		c.notify = nil
	}
}

// close ends all watches.
func (n *notify) close() {
	for _, w := range n.watches() {
		w.watch.Close()
	}
	n.boxes, n.list, n.server, n.here, n.hereOf = nil, nil, nil, nil, nil
}

// watches gives all of them.
func (n *notify) watches() []*watched {
	all := make([]*watched, 0, len(n.boxes)+3)
	for _, w := range []*watched{n.here, n.list, n.server} {
		if w != nil {
			all = append(all, w)
		}
	}
	for _, b := range n.boxes {
		all = append(all, &b.watched)
	}
	return all
}

// arm makes the watch of the selected mailbox that of the one that is selected now.
func (n *notify) arm(c *conn) {
	want := c.sel
	if n.selected == 0 {
		want = nil
	}
	if n.hereOf == want {
		return
	}
	n.version++
	if n.here != nil {
		n.here.watch.Close()
		n.here = nil
	}
	if n.hereOf = want; want != nil {
		n.here = &watched{watch: want.mailbox.Watch()}
		n.here.fired.Store(true) // something may have changed before
	}
}

// wanted gives the events of the selected mailbox that the client is told.
func (c *conn) wanted() events {
	if c.notify == nil {
		return messageEvents
	}
	return c.notify.selected
}

// added notes messages that this session's own command put into a mailbox: it need not be
// told of them (RFC 5465 §5). UIDs ascend.
func (c *conn) added(box uint32, uids []uint32) {
	if c.notify != nil && len(uids) > 0 {
		c.notify.own = append(c.notify.own, ownMessages{box, uids[0], len(uids)})
	}
}

// renamed notes mailboxes that this session's own command made, removed or renamed.
func (c *conn) renamed(names ...string) {
	if c.notify != nil {
		c.notify.names = append(c.notify.names, names...)
	}
}

// annotated notes an annotation that this session's own command set.
func (c *conn) annotated(box uint32, name string) {
	if c.notify != nil {
		c.notify.sums = append(c.notify.sums, ownEntry{box, name})
	}
}

func (n *notify) isOwn(box, uid uint32) bool {
	return slices.ContainsFunc(n.own, func(o ownMessages) bool {
		return o.box == box && uid >= o.first && uid-o.first < uint32(o.count)
	})
}
