package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"postern.email/agent/mixclient"
	"postern.email/kit/errs"
	mixnet "postern.email/mixnet/client"
)

// fetched is a letter in JSON.
type fetched struct {
	ID      string `json:"id"`
	At      string `json:"at"`
	Date    string `json:"date,omitempty"`
	From    string `json:"from,omitempty"`   // ID of the key that signed it
	Sender  string `json:"sender,omitempty"` // as the signature covers it
	File    string `json:"file,omitempty"`
	Content []byte `json:"content,omitempty"` // base64
	Error   string `json:"error,omitempty"`
}

func mixFetchCommand(io streams) *cobra.Command {
	var u mixUser
	var dir string
	var long time.Duration
	var wait, now bool
	c := &cobra.Command{Use: "fetch", Short: "Take out the letters that have come", Args: cobra.NoArgs,
		Long: `Print the letters that have come and are whole, or write each to a file in a directory,
and take them out of the inbox.

If no client runs (postern mix run), this command connects to the relay first and receives
for a while: the relay hands out one packet at a time, at the pace of the network. With
--wait it ends when a letter has come, with exit code 1 if none has.`,
		Example: "  postern mix fetch -o Mail\n  postern mix fetch --wait --for 10m"}
	u.flags(c)
	c.Flags().StringVarP(&dir, "output", "o", "", "write each letter to a file in this `directory`, which must exist")
	c.Flags().DurationVar(&long, "for", 2*time.Minute, "how long to receive if no client runs, and to wait with --wait; 0: only look")
	c.Flags().BoolVar(&wait, "wait", false, "end when a letter has come")
	c.Flags().BoolVar(&now, "now", false, "receive without sending cover, which shows who watches that you only receive")
	js := c.Flags().Bool("json", false, "print one JSON object a line, one for each letter")
	c.RunE = func(c *cobra.Command, _ []string) error {
		opened, err := u.open(io)
		if err != nil {
			return err
		}
		ctx, stop := interrupted(c)
		defer stop()
		n := 0
		for first := true; ; first = false {
			k, rest, err := collect(io, opened, &u, dir, *js)
			if err != nil {
				return err
			}
			n += k
			if n > 0 && wait || !first || long <= 0 {
				return fetchEnd(io, n, rest, wait, *js)
			}
			if err := receive(ctx, opened, long, wait, now); err != nil {
				return err
			}
		}
	}
	return c
}

// receive runs the client for a while, or waits while another process does.
func receive(ctx context.Context, opened *mixclient.Client, long time.Duration, wait, now bool) error {
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	come := func() bool {
		if !wait {
			return false
		}
		in, err := opened.Store().Collect()
		return err != nil || len(in.Letters) > 0
	}
	err := opened.Run(ctx, mixclient.Mode{Free: now}, func(ctx context.Context, live *mixnet.Client) error {
		before := -1
		return live.Wait(ctx, func(s mixnet.Status) bool {
			if s.Received == before {
				return false
			}
			before = s.Received
			return come()
		})
	})
	if isBusy(err) { // another process receives
		t := time.NewTicker(200 * time.Millisecond)
		defer t.Stop()
		for wait && !come() {
			select {
			case <-t.C:
			case <-ctx.Done():
				return nil
			}
		}
		return nil
	}
	if err != nil && errs.KindOf(err) != errs.Canceled {
		return err
	}
	return nil
}

// collect prints what is whole. One process at a time does.
func collect(io streams, opened *mixclient.Client, u *mixUser, dir string, js bool) (n int, in *mixnet.Inbox, err error) {
	lock, err := u.commandLock()
	if err != nil {
		return 0, nil, err
	}
	defer lock.Close()
	s := opened.Store()
	if in, err = s.Collect(); err != nil {
		return 0, nil, err
	}
	for _, r := range in.Letters {
		if err := showLetter(io, r, dir, js); err != nil {
			return n, in, err
		}
		// Only now: a letter that could not be written stays.
		if err := in.Settle(s, r); err != nil {
			return n, in, err
		}
		n++
	}
	return n, in, nil
}

func showLetter(io streams, r mixnet.Received, dir string, js bool) error {
	f := fetched{ID: fmt.Sprintf("%x", r.ID), At: r.At.UTC().Format(time.RFC3339)}
	if r.Err != nil {
		f.Error = errs.Public(r.Err)
		if errs.KindOf(r.Err) == errs.Auth {
			f.Error = "its signature is wrong"
		}
		if js {
			return printJSON(io.out, f)
		}
		fmt.Fprintf(io.err, "A letter was not in order and was dropped: %s\n", f.Error)
		return nil
	}
	l := r.Letter
	if !l.Date.IsZero() {
		f.Date = l.Date.UTC().Format(time.RFC3339)
	}
	if l.From != nil {
		f.From, f.Sender = fmt.Sprintf("%x", l.From.ID()), l.Sender
	}
	if dir != "" {
		f.File = filepath.Join(dir, f.ID+".eml")
		err := writeNew(f.File, l.Content)
		if err != nil && !exists(f.File) {
			return err
		} // one that is there was written before a crash
	}
	if js {
		if dir == "" {
			f.Content = l.Content
		}
		return printJSON(io.out, f)
	}
	who := "not signed"
	if f.From != "" {
		who = "signed by " + f.From[:16] + " as " + fmt.Sprintf("%q", f.Sender)
	}
	if dir != "" {
		fmt.Fprintf(io.out, "%s  %s\n", f.File, who)
		return nil
	}
	fmt.Fprintf(io.err, "Letter %s, came %s, %s:\n", f.ID[:16], f.At, who)
	if _, err := io.out.Write(l.Content); err != nil {
		return errs.E("cmd.fetch", errs.Unavailable, "cannot print the letter", err)
	}
	fmt.Fprintln(io.err)
	return nil
}

func fetchEnd(io streams, n int, in *mixnet.Inbox, wait, js bool) error {
	if in.Damaged > 0 {
		fmt.Fprintf(io.err, "%d files of the inbox cannot be read.\n", in.Damaged)
	}
	if in.Expired > 0 {
		fmt.Fprintf(io.err, "%d parts of letters that never became whole were given up.\n", in.Expired)
	}
	switch {
	case n == 0 && wait:
		err := errs.E("cmd.fetch", errs.NotFound, "no letter has come", nil)
		if in.Partial > 0 {
			return hint(err, fmt.Sprintf("Parts of %d letters are here; the rest is still on its way.", in.Partial))
		}
		return err
	case n == 0 && !js:
		fmt.Fprintln(io.err, "No letter has come.")
	}
	if in.Partial > 0 && n > 0 {
		fmt.Fprintf(io.err, "Parts of %d more letters are here.\n", in.Partial)
	}
	return nil
}
