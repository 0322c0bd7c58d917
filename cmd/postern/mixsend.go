package main

import (
	"context"
	"crypto/rand"
	"fmt"
	goio "io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern.email/agent/mixclient"
	"postern.email/kit/errs"
	mixnet "postern.email/mixnet/client"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// freeWarning is what --now gives away.
const freeWarning = "Sent without cover: who watches your connection sees that you send now, and how many packets."

// sending are the flags of commands that send a message.
type sending struct {
	u       mixUser
	path    string
	in      string
	now     bool
	wait    bool
	timeout time.Duration
	js      *bool
}

func (s *sending) flags(c *cobra.Command) {
	s.u.flags(c)
	c.Flags().StringVarP(&s.path, "path", "P", "", "the way: names, files of descriptors, ? for a node to be drawn, *N for N of them")
	c.Flags().StringVar(&s.in, "in", "-", "read the message from this `file`; -: standard input")
	c.Flags().BoolVar(&s.now, "now", false, "send at once and without cover, which shows who watches when and how much you send")
	c.Flags().BoolVar(&s.wait, "wait", false, "wait until it is delivered (or sent, where nobody acknowledges); exit code 1 if it is not")
	c.Flags().DurationVar(&s.timeout, "timeout", 10*time.Minute, "of --wait and --now")
	s.js = asJSON(c)
}

// message reads what is to be sent.
func (s *sending) message(io streams) ([]byte, error) {
	const op = "cmd.message"
	in := io.in
	if s.in != "-" {
		f, err := os.Open(s.in)
		if err != nil {
			return nil, errs.E(op, errs.NotFound, "cannot read "+s.in, err)
		}
		defer f.Close()
		in = f
	}
	b, err := goio.ReadAll(goio.LimitReader(in, letter.MaxContent+1))
	switch {
	case err != nil:
		return nil, errs.E(op, errs.Unavailable, "cannot read the message", err)
	case len(b) > letter.MaxContent:
		return nil, errs.E(op, errs.TooLarge, fmt.Sprintf("the message has more than %d MiB", letter.MaxContent>>20), nil)
	case len(b) == 0:
		return nil, errs.E(op, errs.Invalid, "there is no message: give it on standard input, or with --in FILE", nil)
	}
	return b, nil
}

// checkPath tries the path against the directory, as far as it is here, and puts the
// descriptors that it names into the message.
func (s *sending) checkPath(c *mixclient.Client, o *mixnet.Outgoing) error {
	p, err := mixnet.ParsePath(s.path)
	if err != nil {
		return err
	}
	o.Path, o.Files = s.path, map[string][]byte{}
	d := descriptors{files: o.Files}
	cons, err := c.Consensus()
	if err != nil {
		if p.Named() == 0 {
			return nil
		}
		// Then the files must tell all, and be read here and now.
		if cons, err = mixnet.FromFiles(p, c.Address().Relay, nil, d.read); err != nil {
			return hint(err, "Name every node by the file of its descriptor, your own relay first and the recipient's last, or run postern mix run for a while: then there is a directory")
		}
	}
	home, err := c.Home(cons)
	if err != nil {
		return err
	}
	w := mixnet.Want{To: packet.Last, Mode: directory.Mailbox}
	switch o.Kind {
	case content.Mbox:
		w.Mode = directory.Exit
	case content.Inject:
		w.Mode = 0
	}
	w.Hops[0] = home.Relay
	if o.Relay != (packet.ID{}) {
		if w.Hops[packet.Last] = cons.Find(o.Relay); w.Hops[packet.Last] == nil {
			return errs.E("cmd.path", errs.Unavailable, "the recipient's relay is not in the directory of the network now", nil)
		}
	}
	if w, err = p.Apply(cons, w, d.read); err != nil {
		return err
	}
	r, err := mixnet.NewChooser(rand.Reader)
	if err != nil {
		return err
	}
	_, err = mixnet.Pick(cons, time.Now(), r, w) // a trial: what is sent is drawn by the client
	return err
}

func mixSendCommand(io streams) *cobra.Command {
	var s sending
	var to string
	var noAck bool
	var life time.Duration
	c := &cobra.Command{Use: "send -t ADDRESS", Short: "Send a message through the mix network", Args: cobra.NoArgs,
		Long: `Send one message, from standard input or a file. It is sealed for the recipient here, and
then waits until a client that is running takes it (postern mix run). With --wait this
command runs the client itself, if none runs; with --now it sends at once and without cover.

ADDRESS is what postern mix address prints, or a file that holds it. NAME@NICKNAME is a
mailbox at an exit of the network: such mail leaves the network unsealed.

Delivered means: on the disk of the recipient's relay. Without --no-ack each packet is sent
again until that is acknowledged.

With -P you choose the way, for instance -P 'FILE,*2' to try a node by the file of its
descriptor (see the node's current-desc): each node takes the layer it is in, and the
others are drawn and printed. A way that you choose protects less than one that is drawn.
A way of files alone, from your relay's to the recipient's relay's, needs no directory.`,
		Example: "  postern mix send -t bob.pb < letter.eml\n  postern mix send -t bob.pb --in letter.eml --wait\n  postern mix send -t bob@exit1 -P 'keys/key_0001/ServerDesc,*2' --now < letter.txt"}
	s.flags(c)
	c.Flags().StringVarP(&to, "to", "t", "", "`address` of the recipient")
	c.Flags().BoolVar(&noAck, "no-ack", false, "ask for no acknowledgement: fewer packets, with an erasure code against loss")
	c.Flags().DurationVar(&life, "lifetime", mixnet.Lifetime, "give up after this time")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if to == "" {
			return usageError{c.CommandPath(), fmt.Errorf("-t is missing: whom is it for?")}
		}
		opened, err := s.u.open(io)
		if err != nil {
			return err
		}
		r, err := parseRecipient(to)
		if err != nil {
			return err
		}
		m, err := s.message(io)
		if err != nil {
			return err
		}
		o := mixnet.Outgoing{Expires: time.Now().Add(life)}
		if r.exit != "" {
			err = mboxMessage(opened, &o, r, m)
		} else {
			err = letterMessage(&o, r.address, m, !noAck)
		}
		if err == nil {
			err = s.checkPath(opened, &o)
		}
		if err != nil {
			return err
		}
		return s.send(c, io, opened, o)
	}
	return c
}

