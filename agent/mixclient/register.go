package mixclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/client"
	"postern.email/mixnet/content"
	"postern.email/mixnet/dircache"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
)

// registerTime bounds a registration.
const registerTime = time.Minute

// identity opens the keys in a directory, or makes both.
func (o *Options) identity() (*client.Identity, error) {
	if err := vfs.MkdirAll(o.FS, o.Dir, 0o700); err != nil {
		return nil, err
	}
	id, err := client.OpenIdentity(o.FS, o.Dir, o.Careless)
	if errs.KindOf(err) == errs.NotFound {
		id, err = client.NewIdentity(o.FS, o.Dir, o.Random)
	}
	return id, err
}

// LinkKey is the name by which relays know the client in a directory; its keys are made if there
// are none.
func LinkKey(o Options) (link.Key, error) {
	const op = "agent/mixclient.LinkKey"
	o = o.complete()
	id, err := o.identity()
	if err != nil {
		return link.Key{}, errs.Wrap(op, err)
	}
	k, err := keyOf(id)
	return k, errs.Wrap(op, err)
}

// Account is how a user is known to a relay, and what is registered there.
type Account struct {
	URL      string // of the relay's page, "https://relay.example"
	Name     string // address
	Password string

	// LinkOnly registers the client's link key and no more: it is one of several clients of an account
	// whose mail stays in its mailbox at the relay. Otherwise the keys that mail is sealed to and
	// signed with are registered too: the relay certifies them, and mail for the account goes to the
	// client's packet box.
	LinkOnly bool
	Publish  bool   // the relay tells whoever asks for the address what its keys are
	Invite   string // where the relay takes proxies by invitation only
}

// registration is the body of a request with keys (docs/mix-relay.md §2).
type registration struct {
	LinkKey   string `json:"link_key"`   // name of the key, in hex digits
	LetterKey []byte `json:"letter_key"` // X-Wing
	VerifyKey []byte `json:"verify_key"` // Ed25519 32 | ML-DSA-65 1952
	Publish   bool   `json:"publish"`
	Invite    string `json:"invite,omitempty"`
}

// body is what is sent to the relay.
func (a *Account) body(id *client.Identity, key link.Key) (contentType string, body []byte, err error) {
	if a.LinkOnly {
		return "text/plain; charset=us-ascii", []byte(key.String() + "\n"), nil
	}
	pub := id.Sign.Public()
	body, err = json.Marshal(registration{LinkKey: key.String(), LetterKey: id.Letter.Public().Bytes(),
		VerifyKey: append(pub.Ed25519(), pub.MLDSA()...), Publish: a.Publish, Invite: a.Invite})
	return "application/json", body, err
}

// Register makes the keys of a client, if there are none, and registers it with the relay of an
// account (docs/mix-relay.md §2). errs.Auth for a wrong password, errs.Denied where the relay
// refuses, errs.NotFound where it is in no mix network, errs.Full when the account has as
// many clients as it may, errs.Busy and errs.Unavailable for now; public texts say what the
// relay said. errs.Unsupported when the relay registers a client, but certifies no keys. Registering
// again changes nothing but Publish, and renews the certificate.
func Register(ctx context.Context, o Options, a Account, hc *http.Client) (*Profile, error) {
	const op = "agent/mixclient.Register"
	o = o.complete()
	id, err := o.identity()
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	key, err := keyOf(id)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	url := strings.TrimSuffix(a.URL, "/") + "/mix"
	if !strings.HasPrefix(url, "https://") {
		return nil, errs.E(op, errs.Invalid, "the address of the relay's page begins with https://: the password would be readable on the way", nil)
	}
	contentType, body, err := a.body(id, key)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "this is no address of a page", err)
	}
	req.Header.Set("Content-Type", contentType)
	req.SetBasicAuth(a.Name, a.Password)
	res, err := hc.Do(req)
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, unreached(err), err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "the relay cannot be reached", err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, refused(op, res.StatusCode, b)
	}
	p, err := parseProfile(b)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if !a.LinkOnly {
		if err := o.takeCertificate(b, p, id); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	if err := p.save(o.FS, o.Dir); err != nil {
		return nil, errs.Wrap(op, err)
	}
	o.takeConsensus(b, p)
	return p, nil
}

// unreached says why a relay's page did not answer, as far as its user can do something about it.
func unreached(err error) string {
	var cert *tls.CertificateVerificationError
	var name *net.DNSError
	switch {
	case errors.As(err, &cert):
		return "the relay's certificate is not trusted here, or is for another name"
	case errors.As(err, &name) && name.IsNotFound:
		return "the name of the relay's page is not known to the name servers"
	}
	return "the relay cannot be reached"
}

// takeConsensus keeps the consensus that a relay's answer to a registration holds, if it is one to
// be used. Without it the client fetches one when it runs, at the pace of the slowest profile: that takes
// minutes.
func (o *Options) takeConsensus(answer []byte, p *Profile) {
	var said struct{ Consensus []byte }
	if json.Unmarshal(answer, &said) != nil || len(said.Consensus) == 0 {
		return
	}
	cache, err := o.cache(p.network, nil)
	if err == nil {
		err = cache.Put(said.Consensus)
	}
	if err != nil {
		o.Warn("the directory that the relay gave cannot be used: " + errs.Public(err))
	}
}

