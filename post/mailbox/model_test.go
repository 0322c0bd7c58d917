package mailbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"postern.email/kit/errs"
	"postern.email/kit/racetest"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/storetest"
)

// modelMail and modelBox are a mailbox as the RFCs describe it, in plain maps.
type modelMail struct {
	body   int // number of the content
	flags  Flags
	words  []string // sorted, lower case
	modseq uint64
	saved  time.Time
}

type modelBox struct {
	box         uint32
	uidValidity uint32
	uidNext     uint32
	highest     uint64
	mails       map[uint32]*modelMail
}

func (m *modelBox) uids() []uint32 { return slices.Sorted(maps.Keys(m.mails)) }

// modelClient is a client that remembers a mailbox and catches up by modseq.
type modelClient struct {
	uidValidity uint32
	modseq      uint64
	flags       map[uint32]Flags
}

type machine struct {
	w    *world
	key  *seal.Opened
	a    *Account
	n    int // contents made so far
	size map[int]int

	folders map[string]*modelBox // real ones
	names   map[string]bool      // NoSelect
	subs    map[string]bool
	validMx uint32
	clients map[string]*modelClient
}

func newMachine(t *rapid.T, w *world) *machine {
	key := w.user()
	m := &machine{w: w, key: key, a: w.boxes.Account(key, 0), size: map[int]int{}, folders: map[string]*modelBox{},
		names: map[string]bool{}, subs: map[string]bool{}, clients: map[string]*modelClient{}}
	list, err := m.a.Folders(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list, func(x, y Folder) int { return int(x.UIDValidity) - int(y.UIDValidity) })
	for _, f := range list {
		m.made(t, f)
		m.subs[f.Name] = true // a new account's folders are subscribed
	}
	if len(m.folders) != 5 {
		t.Fatalf("a new account has %d folders", len(m.folders))
	}
	return m
}

func (m *machine) made(t *rapid.T, f Folder) {
	if f.UIDValidity <= m.validMx {
		t.Fatalf("UIDVALIDITY %d of %q is not above %d", f.UIDValidity, f.Name, m.validMx)
	}
	m.validMx = f.UIDValidity
	m.folders[f.Name] = &modelBox{box: f.Box, uidValidity: f.UIDValidity, uidNext: 1, highest: 1, mails: map[uint32]*modelMail{}}
	delete(m.names, f.Name)
}

func (m *machine) newMail(size int) Message {
	m.n++
	m.size[m.n] = size
	return Message{Raw: mailOf(m.n, size)}
}

func (m *machine) anyFolder(t *rapid.T, label string) (string, *modelBox) {
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(m.folders))).Draw(t, label)
	return name, m.folders[name]
}

// someUIDs draws UIDs: a run of those that are there, or any.
func (m *machine) someUIDs(t *rapid.T, b *modelBox) []uint32 {
	uids := b.uids()
	if len(uids) > 0 && rapid.Bool().Draw(t, "run") {
		i := rapid.IntRange(0, len(uids)-1).Draw(t, "from")
		j := rapid.IntRange(i, len(uids)-1).Draw(t, "to")
		return uids[i : j+1]
	}
	return rapid.SliceOfN(rapid.Uint32Range(0, b.uidNext+1), 0, 5).Draw(t, "uids")
}

func drawFlags(t *rapid.T) Flags { return Flags(rapid.IntRange(0, 31).Draw(t, "flags")) }

func drawWords(t *rapid.T) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"$Forwarded", "Junk", "NonJunk", "$x", "etwas"}), 0, 3, rapid.ID).Draw(t, "words")
}

