package imap

// The numbers of watches that belong to no mailbox, in fakeBackend.others.
const (
	watchFolders  = -1
	watchMetadata = 0
)

type fakeOtherWatch struct {
	b    *fakeBackend
	what int
	c    chan struct{}
}

func (w *fakeOtherWatch) C() <-chan struct{} { return w.c }
func (w *fakeOtherWatch) Close() {
	w.b.mu.Lock()
	delete(w.b.others[w.what], w.c)
	w.b.mu.Unlock()
}

func (b *fakeBackend) watch(what int) Watch {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &fakeOtherWatch{b, what, make(chan struct{}, 1)}
	if b.others == nil {
		b.others = map[int]map[chan struct{}]struct{}{}
	}
	if b.others[what] == nil {
		b.others[what] = map[chan struct{}]struct{}{}
	}
	b.others[what][w.c] = struct{}{}
	return w
}

func (s *fakeSession) WatchFolders() Watch  { return s.b.watch(watchFolders) }
func (s *fakeSession) WatchMetadata() Watch { return s.b.watch(watchMetadata) }

// fireOther wakes the watches of a list. b.mu is held.
func (b *fakeBackend) fireOther(what int) {
	for c := range b.others[what] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// annotated notes that annotations changed. b.mu is held.
func (b *fakeBackend) annotated(box uint32) {
	if box == 0 {
		b.fireOther(watchMetadata)
		return
	}
	if x, err := b.byBox(box); err == nil {
		x.changed(x.modseq + 1)
		x.fire()
	}
}

// watching counts the watches that are open.
func (b *fakeBackend) watching() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.others {
		n += len(m)
	}
	for _, x := range b.boxes {
		n += len(x.watches)
	}
	return n
}