// letterMessage seals a message for a packet box.
func letterMessage(o *mixnet.Outgoing, to letter.Address, m []byte, ack bool) error {
	how := letter.Options{Room: letter.RoomPlain, Coded: true}
	if ack {
		how = letter.Options{Room: letter.RoomACK}
	}
	sealed, err := letter.Seal(to.Key, letter.Message{Content: m}, how)
	if err != nil {
		return err
	}
	o.Kind, o.Relay, o.Mailbox, o.Ack, o.Bodies = content.Letter, to.Relay, to.Mailbox, ack, sealed.Bodies
	o.Note = to.Key.Fingerprint()
	return nil
}

// mboxMessage cuts a message for a mailbox at an exit.
func mboxMessage(c *mixclient.Client, o *mixnet.Outgoing, to recipient, m []byte) error {
	cons, err := c.Consensus()
	if err != nil {
		return hint(err, "To send to an exit the directory of the network is needed: run postern mix run for a while first")
	}
	e := mixnet.FindNode(cons, to.exit)
	switch {
	case e == nil:
		return errs.E("cmd.send", errs.NotFound, "no node of the network is called "+to.exit, nil)
	case !e.Mode.Has(directory.Exit):
		return errs.E("cmd.send", errs.Invalid, e.Nickname+" is no exit", nil)
	}
	head, err := content.AppendMbox(nil, to.name, nil)
	if err != nil {
		return err
	}
	_, list, err := letter.Split(m, letter.Options{Room: packet.MaxBody - len(head), Coded: true}, rand.Reader)
	if err != nil {
		return err
	}
	for _, f := range list {
		o.Bodies = append(o.Bodies, append(append(make([]byte, 0, len(head)+len(f)), head...), f...))
	}
	o.Kind, o.Relay, o.Note = content.Mbox, e.ID, to.name+"@"+e.Nickname
	return nil
}

// sent is what is printed of a message.
type sentMessage struct {
	Name    string `json:"name"`
	To      string `json:"to,omitempty"`
	Packets int    `json:"packets"`
	Sent    int    `json:"sent"`
	Acked   int    `json:"acknowledged"`
	State   string `json:"state"` // waiting, sent, delivered, failed, canceled
	Why     string `json:"why,omitempty"`
	Created string `json:"created"`
	Expect  string `json:"expected_within,omitempty"` // 95 of 100 messages take no longer
}

func sentOf(p mixnet.Progress) sentMessage {
	s := sentMessage{Name: p.Name, To: p.Note, Packets: p.Packets, Sent: p.Sent, Acked: p.Acked, State: string(p.Result), Why: p.Why, Created: p.Created.UTC().Format(time.RFC3339)}
	if s.State == "" {
		s.State = "waiting"
	}
	return s
}

// send queues a message, and does what --now and --wait ask for.
func (s *sending) send(c *cobra.Command, io streams, opened *mixclient.Client, o mixnet.Outgoing) error {
	name, err := opened.Store().Queue(o)
	if err != nil {
		return hint(err, "To see what waits: postern mix sent")
	}
	progress := func() (mixnet.Progress, error) { return opened.Store().Progress(name) }
	if s.now || s.wait {
		if err := s.follow(c, io, opened, name); err != nil {
			return err
		}
	}
	p, err := progress()
	if err != nil {
		return err
	}
	out := sentOf(p)
	if p.Result == "" {
		if cons, err := opened.Consensus(); err == nil {
			f := mixnet.Expect(cons.Parameters, p.Packets, mixnet.DelayedHops)
			out.Expect = f.P95.Round(time.Second).String()
		}
	}
	if *s.js {
		err = printJSON(io.out, out)
	} else {
		err = printSent(io, out)
	}
	if err == nil && p.Result == mixnet.Failed {
		return errs.E("cmd.send", errs.Unavailable, "the message was not delivered: "+p.Why, nil)
	}
	if err == nil && s.wait && p.Result == "" {
		return hint(errs.E("cmd.send", errs.Unavailable, "it is not delivered yet", nil), "It stays in the queue and is tried again while a client runs. To look: postern mix sent")
	}
	return err
}

