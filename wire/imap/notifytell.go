package imap

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// tellOthers tells what changed outside of the selected mailbox. What the current
// command itself did is left out.
func (c *conn) tellOthers(ctx context.Context) error {
	n := c.notify
	defer func() { n.own, n.names, n.sums = nil, nil, nil }()
	if n.list != nil && n.list.take() {
		if err := c.tellFolders(ctx); err != nil {
			return err
		}
	}
	if n.server != nil && n.server.take() {
		if err := c.tellEntries(ctx, "", 0, &n.entries); err != nil {
			return err
		}
	}
	for _, b := range n.boxes {
		if !b.take() {
			continue
		}
		if err := c.tellBox(ctx, b); skipGone(err) != nil { // gone: the list says so
			return err
		}
	}
	return c.w.err
}

// tellBox tells what changed in a mailbox by STATUS (RFC 5465 §5.1 to §5.3). The selected
// one has responses of its own.
func (c *conn) tellBox(ctx context.Context, b *watchedBox) error {
	st, err := c.session.Status(ctx, b.Box)
	if err != nil {
		return err
	}
	old := b.last
	b.last = st
	// Setting an annotation raises HIGHESTMODSEQ (RFC 7162 §3.2).
	if b.events&evMetadata != 0 && st.HighestModSeq != old.HighestModSeq {
		if err := c.tellEntries(ctx, b.Name, b.Box, &b.entries); err != nil {
			return err
		}
	}
	if c.isSelected(b.Box) || c.notify.onlyOwn(b.Box, &old, &st) {
		return nil
	}
	if items := changedItems(b.events, &old, &st, c.enabled.condstore); len(items) > 0 {
		c.statusLine(b.Folder, st, items)
	}
	return c.w.err
}

// changedItems gives the STATUS items that tell a change.
func changedItems(ev events, old, now *Status, condstore bool) (items []string) {
	if ev&(evNew|evExpunge) != 0 && (old.UIDNext != now.UIDNext || old.Messages != now.Messages) {
		items = append(items, "MESSAGES", "UIDNEXT", "UIDVALIDITY")
	}
	if ev&evFlags != 0 && old.Unseen != now.Unseen {
		items = append(items, "UNSEEN")
	}
	if condstore && old.HighestModSeq != now.HighestModSeq && (ev&evFlags != 0 || len(items) > 0) {
		items = append(items, "HIGHESTMODSEQ")
		if items[0] != "MESSAGES" {
			items = append(items, "UIDVALIDITY")
		}
	}
	return items
}

// onlyOwn reports that the only change of a mailbox is what this session put there itself.
func (n *notify) onlyOwn(box uint32, old, now *Status) bool {
	return slices.ContainsFunc(n.own, func(o ownMessages) bool {
		return o.box == box && old.UIDNext == o.first && now.UIDNext == o.first+uint32(o.count) &&
			now.Messages == old.Messages+o.count && now.HighestModSeq == old.HighestModSeq+1
	})
}

// tellEntries names the annotations that were set, changed or removed (RFC 5464 §4.4.2).
func (c *conn) tellEntries(ctx context.Context, name string, box uint32, told *entrySums) error {
	sums, err := c.entrySums(ctx, c.notify, box)
	if err != nil {
		return err
	}
	var changed []string
	for e, sum := range sums {
		if was, ok := (*told)[e]; !ok || was != sum {
			changed = append(changed, e)
		}
	}
	for e := range *told {
		if _, ok := sums[e]; !ok {
			changed = append(changed, e)
		}
	}
	*told = sums
	changed = slices.DeleteFunc(changed, func(e string) bool { return slices.Contains(c.notify.sums, ownEntry{box, e}) })
	if len(changed) == 0 {
		return nil
	}
	slices.Sort(changed)
	c.w.s("* METADATA ")
	c.name(name)
	for _, e := range changed {
		c.w.s(" ", e)
	}
	c.w.crlf()
	return c.w.err
}

// nameChange is what happened to a mailbox name.
type nameChange struct {
	events  events // evName, evSubscription
	oldName string // of a renamed mailbox
	was     Folder // before
}

