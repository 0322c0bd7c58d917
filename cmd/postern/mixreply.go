package main

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	mixnet "postern.email/mixnet/client"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

func mixReplyBlockCommand(io streams) *cobra.Command {
	c := &cobra.Command{Use: "reply-block", Short: "Give others a way to answer you without knowing you", Aliases: []string{"replyblock", "surb"},
		Long: `A reply block is a way to send you one packet: whoever has it can answer, once, within two
days, and learns neither your address nor your relay.

  postern mix reply-block make > blocks.txt    # you; give it away
  postern mix reply-block use blocks.txt < answer.txt    # the other`}
	c.AddCommand(replyMake(io), replyList(io), replyUse(io), replyInspect(io))
	return c
}

// commandLock keeps commands that change the same files apart.
func (u *mixUser) commandLock() (interface{ Close() error }, error) {
	dir := filepath.Join(u.dir, "commands")
	if err := vfs.MkdirAll(vfs.OS(), dir, 0o700); err != nil {
		return nil, err
	}
	l, err := daemon.Hold(vfs.OS(), dir, time.Now())
	return l, hint(err, "Another command works on the same files; try again.")
}

func replyMake(io streams) *cobra.Command {
	var u mixUser
	var n int
	var path, note, file string
	var life time.Duration
	c := &cobra.Command{Use: "make", Short: "Make reply blocks for one person", Args: cobra.NoArgs,
		Long: `Make a set of reply blocks, as text. Each carries one packet of an answer, about 20 KB, once.
Who gets blocks of one set knows that they are of the same maker: give each person a set of
their own. The seed of a set is kept until its blocks have expired.`,
		Example: "  postern mix reply-block make > blocks.txt\n  postern mix reply-block make -n 5 --note 'for the newspaper' -o blocks.txt"}
	u.flags(c)
	c.Flags().IntVarP(&n, "number", "n", 1, "how many, 1 to 256")
	c.Flags().StringVarP(&path, "path", "P", "", "the way back, from the first mix to your relay; see postern mix send")
	c.Flags().StringVar(&note, "note", "", "for your own list")
	c.Flags().StringVarP(&file, "output", "o", "", "write to this `file`, which must not exist")
	c.Flags().DurationVar(&life, "valid", mixnet.BlockLife, "for how long they can be used, in whole hours")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if n < 1 || n > letter.MaxBlocks || life < time.Hour || life%time.Hour != 0 {
			return usageError{c.CommandPath(), fmt.Errorf("-n is 1 to %d, and --valid whole hours", letter.MaxBlocks)}
		}
		opened, err := u.open(io)
		if err != nil {
			return err
		}
		lock, err := u.commandLock()
		if err != nil {
			return err
		}
		defer lock.Close()
		cons, err := opened.Consensus()
		if err != nil {
			return hint(err, "To make reply blocks the directory of the network is needed: run postern mix run for a while first")
		}
		home, err := opened.Home(cons)
		if err != nil {
			return err
		}
		p, err := mixnet.ParsePath(path)
		if err != nil {
			return err
		}
		want := mixnet.Want{From: 1, To: packet.Last}
		want.Hops[packet.Last] = home.Relay
		d := descriptors{files: map[string][]byte{}}
		if want, err = p.Apply(cons, want, d.read); err != nil {
			return err
		}
		s := opened.Store()
		seed, err := s.Seed()
		if err != nil {
			return err
		}
		r, err := mixnet.NewChooser(rand.Reader)
		if err != nil {
			return err
		}
		set, err := mixnet.NewSet(n, cons, time.Now(), r, home, seed, life, want, rand.Reader)
		if err != nil {
			return err
		}
		if err := s.RememberSet(set, seed, note); err != nil {
			return err
		}
		var text []byte
		for _, b := range set.Blocks {
			one, err := b.MarshalText()
			if err != nil {
				return err
			}
			text = append(text, one...)
		}
		if file != "" {
			if err := writeNew(file, text); err != nil {
				return err
			}
		}
		if *js {
			out := map[string]any{"number": n, "expires": set.Blocks[0].SURB.Expires().Format(time.RFC3339), "set": fmt.Sprintf("%x", set.Hint)}
			if file == "" {
				out["text"] = string(text)
			}
			return printJSON(io.out, out)
		}
		if file == "" {
			if _, err := io.out.Write(text); err != nil {
				return errs.E("cmd.reply-block", errs.Unavailable, "cannot print the reply blocks", err)
			}
		}
		fmt.Fprintf(io.err, "%d reply blocks; they can be used until %s.\n", n, set.Blocks[0].SURB.Expires().Format("2006-01-02 15:04 MST"))
		return nil
	}
	return c
}

