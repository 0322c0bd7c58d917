package world

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/wire/smtp"
)

// How mail for other hosts is tried.
const (
	lifetime  = time.Hour
	retry     = 2 * time.Second
	sendTime  = time.Minute // one try
	maxQueued = 10_000
)

// queue is the mail for other hosts: a file for each, in a directory.
type queue struct {
	dir  string
	w    *World
	poke chan struct{}
}

// queued is the first line of a file; the mail follows.
type queued struct {
	From, To mail.Address
	Since    time.Time
}

func openQueue(dir string, w *World) (*queue, error) {
	if err := vfs.MkdirAll(vfs.OS(), dir, 0o700); err != nil {
		return nil, errs.E("lab/world.openQueue", errs.KindOf(err), "cannot make the directory "+dir, err)
	}
	return &queue{dir: dir, w: w, poke: make(chan struct{}, 1)}, nil
}

// put takes a mail; nil: it is on the disk.
func (q *queue) put(from, to mail.Address, raw []byte) error {
	const op = "lab/world.put"
	if list, err := os.ReadDir(q.dir); err == nil && len(list) >= maxQueued {
		return errs.E(op, errs.Busy, "too much mail waits", nil)
	}
	line, err := json.Marshal(queued{from, to, time.Now()})
	if err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	name := filepath.Join(q.dir, rand.Text()+".mail")
	if err := vfs.WriteFileAtomic(vfs.OS(), name, append(append(line, '\n'), raw...), 0o600); err != nil {
		return errs.E(op, errs.KindOf(err), "the mail cannot be stored", err)
	}
	select {
	case q.poke <- struct{}{}:
	default:
	}
	return nil
}

// run sends what waits, until ctx ends.
func (q *queue) run(ctx context.Context) error {
	tick := time.NewTicker(retry)
	defer tick.Stop()
	for {
		list, err := os.ReadDir(q.dir)
		if err != nil {
			return err
		}
		for _, e := range list {
			if ctx.Err() != nil {
				return nil
			}
			if strings.HasSuffix(e.Name(), ".mail") {
				q.try(ctx, filepath.Join(q.dir, e.Name()))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-q.poke:
		}
	}
}

// try sends one mail, once. What cannot be sent for good is reported to the sender.
func (q *queue) try(ctx context.Context, file string) {
	b, err := vfs.ReadFile(vfs.OS(), file)
	if err != nil {
		q.w.log.Warn("a mail that waits cannot be read", "err", err)
		return
	}
	line, raw, _ := bytes.Cut(b, []byte("\n"))
	var m queued
	if err := json.Unmarshal(line, &m); err != nil {
		q.w.log.Warn("a mail that waits cannot be read", "err", err)
		_ = os.Rename(file, file+".bad") // its name is no longer one that is tried
		return
	}
	err = q.send(ctx, m, raw)
	var r *smtp.Reply
	refused := errors.As(err, &r) && r.Code >= 500 || errs.KindOf(err) == errs.NotFound && err != nil
	if err != nil && !refused && time.Since(m.Since) < lifetime {
		q.w.log.Debug("a mail could not be sent yet", "err", err)
		return
	}
	if err != nil {
		q.w.log.Info("a mail could not be sent", "err", err)
		if err := q.report(m, raw, err); err != nil {
			q.w.log.Warn("its sender cannot be told", "err", err)
			return
		}
	}
	if err := os.Remove(file); err != nil {
		q.w.log.Warn("a mail that was sent cannot be removed", "err", err)
	}
}

// send gives a mail to the host that is responsible for it. errs.NotFound: there is none.
func (q *queue) send(ctx context.Context, m queued, raw []byte) error {
	const op = "lab/world.send"
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	name, ip, ok := q.w.zone.host(m.To.Domain)
	if !ok {
		return errs.E(op, errs.NotFound, "the domain has no mail host", nil)
	}
	port := q.w.c.Ports[name]
	if port == 0 {
		port = 25
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), strconv.Itoa(port)))
	if err != nil {
		return errs.E(op, errs.Unavailable, "the mail host does not answer", err)
	}
	c, err := smtp.NewClient(ctx, conn, smtp.ClientOptions{Hostname: q.w.c.Domain, Host: name, RequireTLS: true, TLS: &tls.Config{RootCAs: q.w.roots, ServerName: name}})
	if err != nil {
		return err
	}
	defer c.Close()
	sent, err := c.Send(ctx, smtp.Envelope{From: m.From, Rcpts: []smtp.Recipient{{To: m.To}}}, bytes.NewReader(raw))
	if err == nil {
		err = sent.Rcpts[0]
	}
	if err == nil {
		c.Quit()
	}
	return err
}

// report tells the sender that a mail did not arrive.
func (q *queue) report(m queued, raw []byte, why error) error {
	if m.From.IsZero() || !q.w.boxes.there(m.From.Local) {
		return nil
	}
	head := raw
	if _, off, err := mail.ParseHeader(raw); err == nil {
		head = raw[:off]
	}
	x := dsn.Recipient{Final: m.To, Action: dsn.Failed, Status: "5.0.0"}
	var r *smtp.Reply
	if errors.As(why, &r) {
		x.Diagnostic, x.Remote = r.String(), m.To.Domain
		if r.Enhanced != "" {
			x.Status = r.Enhanced
		}
	}
	b, err := dsn.Report{Domain: q.w.c.Domain, To: m.From, Recipients: []dsn.Recipient{x}, Header: head, Arrival: m.Since, Now: time.Now()}.Build()
	if err != nil {
		return err
	}
	return q.w.boxes.deliver(m.From.Local, b)
}
