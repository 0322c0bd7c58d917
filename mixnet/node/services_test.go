package node

import (
	"context"
	"slices"
	"testing"
	"time"

	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/packet"
)

// ask makes the unit of a query to relay1.
func (a *asker) ask(service uint8, request string) []byte {
	a.t.Helper()
	c, err := content.NewQuery(a.surb(), service, []byte(request))
	must(a.t, err)
	return a.exit(c)
}

func (a *asker) exit(c packet.Content) []byte {
	w := a.w
	return w.build(w.route(w.members["relay0"], w.members["relay1"], time.Second), packet.Dest{Command: packet.Exit}, c)
}

// status counts the answers by what they say.
func (a *asker) status() map[uint8]int {
	a.t.Helper()
	out := map[uint8]int{}
	for _, c := range a.answers() {
		s, _, err := content.ParseAnswer(c)
		must(a.t, err)
		out[s]++
	}
	return out
}

// TestServices: a query is answered by the services of the node, with what they say, under the
// delay of all answers; what is no query, and one to a node without services, is dropped.
func TestServices(t *testing.T) {
	s := &services{answer: func(_ context.Context, service uint8, request []byte) (uint8, []byte) {
		switch string(request) {
		case "known":
			return content.AnswerOK, []byte("certificate")
		case "long":
			return content.AnswerOK, make([]byte, content.MaxAnswer+1)
		}
		return content.AnswerUnknown, nil
	}}
	bubble(t, func(t *testing.T, w *world, alice *client) {
		a := &asker{t: t, w: w, seed: packet.Seed{5}}
		relay1 := w.members["relay1"]
		a.post(alice, a.ask(content.ServiceCertificate, "known"))
		wait(10 * time.Minute)
		got := a.answers()
		if len(got) != 1 {
			t.Fatalf("%d answers", len(got))
		}
		if status, b, err := content.ParseAnswer(got[0]); err != nil || status != content.AnswerOK || string(b) != "certificate" {
			t.Errorf("%d, %q, %v", status, b, err)
		}
		a.post(alice, a.ask(content.ServiceCertificate, "unknown"))
		a.post(alice, a.ask(content.ServiceCertificate, "long"))
		a.post(alice, a.exit(packet.Content{Kind: content.Query, Body: []byte{1, 1}}))
		a.post(alice, a.exit(packet.Content{Kind: content.Query, SURB: a.surb(), Body: []byte{9, 1}}))
		wait(10 * time.Minute)
		if got := a.status(); got[content.AnswerOK] != 1 || got[content.AnswerUnknown] != 1 || got[content.AnswerRefused] != 1 || len(got) != 3 {
			t.Errorf("%v", got)
		}
		if asked := s.list(); !slices.Equal(asked, []string{"1 known", "1 unknown", "1 long"}) && !slices.Equal(asked, []string{"1 known", "1 long", "1 unknown"}) {
			t.Errorf("%q", asked)
		}
		if relay1.stats.get("Dropped query") != 2 || relay1.Status().Log.Waiting != 0 {
			t.Errorf("%v", relay1.stats.m)
		}
		// relay0 has no services.
		c, err := content.NewQuery(a.surb(), 1, nil)
		must(t, err)
		relay0 := w.members["relay0"]
		a.post(alice, w.build(w.route(relay0, relay0, time.Second), packet.Dest{Command: packet.Exit}, c))
		wait(10 * time.Minute)
		if relay0.stats.get("Dropped service") != 1 || len(a.answers()) != 3 {
			t.Errorf("%v", relay0.stats.m)
		}
	}, func(w *world) { w.members["relay1"].tune = func(o *Options) { o.Services = s } })
}

// TestServiceBounds: queries beyond the rate, and beyond what may wait, are answered at once that
// it is too much now; those that were taken over are served.
func TestServiceBounds(t *testing.T) {
	s := &services{}
	bubble(t, func(t *testing.T, w *world, alice *client) {
		free := make(chan struct{})
		s.answer = func(ctx context.Context, _ uint8, _ []byte) (uint8, []byte) {
			select {
			case <-free:
			case <-ctx.Done():
			}
			return content.AnswerOK, nil
		}
		a := &asker{t: t, w: w, seed: packet.Seed{5}}
		a.post(alice, a.ask(1, "x")) // the services are busy with this one
		wait(time.Minute)
		for range 8 { // all at once: the rate lets 4 through
			a.post(alice, a.ask(1, "x"))
		}
		wait(10 * time.Minute)
		if got := a.status(); got[content.AnswerLater] != 4 || len(got) != 1 {
			t.Errorf("beyond the rate: %v", got)
		}
		for range 3 { // four wait: there is room for one
			a.post(alice, a.ask(1, "x"))
			wait(time.Minute)
		}
		wait(10 * time.Minute)
		if got := a.status(); got[content.AnswerLater] != 6 || len(got) != 1 || w.members["relay1"].Status().Queries != 5 {
			t.Errorf("beyond the queue: %v, %d wait", got, w.members["relay1"].Status().Queries)
		}
		close(free)
		wait(10 * time.Minute)
		if got := a.status(); got[content.AnswerLater] != 6 || got[content.AnswerOK] != 6 || w.members["relay1"].Status().Queries != 0 {
			t.Errorf("in the end: %v", got)
		}
	}, func(w *world) {
		w.members["relay1"].tune = func(o *Options) { o.Services, o.ServiceRate, o.ServiceQueue = s, 4, 5 }
	})
}

// TestQueryCrash: a query that was not answered when the node crashed is answered after.
func TestQueryCrash(t *testing.T) {
	s := &services{}
	bubble(t, func(t *testing.T, w *world, alice *client) {
		a := &asker{t: t, w: w, seed: packet.Seed{5}}
		hang := make(chan struct{})
		s.answer = func(ctx context.Context, _ uint8, _ []byte) (uint8, []byte) {
			select {
			case <-hang:
			case <-ctx.Done():
			}
			return content.AnswerOK, []byte("late")
		}
		relay1 := w.members["relay1"]
		a.post(alice, a.ask(1, "x"))
		wait(time.Minute)
		relay1.crash(vfs.Dropped, 1)
		close(hang)
		relay1.start()
		wait(10 * time.Minute)
		if got := a.answers(); len(got) != 1 || len(s.list()) != 2 {
			t.Errorf("%d answers, asked %d times", len(got), len(s.list()))
		}
	}, func(w *world) { w.members["relay1"].tune = func(o *Options) { o.Services = s } })
}
