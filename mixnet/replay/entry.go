package replay

import (
	"iter"
	"slices"
	"time"
)

type (
	// Key names one of the node's mix keys, as the packet's prefix does.
	Key uint32
	// Tag is the replay tag of a packet.
	Tag [16]byte
	// NodeID names the next hop, or a mailbox.
	NodeID [32]byte
)

// Record is what Add takes.
type Record struct {
	Key  Key
	Tag  Tag
	Body []byte    // the packet for the next hop, up to MaxBody; nil: nothing waits, the tag alone is kept
	Due  time.Time // when it may leave; kept in milliseconds; zero: at once
	Next NodeID    // whom it is for
	Use  uint8     // what the node makes of it; the log only keeps it
}

// Result is what became of a Record.
type Result struct {
	Replay bool   // its tag was known: acknowledge and forget it
	Entry  *Entry // what waits now; nil for a replay, a tag alone, and with Err
	Err    error  // it was not taken: do not acknowledge
}

// Entry is a packet that waits in the log. Its fields do not change.
type Entry struct {
	ID   uint64 // unique in this log
	Due  int64  // milliseconds since 1970; 0: at once
	Next NodeID
	Key  Key
	Use  uint8
	Size int // bytes of the body

	// Under Log.mu:
	done  bool
	block uint32
	seg   *segment
}

// DueTime gives Due as a time; zero: at once.
func (e *Entry) DueTime() time.Time {
	if e.Due == 0 {
		return time.Time{}
	}
	return time.UnixMilli(e.Due)
}

func (e *Entry) head() head {
	return head{kind: kindMoved, id: e.ID, due: e.Due, next: e.Next, key: e.Key, use: e.Use, body: uint32(e.Size)}
}

func (e *Entry) blocks() int64 {
	h := e.head()
	return int64(h.blocks())
}

// State says where a packet is in its life, in the words that mixminiond's queue files
// begin with.
type State string

const (
	Incoming State = "inp" // being written; not acknowledged
	Message  State = "msg" // on the disk, and not sent yet
	Removed  State = "rmv" // sent; the mark that says so is not on the disk yet
	Corrupt  State = "crp" // damaged, and kept aside
)

// View is an entry as an operator sees it.
type View struct {
	State State
	ID    uint64 // 0 where State is Incoming or Corrupt
	Due   time.Time
	Next  NodeID
	Bytes int64
	Count int // packets this stands for: more than one only where State is Corrupt
}

// Entries gives all that is in the log, as it was when the iteration began.
func (l *Log) Entries() iter.Seq[View] {
	return func(yield func(View) bool) {
		for _, v := range l.views() {
			if !yield(v) {
				return
			}
		}
	}
}

func (l *Log) views() []View {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []View
	for _, e := range l.writing {
		all = append(all, View{State: Incoming, Due: e.DueTime(), Next: e.Next, Bytes: int64(e.Size), Count: 1})
	}
	waiting := make([]*Entry, 0, len(l.waiting))
	for _, e := range l.waiting {
		waiting = append(waiting, e)
	}
	slices.SortFunc(waiting, byID)
	for _, e := range waiting {
		all = append(all, View{State: Message, ID: e.ID, Due: e.DueTime(), Next: e.Next, Bytes: int64(e.Size), Count: 1})
	}
	for _, m := range l.marks {
		all = append(all, View{State: Removed, ID: m.e.ID, Due: m.e.DueTime(), Next: m.e.Next, Bytes: int64(m.e.Size), Count: 1})
	}
	for _, a := range l.aside.list {
		all = append(all, View{State: Corrupt, Bytes: a.bytes, Count: a.records})
	}
	return all
}

func byID(a, b *Entry) int {
	switch {
	case a.ID < b.ID:
		return -1
	case a.ID > b.ID:
		return 1
	}
	return 0
}

// Waiting gives what is to be sent, in the order in which it came: for a node that starts.
func (l *Log) Waiting() []*Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*Entry, 0, len(l.waiting))
	for _, e := range l.waiting {
		all = append(all, e)
	}
	slices.SortFunc(all, byID)
	return all
}