func printSent(io streams, m sentMessage) error {
	switch m.State {
	case "waiting":
		fmt.Fprintf(io.out, "Queued: %s, %d packets. It leaves while a client runs (postern mix run).\n", m.Name, m.Packets)
		if m.Expect != "" {
			fmt.Fprintf(io.out, "Expected within %s of that, 95 times in 100.\n", m.Expect)
		}
	case string(mixnet.Delivered):
		fmt.Fprintf(io.out, "Delivered: %s, %d packets are on the disk of the recipient's relay.\n", m.Name, m.Packets)
	case string(mixnet.Sent):
		fmt.Fprintf(io.out, "Sent: %s, %d packets. Nobody acknowledges more.\n", m.Name, m.Packets)
	}
	return nil
}

// follow runs the client until the message has ended, or looks on while another process does.
func (s *sending) follow(c *cobra.Command, io streams, opened *mixclient.Client, name string) error {
	ctx, stop := interrupted(c)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	// With --now alone it is enough that the relay has everything.
	over := func() bool {
		p, err := opened.Store().Progress(name)
		return err != nil || p.Result != "" || !s.wait && p.Sent == p.Packets
	}
	mode := mixclient.Mode{Free: s.now}
	if s.path != "" {
		mode.Chosen = func(of string, i int, w mixnet.Way) {
			if of == name {
				fmt.Fprintf(io.err, "Packet %d: %s\n", i+1, wayText(w))
			}
		}
	}
	err := opened.Run(ctx, mode, func(ctx context.Context, live *mixnet.Client) error {
		if s.now {
			fmt.Fprintln(io.err, freeWarning)
		}
		return live.Wait(ctx, func(mixnet.Status) bool { return over() })
	})
	switch {
	case isBusy(err) && s.now:
		return hint(errs.E("cmd.send", errs.Exists, "a client runs in this directory: the message was left to it, and is sent under its cover", err), "To look: postern mix sent")
	case isBusy(err):
		t := time.NewTicker(200 * time.Millisecond)
		defer t.Stop()
		for !over() {
			select {
			case <-t.C:
			case <-ctx.Done():
				return nil // what became of it is printed
			}
		}
		return nil
	case errs.KindOf(err) == errs.Canceled && err != nil:
		return nil
	}
	return err
}

func mixSentCommand(io streams) *cobra.Command {
	var u mixUser
	var cancel bool
	c := &cobra.Command{Use: "sent [NAME]", Short: "List the messages that wait, and what became of those of the last week", Args: cobra.MaximumNArgs(1),
		Long: `List the messages that wait to be sent, and what became of those of the last week; or one of
them. With --cancel it is given up: nothing more of it is sent. What left before arrives all
the same, so that the recipient may have the message.`,
		Example: "  postern mix sent\n  postern mix sent 19ca9608140-ce6d93e298 --json\n  postern mix sent 19ca9608140-ce6d93e298 --cancel"}
	u.flags(c)
	c.Flags().BoolVar(&cancel, "cancel", false, "give the message up")
	js := c.Flags().Bool("json", false, "print one JSON object a line, one for each message")
	c.RunE = func(c *cobra.Command, args []string) error {
		if cancel && len(args) == 0 {
			return usageError{c.CommandPath(), fmt.Errorf("--cancel needs the name of a message")}
		}
		opened, err := u.open(io)
		if err != nil {
			return err
		}
		var list []mixnet.Progress
		if len(args) == 1 {
			if cancel {
				if err := opened.Store().Cancel(args[0]); err != nil {
					return hint(err, "To see all: postern mix sent")
				}
			}
			p, err := opened.Store().Progress(args[0])
			if err != nil {
				return hint(err, "To see all: postern mix sent")
			}
			list = append(list, p)
		} else if list, err = opened.Store().List(); err != nil {
			return err
		}
		if *js {
			for _, p := range list {
				if err := printJSON(io.out, sentOf(p)); err != nil {
					return err
				}
			}
			return nil
		}
		if len(list) == 0 {
			fmt.Fprintln(io.out, "Nothing waits.")
			return nil
		}
		w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
		for _, p := range list {
			m := sentOf(p)
			fmt.Fprintf(w, "%s\t%s\t%d of %d sent, %d acknowledged\t%s\t%s\n", m.Name, m.State, m.Sent, m.Packets, m.Acked, m.To, m.Why)
		}
		return w.Flush()
	}
	return c
}
