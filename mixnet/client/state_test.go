package client

import (
	"slices"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// acknowledged is a message of n fragments that asks for acknowledgements.
func acknowledged(n int) *message {
	h := &outHead{Outgoing: Outgoing{Ack: true}, Count: n, Size: letter.RoomACK}
	return &message{head: h, state: &state{Pieces: make([]piece, n), Groups: make([]group, h.groups())}}
}

// TestGroups: fragments are put into as few windows as there can be, of nearly equal size, and
// none alone where there is another.
func TestGroups(t *testing.T) {
	for n := 1; n < 200; n++ {
		m := acknowledged(n)
		at := 0
		for g := range m.state.Groups {
			first, size := m.head.span(g)
			if first != at || size > content.MaxWindow || n > 1 && size < 2 || size < n/len(m.state.Groups) {
				t.Fatalf("%d fragments: group %d is %d from %d", n, g, size, first)
			}
			for i := first; i < first+size; i++ {
				if got := m.head.groupOf(i); got != g {
					t.Fatalf("%d fragments: %d is in group %d, not %d", n, i, got, g)
				}
			}
			at = first + size
		}
		if at != n || len(m.state.Groups) != (n+7)/8 {
			t.Fatalf("%d fragments: %d groups to %d", n, len(m.state.Groups), at)
		}
	}
	if h := (&outHead{Outgoing: Outgoing{Ack: true}, Count: 5, Size: letter.RoomACK + 1}); h.groups() != 5 {
		t.Error("fragments without room for their place are in a window")
	}
}

// send takes what is to be sent now, as the line would, and tells what carried a block.
func (m *message) send(t *testing.T, now time.Time) (sent []int, blocks []int) {
	t.Helper()
	for {
		i, block := m.next(now)
		if i < 0 {
			return sent, blocks
		}
		m.state.Pieces[i].Tries++
		m.state.Pieces[i].busy = true
		if block {
			g := &m.state.Groups[m.head.groupOf(i)]
			g.Marks = append(g.Marks, packet.Mark{byte(len(g.Marks) + 1)})
			blocks = append(blocks, i)
		}
		sent = append(sent, i)
		m.posted(&event{piece: i, block: block, stay: time.Minute}, DefaultAckSlack, now, rng(1))
		if len(sent) > 100 {
			t.Fatal("sent without end")
		}
	}
}

func same(t *testing.T, what string, got, want []int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// TestWindow: the last of a window carries the block; what the acknowledgement says is missing is
// sent again, and nothing else; without an acknowledgement one fragment asks again, later each
// time; an older acknowledgement than the last takes nothing back.
func TestWindow(t *testing.T) {
	now := begin
	m := acknowledged(6)
	sent, blocks := m.send(t, now)
	same(t, "first", sent, []int{0, 1, 2, 3, 4, 5})
	same(t, "blocks", blocks, []int{5})
	due := m.state.Groups[0].Due
	if d := due.Sub(now); d < 5*time.Minute || d > 8*time.Minute {
		t.Fatalf("asks again after %v", d)
	}
	if sent, _ := m.send(t, due.Add(-1)); sent != nil {
		t.Fatalf("%v before its time", sent)
	}
	sent, blocks = m.send(t, due)
	same(t, "without an acknowledgement", sent, []int{5})
	same(t, "its block", blocks, []int{5})
	if d := m.state.Groups[0].Due.Sub(due); d < 10*time.Minute || d > 16*time.Minute {
		t.Errorf("asks the second time after %v", d)
	}
	now = due.Add(time.Second)
	m.acked(&event{durable: 0b100011}, now) // to the first block
	if sent, _ := m.send(t, now); sent != nil {
		t.Errorf("%v is sent for an old acknowledgement", sent)
	}
	m.acked(&event{durable: 0b101011, latest: true}, now)
	sent, blocks = m.send(t, now)
	same(t, "missing", sent, []int{2, 4})
	same(t, "the block", blocks, []int{4})
	if d := m.state.Groups[0].Due.Sub(now); d > 8*time.Minute {
		t.Errorf("after news it waits for %v", d)
	}
	m.acked(&event{durable: 0b101011, latest: true}, now) // nothing new: not before its time
	if sent, _ := m.send(t, now); sent != nil {
		t.Errorf("%v is sent though nothing gets through", sent)
	}
	sent, _ = m.send(t, m.state.Groups[0].Due)
	same(t, "later", sent, []int{2, 4})
	m.acked(&event{durable: 0b111111}, now)
	if !m.landed(0) || !m.done() {
		t.Error("it has not landed")
	}
	if i, _ := m.next(now.Add(24 * time.Hour)); i >= 0 {
		t.Errorf("%d is sent again", i)
	}
}

// TestWindowLine: what the line did not take is sent again, and a block goes with the last of a
// window whatever happens to the others.
func TestWindowLine(t *testing.T) {
	m := acknowledged(3)
	take := func(want int, block bool) {
		t.Helper()
		i, b := m.next(begin)
		if i != want || b != block {
			t.Fatalf("%d, block %v; want %d, %v", i, b, want, block)
		}
		m.state.Pieces[i].busy = true
	}
	take(0, false)
	take(1, false)
	take(2, true) // the two before it are still on the line
	if i, _ := m.next(begin); i != -1 {
		t.Fatalf("%d is on the line twice", i)
	}
	m.posted(&event{piece: 0}, DefaultAckSlack, begin, rng(1))
	m.posted(&event{piece: 1, err: errs.E("test", errs.Busy, "", nil)}, DefaultAckSlack, begin, rng(1))
	take(1, true)
	m.posted(&event{piece: 2, block: true, err: errs.E("test", errs.Busy, "", nil)}, DefaultAckSlack, begin, rng(1))
	m.posted(&event{piece: 1, block: true, stay: time.Second}, DefaultAckSlack, begin, rng(1))
	if i, _ := m.next(begin); i != -1 {
		t.Fatalf("%d is sent though an acknowledgement may come", i)
	}
	i, block := m.next(m.state.Groups[0].Due)
	if i != 2 || !block {
		t.Fatalf("%d, %v", i, block)
	}
}

// TestWindowEnds: after as many tries as there may be nothing is sent any more.
func TestWindowEnds(t *testing.T) {
	m, now := acknowledged(2), begin
	for range maxTries {
		if sent, _ := m.send(t, now); len(sent) == 0 {
			t.Fatal("given up too early")
		}
		if d := m.state.Groups[0].Due.Sub(now); d > ackLongest*6/5 {
			t.Fatalf("waits for %v", d)
		}
		now = m.state.Groups[0].Due
	}
	if sent, _ := m.send(t, now.Add(24*time.Hour)); sent != nil {
		t.Errorf("%v after %d tries", sent, maxTries)
	}
}