// blockInfo is a reply block in JSON.
type blockInfo struct {
	Name    string `json:"name"`
	State   string `json:"state"` // open, answered, used, expired
	Expires string `json:"expires"`
	Made    string `json:"made,omitempty"`
	Note    string `json:"note,omitempty"`
	Set     string `json:"set,omitempty"`
	First   string `json:"first_hop,omitempty"`
}

func replyList(io streams) *cobra.Command {
	var u mixUser
	c := &cobra.Command{Use: "list", Short: "List the reply blocks that you gave away", Args: cobra.NoArgs, Example: "  postern mix reply-block list"}
	u.flags(c)
	js := c.Flags().Bool("json", false, "print one JSON object a line, one for each block")
	c.RunE = func(c *cobra.Command, _ []string) error {
		opened, err := u.open(io)
		if err != nil {
			return err
		}
		list, err := opened.Store().Blocks()
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
		for _, b := range list {
			i := blockInfo{Name: fmt.Sprintf("%x", b.Name), State: "open", Expires: b.Expires.Format(time.RFC3339), Made: b.Made.UTC().Format(time.RFC3339), Note: b.Note, Set: fmt.Sprintf("%x", b.Hint)}
			switch {
			case b.Answered:
				i.State = "answered"
			case !time.Now().Before(b.Expires):
				i.State = "expired"
			}
			if *js {
				if err := printJSON(io.out, i); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(w, "%s\t%s\tuntil %s\t%s\n", i.Name[:12], i.State, i.Expires, i.Note)
		}
		if len(list) == 0 && !*js {
			fmt.Fprintln(io.out, "No reply blocks are out. To make some: postern mix reply-block make")
		}
		return w.Flush()
	}
	return c
}

// readBlocks reads reply blocks from a file, or from standard input for -.
func readBlocks(io streams, file string) ([]*letter.ReplyBlock, error) {
	s := sending{in: file}
	text, err := s.message(io)
	if err != nil {
		return nil, err
	}
	return letter.ParseReplyBlocks(text)
}

func replyUse(io streams) *cobra.Command {
	var s sending
	c := &cobra.Command{Use: "use FILE", Short: "Answer with reply blocks", Args: cobra.ExactArgs(1),
		Long: `Send a message, from standard input or --in, with the reply blocks in FILE: to whom, only
their maker knows. It takes the first blocks of the file that were not used and have not
expired, one for each 20 KB. That they are used is noted before anything is sent, so that
none is used twice; nobody acknowledges the answer.`,
		Example: "  postern mix reply-block use blocks.txt < answer.txt\n  postern mix reply-block use blocks.txt --in answer.txt --now"}
	s.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if args[0] == "-" {
			return usageError{c.CommandPath(), fmt.Errorf("FILE holds the reply blocks; the message comes from standard input")}
		}
		opened, err := s.u.open(io)
		if err != nil {
			return err
		}
		blocks, err := readBlocks(io, args[0])
		if err != nil {
			return err
		}
		m, err := s.message(io)
		if err != nil {
			return err
		}
		lock, err := s.u.commandLock()
		if err != nil {
			return err
		}
		defer lock.Close()
		o, err := answer(opened.Store(), blocks, m)
		if err != nil {
			return err
		}
		if err := s.checkPath(opened, &o); err != nil {
			return err
		}
		var spent []*packet.SURB
		for _, b := range o.Blocks {
			surb, err := packet.ParseSURB(b)
			if err != nil {
				return err
			}
			spent = append(spent, surb)
		}
		if err := opened.Store().Spend(spent); err != nil {
			return hint(err, "To see which can be used: postern mix reply-block inspect "+args[0])
		}
		lock.Close()
		return s.send(c, io, opened, o)
	}
	return c
}