func lowered(words []string) []string {
	out := make([]string, 0, len(words))
	for _, w := range words {
		out = append(out, strings.ToLower(w))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (m *machine) Deliver(t *rapid.T) {
	msg := m.newMail(rapid.SampledFrom([]int{200, 2000, MaxInline + 5}).Draw(t, "size"))
	b := m.folders["INBOX"]
	p := m.w.deliver(msg.Raw, m.key)[0]
	m.added(t, b, []uint32{p.UID}, p.UIDValidity, func(int) modelMail { return modelMail{body: m.n} })
}

// added notes new mails and checks their UIDs.
func (m *machine) added(t *rapid.T, b *modelBox, uids []uint32, uidValidity uint32, mail func(int) modelMail) {
	if uidValidity != b.uidValidity {
		t.Fatalf("UIDVALIDITY %d, want %d", uidValidity, b.uidValidity)
	}
	if len(uids) == 0 {
		return
	}
	b.highest++
	for i, u := range uids {
		if u != b.uidNext {
			t.Fatalf("UID %d, want %d", u, b.uidNext)
		}
		b.uidNext++
		x := mail(i)
		x.modseq, x.saved = b.highest, m.w.clock.Now()
		b.mails[u] = &x
	}
	m.w.clock.Add(time.Second)
}

func (m *machine) AppendMany(t *rapid.T) {
	_, b := m.anyFolder(t, "folder")
	n := rapid.SampledFrom([]int{1, 2, 100, 150}).Draw(t, "n")
	msgs := make([]Message, n)
	first := m.n + 1
	for i := range msgs {
		msgs[i] = m.newMail(200)
		if n < 10 {
			msgs[i].Flags, msgs[i].Keywords = drawFlags(t), drawWords(t)
		}
	}
	uids, uv, err := m.a.AppendMany(context.Background(), b.box, msgs)
	if err != nil {
		t.Fatal(err)
	}
	m.added(t, b, uids, uv, func(i int) modelMail {
		return modelMail{body: first + i, flags: msgs[i].Flags, words: lowered(msgs[i].Keywords)}
	})
}

func (m *machine) SetFlags(t *rapid.T) {
	_, b := m.anyFolder(t, "folder")
	r := SetFlags{UIDs: m.someUIDs(t, b), Op: FlagsOp(rapid.IntRange(0, 2).Draw(t, "op")), Flags: drawFlags(t)}
	if rapid.Bool().Draw(t, "with words") {
		r.Keywords = drawWords(t)
	}
	if rapid.Bool().Draw(t, "conditional") {
		since := rapid.Uint64Range(0, b.highest).Draw(t, "since")
		r.UnchangedSince = &since
	}
	res, err := m.a.SetFlags(context.Background(), b.box, r)
	if err != nil {
		t.Fatal(err)
	}
	var changed, modified []uint32
	highest := b.highest
	size := batchMails
	if r.Op == FlagsSet || len(r.Keywords) > 0 {
		size = keywordBatch
	}
	for part := range slices.Chunk(ascending(r.UIDs), size) {
		bumped := false
		for _, u := range part {
			x := b.mails[u]
			switch {
			case x == nil:
				continue
			case r.UnchangedSince != nil && x.modseq > *r.UnchangedSince:
				modified = append(modified, u)
				continue
			}
			flags, words := x.flags, x.words
			switch r.Op {
			case FlagsSet:
				flags, words = r.Flags, lowered(r.Keywords)
			case FlagsAdd:
				flags, words = flags|r.Flags, lowered(append(slices.Clone(words), r.Keywords...))
			case FlagsRemove:
				gone := lowered(r.Keywords)
				flags = flags &^ r.Flags
				words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return slices.Contains(gone, w) })
			}
			if flags == x.flags && slices.Equal(words, x.words) {
				continue
			}
			if !bumped {
				bumped = true
				highest++
			}
			x.flags, x.words, x.modseq = flags, words, highest
			changed = append(changed, u)
		}
	}
	b.highest = highest
	var got []uint32
	for _, e := range res.Changed {
		got = append(got, e.UID)
		if x := b.mails[e.UID]; x == nil || x.modseq != e.ModSeq || x.flags != e.Flags&SystemFlags {
			t.Fatalf("changed entry %+v, model %+v", e, x)
		}
	}
	if !slices.Equal(got, changed) || !slices.Equal(res.Modified, modified) {
		t.Fatalf("changed %v, want %v; modified %v, want %v", got, changed, res.Modified, modified)
	}
}

