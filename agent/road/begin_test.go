package road

import (
	"context"
	"net"
	"testing"
	"time"
)

// TestBegin: where nothing shall be begun any more a host that has not said it is ready is left alone at once,
// by SMTP and over HTTPS, however long it might be waited for; one that has begun to take the mail takes it.
func TestBegin(t *testing.T) {
	w := newWorld(t)
	mute, good := w.newHost("mute.example"), w.newHost("good.example")
	w.at("mute.example", mute)
	w.at("good.example", good)
	w.serveSMTP(good)
	w.serveWeb(good)
	accepted := make(chan net.Conn)
	for _, port := range []uint16{w.smtp, w.https} {
		l := w.listen(mute, port)
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				accepted <- c
			}
		}()
	}
	for _, way := range []string{"smtp=off", "https=off"} {
		routes, err := ParseRoutes([]string{"mute.example " + way, "good.example " + way})
		if err != nil {
			t.Fatal(err)
		}
		r := w.roads(func(o *Options) { o.Routes, o.Connect, o.Reach = routes, time.Hour, time.Hour })
		begin, stop := context.WithCancel(t.Context())
		j := job("mute.example", "x")
		j.Begin = begin
		out := make(chan Outcome)
		go func() { out <- send(t, r, j) }()
		c := <-accepted // it waits for a greeting, or for a certificate
		stop()
		wants(t, way+", a mute host", <-out, "unreached: 421 ")
		c.Close()

		begin, stop = context.WithCancel(t.Context())
		good.taking = stop
		j = job("good.example", "x")
		j.Begin = begin
		wants(t, way+", a host that takes it", send(t, r, j), "250 2.0.0")
		if begin.Err() == nil {
			t.Error("the mail was taken before the end")
		}
		good.taking = nil
		wants(t, way+", nothing is begun", send(t, r, j), "unreached: 421 ")
	}
	if got := good.mails(); len(got) != 2 {
		t.Errorf("%q", got)
	}
}