// answer seals a message for the maker of reply blocks, for the first of one set that can be
// used.
func answer(s *mixnet.Store, blocks []*letter.ReplyBlock, m []byte) (o mixnet.Outgoing, err error) {
	var open []*letter.ReplyBlock
	why := "used"
	for _, b := range blocks {
		ok, no, err := s.Unspent(b.SURB)
		if err != nil {
			return o, err
		}
		switch {
		case !ok:
			why = no
		case len(open) == 0 || open[0].Hint == b.Hint:
			open = append(open, b)
		}
	}
	if len(open) == 0 {
		public := "the reply block was used before: each can be used once"
		if why == "expired" {
			public = "the reply block has expired"
		}
		return o, errs.E("cmd.reply-block", errs.Denied, public, nil)
	}
	sealed, err := letter.Seal(open[0].Key, letter.Message{Content: m}, letter.Options{Room: letter.RoomReply})
	if err != nil {
		return o, err
	}
	if len(sealed.Bodies) > len(open) {
		return o, errs.E("cmd.reply-block", errs.TooLarge, fmt.Sprintf("the answer needs %d reply blocks, and %d can be used", len(sealed.Bodies), len(open)), nil)
	}
	o.Kind, o.Note, o.Expires = content.Inject, "a reply block", time.Now().Add(mixnet.Lifetime)
	for i, body := range sealed.Bodies {
		raw, err := open[i].SURB.AppendBinary(nil)
		if err != nil {
			return o, err
		}
		o.Blocks = append(o.Blocks, raw)
		o.Bodies = append(o.Bodies, open[i].AppendAnswer(nil, body))
		if e := open[i].SURB.Expires(); e.Before(o.Expires) {
			o.Expires = e
		}
	}
	return o, nil
}

func replyInspect(io streams) *cobra.Command {
	var u mixUser
	c := &cobra.Command{Use: "inspect FILE", Short: "Show which reply blocks in a file can be used, and until when", Args: cobra.ExactArgs(1), Example: "  postern mix reply-block inspect blocks.txt"}
	u.flags(c)
	js := c.Flags().Bool("json", false, "print one JSON object a line, one for each block")
	c.RunE = func(c *cobra.Command, args []string) error {
		opened, err := u.open(io)
		if err != nil {
			return err
		}
		blocks, err := readBlocks(io, args[0])
		if err != nil {
			return err
		}
		cons, _ := opened.Consensus() // without one the first hop has no name
		w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
		for _, b := range blocks {
			ok, why, err := opened.Store().Unspent(b.SURB)
			if err != nil {
				return err
			}
			if ok {
				why = "open"
			}
			first := b.SURB.First()
			i := blockInfo{Name: fmt.Sprintf("%x", b.SURB.Name()), State: why, Expires: b.SURB.Expires().Format(time.RFC3339), Set: fmt.Sprintf("%x", b.Hint), First: fmt.Sprintf("%x", first)}
			name := i.First[:16]
			if cons != nil {
				if e := cons.Find(first); e != nil {
					name = e.Nickname
				} else {
					name += " (not in the directory)"
				}
			}
			if *js {
				if err := printJSON(io.out, i); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(w, "%s\t%s\tuntil %s\tbegins at %s\n", i.Name[:12], i.State, i.Expires, name)
		}
		return w.Flush()
	}
	return c
}
