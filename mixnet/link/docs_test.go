package link

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"postern.email/kit/errs"
)

// library answers requests for documents of tests by name.
func library(docs map[string][]byte) func(context.Context, Peer, []byte) ([]byte, error) {
	return func(_ context.Context, _ Peer, request []byte) ([]byte, error) {
		switch string(request) {
		case "later":
			return nil, errs.E("test", errs.NoSpace, "", nil)
		case "refused":
			return nil, errs.E("test", errs.Denied, "", nil)
		}
		if d, ok := docs[string(request)]; ok {
			return d, nil
		}
		return nil, errs.E("test", errs.NotFound, "", nil)
	}
}

// TestFetch: documents of every size around a frame's, and each way of having none, while
// units cross the same connection in both directions.
func TestFetch(t *testing.T) {
	docs := map[string][]byte{}
	for name, size := range map[string]int{"empty": 0, "one": 1, "almost": bodyLen - 1, "frame": bodyLen, "more": bodyLen + 1, "large": 20*bodyLen + 5} {
		d := make([]byte, size)
		for i := range d {
			d[i] = byte(i*7 + size)
		}
		docs[name] = d
	}
	opened := make(chan *Conn, 1)
	bo := options("b", known(t, Authority, "a").who, commitAll)
	bo.Documents = library(docs)
	bo.Opened = func(c *Conn) { opened <- c }
	b := start(t, bo)
	ao := options("a", known(t, Authority, "b").who, commitAll)
	ao.Documents = library(docs)
	a := start(t, ao)
	line := a.line(t, "b", b.addr)
	back := <-opened
	var wg sync.WaitGroup
	for name, want := range docs {
		wg.Go(func() {
			got, err := line.Fetch(soon(t), []byte(name))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		})
		wg.Go(func() {
			got, err := back.Fetch(soon(t), []byte(name))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s back: %d bytes, %v", name, len(got), err)
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if err := back.Send(soon(t), unit(1)); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	for name, want := range map[string]struct {
		kind   errs.Kind
		public string
	}{
		"none":    {errs.NotFound, "the peer does not have the document"},
		"later":   {errs.Unavailable, "the peer cannot answer the request now"},
		"refused": {errs.Denied, "the peer refused the request"},
	} {
		_, err := line.Fetch(soon(t), []byte(name))
		wantKind(t, err, want.kind, want.public)
	}
	_, err := line.Fetch(soon(t), make([]byte, MaxRequest+1))
	wantKind(t, err, errs.TooLarge, "the request is too large")
	if _, err := line.Fetch(soon(t), bytes.Repeat([]byte{1}, MaxRequest)); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a request of one frame: %v", err)
	}
}

// TestNoDocuments: a node without documents says so.
func TestNoDocuments(t *testing.T) {
	b := start(t, options("b", known(t, Mix, "a").who, commitAll))
	a := start(t, options("a", known(t, Mix, "b").who, commitAll))
	_, err := a.line(t, "b", b.addr).Fetch(soon(t), nil)
	wantKind(t, err, errs.NotFound, "the peer does not have the document")
}

// TestFetchTooLarge: a document over the bound is not taken, whatever is announced.
func TestFetchTooLarge(t *testing.T) {
	bo := options("b", known(t, Mix, "a").who, commitAll)
	bo.Documents = library(map[string][]byte{"fits": make([]byte, 2*bodyLen), "not": make([]byte, 2*bodyLen+1)})
	b := start(t, bo)
	ao := options("a", known(t, Mix, "b").who, commitAll)
	ao.MaxDocument = 2 * bodyLen
	a := start(t, ao)
	line := a.line(t, "b", b.addr)
	if d, err := line.Fetch(soon(t), []byte("fits")); err != nil || len(d) != 2*bodyLen {
		t.Errorf("%d bytes, %v", len(d), err)
	}
	_, err := line.Fetch(soon(t), []byte("not"))
	wantKind(t, err, errs.TooLarge, "the document is larger than is taken")
	if err := line.Send(soon(t), unit(1)); err != nil { // over the next connection
		t.Error(err)
	}
}

// TestFetchGivenUp: one who has given up does not keep the next request from its answer.
func TestFetchGivenUp(t *testing.T) {
	asked, free := make(chan struct{}), make(chan struct{})
	bo := options("b", known(t, Mix, "a").who, commitAll)
	bo.Documents = func(_ context.Context, _ Peer, request []byte) ([]byte, error) {
		if string(request) == "slow" {
			close(asked)
			<-free
			return make([]byte, 3*bodyLen), nil
		}
		return []byte("quick"), nil
	}
	b := start(t, bo)
	a := start(t, options("a", known(t, Mix, "b").who, commitAll))
	line := a.line(t, "b", b.addr)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 2)
	go func() { _, err := line.Fetch(ctx, []byte("slow")); result <- err }()
	<-asked
	waiting, stop := context.WithCancel(context.Background())
	go func() { _, err := line.Fetch(waiting, []byte("in the queue")); result <- err }()
	stop()
	wantKind(t, <-result, errs.Canceled, "")
	cancel()
	wantKind(t, <-result, errs.Canceled, "")
	close(free)
	if got, err := line.Fetch(soon(t), []byte("quick")); err != nil || string(got) != "quick" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestPieces: pieces that do not fit together end the connection.
func TestPieces(t *testing.T) {
	for _, v := range []struct {
		name   string
		pieces []head
		public string
	}{
		{"another request", []head{{typ: typePiece, request: 2, length: 1, total: 1}}, "a piece that nobody asked for"},
		{"a short piece", []head{{typ: typePiece, request: 1, length: 5, total: 6}}, "a piece out of turn"},
		{"another total", []head{{typ: typePiece, request: 1, length: bodyLen, total: bodyLen + 5}, {typ: typePiece, request: 1, length: 6, total: bodyLen + 6}}, "a piece out of turn"},
		{"a code in between", []head{{typ: typePiece, request: 1, length: bodyLen, total: bodyLen + 5}, {typ: typePiece, request: 1, code: pieceNone}}, "a piece out of turn"},
		{"one too many", []head{{typ: typePiece, request: 1}, {typ: typePiece, request: 1}}, "a piece that nobody asked for"},
	} {
		t.Run(v.name, func(t *testing.T) {
			opened, closed := make(chan *Conn, 1), make(chan error, 1)
			o := options("b", known(t, Mix, "a").who, commitAll)
			o.Opened = func(c *Conn) { opened <- c }
			o.Closed = func(_ *Conn, err error) { closed <- err }
			b := start(t, o)
			p := dialRaw(t, "a", "b", b.addr)
			c := <-opened
			fetched := make(chan struct{})
			go func() { defer close(fetched); c.Fetch(soon(t), nil) }()
			if h := p.expect(typeFetch); h.request != 1 {
				t.Errorf("request %d", h.request)
			}
			for _, h := range v.pieces {
				p.send(h, nil)
			}
			wantKind(t, <-closed, errs.Invalid, "the peer does not keep to the link protocol: "+v.public)
			<-fetched
		})
	}
}