// takeCertificate keeps the certificate that a relay's answer to a registration holds.
func (o *Options) takeCertificate(answer []byte, p *Profile, id *client.Identity) error {
	const op = "agent/mixclient.Register"
	var said struct{ Certificate []byte }
	if err := json.Unmarshal(answer, &said); err != nil {
		return errs.E(op, errs.Invalid, "the answer of the relay is no registration", err)
	}
	if len(said.Certificate) == 0 {
		return errs.E(op, errs.Unsupported, "the relay certifies no keys of proxies", nil)
	}
	cert, err := checkCertificate(said.Certificate, p, id)
	if err != nil {
		return err
	}
	return o.saveCertificate(cert)
}

// refused puts a relay's refusal into our kinds.
func refused(op string, status int, body []byte) error {
	var said struct{ Reason string }
	_ = json.Unmarshal(body, &said) // a page without a reason has only its status
	why := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, said.Reason)
	if len(why) > 200 {
		why = why[:200]
	}
	if why == "" {
		why = fmt.Sprintf("it answered %d", status)
	}
	kinds := map[int]errs.Kind{401: errs.Auth, 403: errs.Denied, 404: errs.NotFound, 409: errs.Full, 429: errs.Busy, 503: errs.Unavailable, 400: errs.Invalid}
	kind, ok := kinds[status]
	if !ok {
		kind = errs.Unavailable
	}
	if status == http.StatusNotFound {
		return errs.E(op, kind, "this relay is in no mix network", nil)
	}
	return errs.E(op, kind, "the relay refused: "+why, nil)
}

// RegisterBare makes the keys of a client, if there are none, and takes a bare node of a network as
// its relay, whose operator adds the client's link key to the node's list. relay is a nickname or
// an ID. The consensus comes from the authorities that the network file names.
func RegisterBare(ctx context.Context, o Options, network []byte, relay string) (*Profile, error) {
	const op = "agent/mixclient.RegisterBare"
	o = o.complete()
	id, err := o.identity()
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	n, err := directory.ParseNetwork(bytes.Clone(network))
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	cache, err := o.cache(n, func() []dircache.Source { return authorities(n, &o) })
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	cons, err := await(ctx, cache)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	e := client.FindNode(cons, relay)
	switch {
	case e == nil:
		return nil, errs.E(op, errs.NotFound, "no node of the network is called "+relay, nil)
	case !e.Mode.Has(directory.Relay | directory.Mailbox):
		return nil, errs.E(op, errs.Invalid, e.Nickname+" is no relay with mailboxes", nil)
	}
	key, err := keyOf(id)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	mailbox := content.ClientMailbox(e.ID, key)
	p := &Profile{Network: string(network), Node: hex.EncodeToString(e.ID[:]), LinkKey: hex.EncodeToString(e.LinkKey[:]), Addresses: e.Addresses,
		Mailbox: hex.EncodeToString(mailbox[:]), network: n, node: e.ID, key: link.Key(e.LinkKey), mailbox: mailbox}
	return p, errs.Wrap(op, p.save(o.FS, o.Dir))
}

// await runs a cache until it has a consensus to be used.
func await(ctx context.Context, cache *dircache.Cache) (*directory.Consensus, error) {
	if c, err := cache.Current(); err == nil {
		return c, nil
	}
	within, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- cache.Run(within) }()
	defer func() { cancel(); <-ended }()
	return wait(ctx, cache)
}

// wait waits until a cache that runs has a consensus to be used. When ctx ends before, the error is
// why there is none.
func wait(ctx context.Context, cache *dircache.Cache) (*directory.Consensus, error) {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		c, err := cache.Current()
		if err == nil {
			return c, nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// authorities are sources that ask the authorities themselves, each time over a link of its own
// and under a key that is used once: they need not know who asks.
func authorities(n *directory.Network, o *Options) []dircache.Source {
	var out []dircache.Source
	for _, c := range n.Contacts() {
		out = append(out, stranger{contact: c, o: o})
	}
	return out
}

// stranger is a Source over a link to somebody who need not know this client.
type stranger struct {
	contact directory.Contact
	o       *Options
}

// Fetch is that of dircache.Source.
func (s stranger) Fetch(ctx context.Context, request []byte) ([]byte, error) {
	const op = "agent/mixclient.Fetch"
	key, err := newLinkKey(s.o.Random)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	peer := link.Peer{Key: link.Key(s.contact.LinkKey), Role: link.Authority}
	l, err := link.New(link.Options{Key: key, Who: func(k link.Key) (link.Peer, bool) { return peer, k == peer.Key },
		Handler: nobody{}, MaxDocument: directory.MaxConsensus, Dial: s.o.Dial, Logger: s.o.Logger})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	line, err := l.Line(link.LineOptions{Peer: peer, Addresses: func() []string { return s.contact.Addresses }})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	within, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); line.Run(within) }()
	defer func() { cancel(); <-ended }()
	got, err := line.Fetch(ctx, request)
	return got, errs.Wrap(op, err)
}

// nobody takes no units.
type nobody struct{}

// Take is that of link.Handler.
func (nobody) Take(_ context.Context, _ link.Peer, _ []byte, r link.Receipt) { r.Later() }

var _ dircache.Source = stranger{}

// dialTCP is how links connect.
func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}
