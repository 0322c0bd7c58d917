package world

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"postern.email/kit/config"
	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/vfs"
	"postern.email/mail/dkim"
	"postern.email/wire/pop3"
	"postern.email/wire/smtp"
)

// Config is what a world is told, as JSON.
type Config struct {
	Dir        string `json:"dir"`        // a Maildir for each account, the queue, the key that signs
	Domain     string `json:"domain"`     // the host's, also its name
	Zone       string `json:"zone"`       // file of DNS records, one a line; looked at again when it changes
	DNS        string `json:"dns"`        // host:port, UDP and TCP
	SMTP       string `json:"smtp"`       // mail from other hosts
	Submission string `json:"submission"` // mail from users, with login and without TLS
	POP3       string `json:"pop3"`       // without TLS
	Cert       string `json:"cert"`       // PEM files
	Key        string `json:"key"`
	CA         string `json:"ca"` // whose certificates are believed

	Accounts map[string]string `json:"accounts"` // local names with their passwords
	Ports    map[string]int    `json:"ports"`    // the SMTP port of each mail host
}

// Connections of each door at one time.
const maxConns = 64

// Load reads a configuration.
func Load(file string) (Config, error) {
	const op = "lab/world.Load"
	var c Config
	b, err := config.ReadFile(file)
	if err != nil {
		return c, errs.E(op, errs.KindOf(err), "cannot read "+file, err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, errs.E(op, errs.Invalid, file+" cannot be understood", err)
	}
	return c, nil
}

// World is one that runs.
type World struct {
	c      Config
	zone   *zone
	boxes  *boxes
	queue  *queue
	signer *dkim.Signer
	roots  *x509.CertPool
	log    *slog.Logger

	cancel context.CancelFunc
	wg     sync.WaitGroup
	broken chan error
}

// Start opens all doors. errs.Unavailable where a port is taken or a file cannot be read.
func Start(c Config, log *slog.Logger) (*World, error) {
	const op = "lab/world.Start"
	w := &World{c: c, log: log, broken: make(chan error, 1)}
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot read the certificate "+c.Cert, err)
	}
	ca, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot read "+c.CA, err)
	}
	w.roots = x509.NewCertPool()
	w.roots.AppendCertsFromPEM(ca)
	if err := vfs.MkdirAll(vfs.OS(), c.Dir, 0o700); err != nil {
		return nil, errs.E(op, errs.KindOf(err), "cannot make the directory "+c.Dir, err)
	}
	key, err := signingKey(filepath.Join(c.Dir, "dkim.key"))
	if err != nil {
		return nil, err
	}
	w.signer = &dkim.Signer{Domain: c.Domain, Keys: []dkim.Key{{Selector: selector, Signer: key}}}
	record, err := dkim.ZoneLine(selector, c.Domain, key.Public())
	if err != nil {
		return nil, err
	}
	if w.zone, err = openZone(c.Zone, record); err != nil {
		return nil, err
	}
	w.boxes = &boxes{dir: filepath.Join(c.Dir, "mail"), accounts: c.Accounts, busy: map[string]bool{}}
	if w.queue, err = openQueue(filepath.Join(c.Dir, "queue"), w); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	if err := w.listen(ctx, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// selector of the host's DKIM key.
const selector = "lab"

// signingKey reads the key that signs mail, or makes it.
func signingKey(file string) (ed25519.PrivateKey, error) {
	const op = "lab/world.signingKey"
	seed, err := vfs.ReadFile(vfs.OS(), file)
	if err == nil && len(seed) == ed25519.SeedSize {
		return ed25519.NewKeyFromSeed(seed), nil
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err == nil {
		err = vfs.WriteFileAtomic(vfs.OS(), file, key.Seed(), 0o600)
	}
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot write "+file, err)
	}
	return key, nil
}

// listen opens the doors.
func (w *World) listen(ctx context.Context, certified *tls.Config) error {
	const op = "lab/world.listen"
	part := func(name string, run func(context.Context) error) {
		w.wg.Go(daemon.Part(ctx, w.log, "world", name, w.broken, run))
	}
	open := func(name, at string, serve func(context.Context, net.Listener) error) error {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return errs.E(op, errs.Unavailable, "cannot listen on "+at, err)
		}
		part(name, func(ctx context.Context) error { return serve(ctx, l) })
		return nil
	}
	udp, err := net.ListenPacket("udp", w.c.DNS)
	if err != nil {
		return errs.E(op, errs.Unavailable, "cannot listen on "+w.c.DNS, err)
	}
	part("dns", func(ctx context.Context) error { return w.zone.serve(ctx, nil, udp) })
	if err := open("dns", w.c.DNS, func(ctx context.Context, l net.Listener) error { return w.zone.serve(ctx, l, nil) }); err != nil {
		return err
	}
	memory := limits.NewBytes(smtp.DefaultMemory)
	mx := smtp.Options{Hostname: w.c.Domain, Backend: &exchange{w}, TLS: certified, Conns: limits.NewConns(maxConns, 0), Memory: memory, Logger: w.log}
	if err := open("smtp", w.c.SMTP, func(ctx context.Context, l net.Listener) error { return smtp.Serve(ctx, l, mx) }); err != nil {
		return err
	}
	msa := smtp.Options{Hostname: w.c.Domain, Backend: &submission{w}, Private: true, OfferAuth: true, RequireAuth: true, Conns: limits.NewConns(maxConns, 0), Memory: memory, Logger: w.log}
	if err := open("submission", w.c.Submission, func(ctx context.Context, l net.Listener) error { return smtp.Serve(ctx, l, msa) }); err != nil {
		return err
	}
	pop, err := pop3.New(pop3.Options{Backend: w.boxes, Private: true, Conns: limits.NewConns(maxConns, 0), Logger: w.log})
	if err != nil {
		return err
	}
	if err := open("pop3", w.c.POP3, pop.Serve); err != nil {
		return err
	}
	part("queue", w.queue.run)
	return nil
}

// Broken gives the reason when a part has ended by itself.
func (w *World) Broken() <-chan error { return w.broken }

// Close closes all doors and waits.
func (w *World) Close() error {
	w.cancel()
	w.wg.Wait()
	return nil
}