// tellFolders tells what changed in the list of mailboxes (RFC 5465 §5.4, §5.5), and looks
// anew which mailboxes are to be watched.
func (c *conn) tellFolders(ctx context.Context) error {
	n := c.notify
	now, err := c.sortedFolders(ctx)
	if err != nil {
		return err
	}
	changes := folderChanges(n.folders, now)
	lines := make(map[string]listed)
	for _, f := range tree(now) {
		lines[f.Name] = f
	}
	names := make([]string, 0, len(changes))
	for name := range changes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		ch := changes[name]
		f, ok := lines[name]
		if !ok {
			f = listed{Folder: Folder{Name: name, NoSelect: true, NonExistent: true}}
		}
		if n.isOwnName(name) || (n.eventsOf(&f.Folder)|n.eventsOf(&ch.was))&ch.events == 0 {
			continue
		}
		c.listHead("LIST", f, true)
		if ch.oldName != "" {
			c.w.s(` ("OLDNAME" (`)
			c.name(ch.oldName).s("))")
		}
		c.w.crlf()
	}
	n.before, n.folders = n.folders, now
	err = c.watchBoxes(ctx, n, false)
	n.before = nil
	var st *statusError
	if errors.As(err, &st) && st.code == "NOTIFICATIONOVERFLOW" { // RFC 5465 §5.8
		c.w.s("* OK [NOTIFICATIONOVERFLOW] ", st.text, "\r\n")
		n.close()
		n.selected, n.groups, n.items, n.version = 0, nil, nil, n.version+1
		return c.w.err
	}
	if err != nil {
		n.list.fired.Store(true) // to be tried again
	}
	return err
}

// folderChanges compares two lists of mailboxes by their identity.
func folderChanges(old, now []Folder) map[string]nameChange {
	changes := make(map[string]nameChange)
	byBox := make(map[uint32]*Folder, len(now))
	renamed := make(map[string]string) // old name to new
	for i := range now {
		byBox[now[i].Box] = &now[i]
	}
	madeOrGone := func(f *Folder) {
		for name := f.Name; name != ""; name = parentName(name) {
			ch := changes[name]
			ch.events |= evName
			if name == f.Name {
				ch.was = *f
			} else if ch.was.Name == "" {
				ch.was = Folder{Name: name}
			}
			changes[name] = ch
			if name != f.Name {
				break // the direct parent is affected too, and no other
			}
		}
	}
	subscription := func(f *Folder) {
		ch := changes[f.Name]
		ch.events |= evSubscription
		if ch.was.Name == "" || f.Subscribed {
			ch.was = *f
		}
		changes[f.Name] = ch
	}
	seen := make(map[uint32]bool, len(old))
	for i := range old {
		o := &old[i]
		seen[o.Box] = true
		f := byBox[o.Box]
		switch {
		case f == nil:
			if !o.NonExistent {
				madeOrGone(o)
			}
			if o.Subscribed {
				subscription(o)
			}
			continue
		case f.NonExistent != o.NonExistent || f.NoSelect != o.NoSelect:
			madeOrGone(o)
		case f.Name != o.Name:
			renamed[o.Name] = f.Name
			ch := changes[f.Name]
			ch.events, ch.oldName, ch.was = ch.events|evName, o.Name, *o
			changes[f.Name] = ch
		}
		if f.Subscribed != o.Subscribed {
			was := *f
			was.Subscribed = true // it was, or it is
			subscription(&was)
		}
	}
	for i := range now {
		f := &now[i]
		if seen[f.Box] {
			continue
		}
		if !f.NonExistent {
			madeOrGone(f)
		}
		if f.Subscribed {
			subscription(f)
		}
	}
	// Mailboxes that were renamed with one above them are not told.
	for from, to := range renamed {
		up, upTo := parentName(from), parentName(to)
		if up != "" && renamed[up] == upTo && from[len(up):] == to[len(upTo):] {
			if ch := changes[to]; ch.events == evName {
				delete(changes, to)
			}
		}
	}
	return changes
}

func parentName(name string) string { return name[:max(strings.LastIndexByte(name, '/'), 0)] }

// isOwnName reports a name that the current command itself touched.
func (n *notify) isOwnName(name string) bool {
	return slices.ContainsFunc(n.names, func(own string) bool {
		return isBelow(name, own) || isBelow(own, name) && name != ""
	})
}