func (m *machine) Expunge(t *rapid.T) {
	_, b := m.anyFolder(t, "folder")
	uids := m.someUIDs(t, b)
	if rapid.Bool().Draw(t, "all") {
		uids = nil
	}
	var want []uint32
	for _, u := range b.uids() {
		if b.mails[u].flags&Deleted != 0 && (uids == nil || slices.Contains(uids, u)) {
			want = append(want, u)
		}
	}
	gone, modseq, err := m.a.Expunge(context.Background(), b.box, uids)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(gone, want) {
		t.Fatalf("expunged %v, want %v", gone, want)
	}
	m.remove(b, want)
	if modseq != b.highest {
		t.Fatalf("modseq %d, want %d", modseq, b.highest)
	}
}

func (m *machine) remove(b *modelBox, uids []uint32) {
	if len(uids) > 0 {
		b.highest++
	}
	for _, u := range uids {
		delete(b.mails, u)
	}
}

func (m *machine) Copy(t *rapid.T) { m.transfer(t, false) }
func (m *machine) Move(t *rapid.T) { m.transfer(t, true) }

func (m *machine) transfer(t *rapid.T, move bool) {
	_, from := m.anyFolder(t, "from")
	_, to := m.anyFolder(t, "to")
	uids := m.someUIDs(t, from)
	var src []uint32
	var mails []modelMail
	for _, u := range ascending(uids) {
		if x := from.mails[u]; x != nil {
			src = append(src, u)
			mails = append(mails, *x)
		}
	}
	var res CopyResult
	var err error
	if move {
		res, err = m.a.Move(context.Background(), from.box, uids, to.box)
	} else {
		res, err = m.a.Copy(context.Background(), from.box, uids, to.box)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(res.Src, src) {
		t.Fatalf("took %v, want %v", res.Src, src)
	}
	if move {
		m.remove(from, src)
		if from == to && len(src) > 0 {
			from.highest-- // one transaction, one modseq
		}
	}
	m.added(t, to, res.Dst, res.UIDValidity, func(i int) modelMail { return mails[i] })
}

var folderNames = []string{"a", "a/b", "a/b/c", "x/y", "Sent", "INBOX/sub", "Ärger"}

func (m *machine) CreateFolder(t *rapid.T) {
	name := rapid.SampledFrom(folderNames).Draw(t, "name")
	f, err := m.a.CreateFolder(context.Background(), name, "")
	if m.folders[name] != nil {
		if errs.KindOf(err) != errs.Exists {
			t.Fatalf("CREATE of an existing folder: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m.above(t, name)
	m.made(t, f)
}

// above enters the levels above name that were made with it.
func (m *machine) above(t *rapid.T, name string) {
	for i, c := range name {
		if up := name[:i]; c == '/' && m.folders[up] == nil && !m.names[up] {
			f, err := m.a.Folder(context.Background(), up)
			if err != nil {
				t.Fatal(err)
			}
			m.made(t, f)
		}
	}
}

func (m *machine) below(name string) (out []string) {
	for f := range m.folders {
		if strings.HasPrefix(f, name+"/") {
			out = append(out, f)
		}
	}
	for f := range m.names {
		if strings.HasPrefix(f, name+"/") {
			out = append(out, f)
		}
	}
	slices.Sort(out)
	return out
}

func (m *machine) DeleteFolder(t *rapid.T) {
	name := rapid.SampledFrom(folderNames).Draw(t, "name")
	err := m.a.DeleteFolder(context.Background(), name)
	below := m.below(name)
	switch {
	case m.folders[name] == nil && !m.names[name]:
		if errs.KindOf(err) != errs.NotFound {
			t.Fatalf("DELETE of nothing: %v", err)
		}
	case m.names[name] && len(below) > 0:
		if errs.KindOf(err) != errs.Denied {
			t.Fatalf("DELETE of a name with children: %v", err)
		}
	case err != nil:
		t.Fatal(err)
	default:
		delete(m.folders, name)
		delete(m.names, name)
		delete(m.clients, name)
		if len(below) > 0 {
			m.names[name] = true
		}
	}
}

func (m *machine) RenameFolder(t *rapid.T) {
	from := rapid.SampledFrom(append(folderNames, "INBOX")).Draw(t, "from")
	to := rapid.SampledFrom(folderNames).Draw(t, "to")
	err := m.a.RenameFolder(context.Background(), from, to)
	want := errs.Kind(0)
	switch {
	case to == from:
		want = errs.Exists
	case from != "INBOX" && strings.HasPrefix(to, from+"/"):
		want = errs.Invalid
	case m.folders[from] == nil && !m.names[from]:
		want = errs.NotFound
	case m.folders[to] != nil || m.names[to]:
		want = errs.Exists
	}
	if want != 0 {
		if errs.KindOf(err) != want {
			t.Fatalf("RENAME %s %s: %v, want %v", from, to, err, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if from == "INBOX" {
		f, err := m.a.Folder(context.Background(), to)
		if err != nil {
			t.Fatal(err)
		}
		m.above(t, to)
		old := m.folders["INBOX"]
		m.made(t, f)
		b := m.folders[to]
		b.mails, b.uidNext, b.highest = old.mails, old.uidNext, old.highest
		old.mails = map[uint32]*modelMail{}
		old.highest++
		return
	}
	below := m.below(from)
	moved := map[string]*modelBox{}
	for _, f := range append(below, from) {
		name := to + strings.TrimPrefix(f, from)
		if m.names[f] {
			delete(m.names, f)
			m.names[name] = true
		} else {
			moved[name] = m.folders[f]
			delete(m.folders, f)
			delete(m.clients, f)
		}
		if m.subs[f] {
			delete(m.subs, f)
			m.subs[name] = true
		}
	}
	maps.Copy(m.folders, moved)
	m.above(t, to)
}

func (m *machine) Subscribe(t *rapid.T) {
	name := rapid.SampledFrom(append(folderNames, "nowhere")).Draw(t, "name")
	on := rapid.Bool().Draw(t, "on")
	if err := m.a.Subscribe(context.Background(), name, on); err != nil {
		t.Fatal(err)
	}
	delete(m.subs, name)
	if on {
		m.subs[name] = true
	}
}

func (m *machine) Reopen(t *rapid.T) {
	m.w.reopen()
	m.a = m.w.boxes.Account(m.key, 0)
}

// CatchUp lets a client learn what changed since it looked last, by modseq alone.
func (m *machine) CatchUp(t *rapid.T) {
	name, b := m.anyFolder(t, "folder")
	v, err := m.a.View(context.Background(), b.box)
	if err != nil {
		t.Fatal(err)
	}
	c := m.clients[name]
	if c == nil || c.uidValidity != v.UIDValidity {
		c = &modelClient{uidValidity: v.UIDValidity, flags: map[uint32]Flags{}}
		m.clients[name] = c
	} else {
		gone, complete, err := m.a.Expunged(context.Background(), b.box, c.modseq)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range gone {
			delete(c.flags, u)
		}
		if !complete {
			for u := range c.flags {
				if _, ok := v.Find(u); !ok {
					delete(c.flags, u)
				}
			}
		}
	}
	for _, e := range v.Changed(c.modseq) {
		c.flags[e.UID] = e.Flags & SystemFlags
	}
	c.modseq = v.HighestModSeq
	want := map[uint32]Flags{}
	for u, x := range b.mails {
		want[u] = x.flags
	}
	if !maps.Equal(c.flags, want) {
		t.Fatalf("the client sees %v, want %v", c.flags, want)
	}
}

// Check compares everything that can be seen with the model; rapid calls it after each action.
func (m *machine) Check(t *rapid.T) {
	ctx := context.Background()
	list, err := m.a.Folders(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, f := range list {
		got = append(got, fmt.Sprintf("%s real=%v gone=%v sub=%v", f.Name, !f.NoSelect, f.NonExistent, f.Subscribed))
	}
	for f := range m.folders {
		want = append(want, fmt.Sprintf("%s real=true gone=false sub=%v", f, m.subs[f]))
	}
	for f := range m.names {
		want = append(want, fmt.Sprintf("%s real=false gone=false sub=%v", f, m.subs[f]))
	}
	for f := range m.subs {
		if m.folders[f] == nil && !m.names[f] {
			want = append(want, f+" real=false gone=true sub=true")
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("folders\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for name, b := range m.folders {
		m.checkBox(t, name, b)
	}
}

func (m *machine) checkBox(t *rapid.T, name string, b *modelBox) {
	ctx := context.Background()
	v, err := m.a.View(ctx, b.box)
	if err != nil {
		t.Fatal(err)
	}
	if v.UIDValidity != b.uidValidity || v.UIDNext != b.uidNext || v.HighestModSeq != b.highest || v.Len() != len(b.mails) {
		t.Fatalf("%s: view %d/%d/%d/%d, model %d/%d/%d/%d", name, v.UIDValidity, v.UIDNext, v.HighestModSeq, v.Len(),
			b.uidValidity, b.uidNext, b.highest, len(b.mails))
	}
	unseen, deleted, first := 0, 0, -1
	uids := b.uids()
	for i, e := range v.Range(0, v.Len()) {
		x := b.mails[e.UID]
		if e.UID != uids[i] || x.flags != e.Flags&SystemFlags || x.modseq != e.ModSeq || (e.Flags&HasKeywords != 0) != (len(x.words) > 0) {
			t.Fatalf("%s: entry %+v, model UID %d %+v", name, e, uids[i], x)
		}
		if x.flags&Seen == 0 {
			unseen++
			if first < 0 {
				first = i
			}
		}
		if x.flags&Deleted != 0 {
			deleted++
		}
	}
	st, err := m.a.Status(ctx, b.box)
	if err != nil {
		t.Fatal(err)
	}
	if v.Unseen != unseen || v.Deleted != deleted || v.FirstUnseen() != first || st.Messages != len(uids) || st.Unseen != unseen || st.Deleted != deleted {
		t.Fatalf("%s: unseen %d, deleted %d, first unseen %d: want %d, %d, %d", name, v.Unseen, v.Deleted, v.FirstUnseen(), unseen, deleted, first)
	}
	// One mail in each state is read in full.
	if len(uids) > 0 {
		i := rapid.IntRange(0, len(uids)-1).Draw(t, "read")
		e, x := v.At(i), b.mails[uids[i]]
		if at, ok := v.Find(uids[i]); !ok || at != i || v.Cursor().At(i) != e {
			t.Fatalf("Find(%d) gave %d, %v", uids[i], at, ok)
		}
		if string(readBodyR(t, m.a, b.box, e)) != string(mailOf(x.body, m.size[x.body])) {
			t.Fatalf("%s: UID %d is not the mail it was", name, e.UID)
		}
		if at, err := m.a.SaveDate(ctx, b.box, e); err != nil || !at.Equal(x.saved) {
			t.Fatalf("%s: UID %d was saved at %v, want %v: %v", name, e.UID, at, x.saved, err)
		}
		words, err := m.a.Keywords(ctx, b.box, &e)
		if err != nil || !slices.Equal(lowered(words), x.words) && len(words)+len(x.words) > 0 {
			t.Fatalf("keywords %v, want %v: %v", words, x.words, err)
		}
	}
}

func readBodyR(t *rapid.T, a *Account, box uint32, e Entry) []byte {
	body, err := a.Body(context.Background(), box, e)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	raw := make([]byte, body.Size())
	if n, err := body.ReadAt(raw, 0); n != len(raw) {
		t.Fatal(err)
	}
	return raw
}

func TestModel(t *testing.T) {
	for name, wrap := range map[string]func(store.Store) store.Store{
		"plain": nil,
		"twice": storetest.Twice, // every transaction function is run again
	} {
		t.Run(name, func(t *testing.T) {
			if racetest.Enabled {
				racetest.Runs(t, 15)
			}
			rapid.Check(t, func(rt *rapid.T) {
				w := newWorld(t, withStore(wrap))
				defer w.close()
				m := newMachine(rt, w)
				rt.Repeat(rapid.StateMachineActions(m))
				if err := w.boxes.Check(context.Background(), func(f Finding) { rt.Errorf("check: %+v", f) }); err != nil {
					rt.Fatal(err)
				}
			})
		})
	}
}
