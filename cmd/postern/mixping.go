package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern.email/agent/mixclient"
	"postern.email/kit/errs"
	mixnet "postern.email/mixnet/client"
	"postern.email/mixnet/directory"
)

// pinged is what became of one ping.
type pinged struct {
	Node     string  `json:"node,omitempty"` // that it was for
	Layer    int     `json:"layer,omitempty"`
	Way      string  `json:"way,omitempty"`
	Back     bool    `json:"back"`
	Seconds  float64 `json:"seconds,omitempty"`  // until it was back
	Expected float64 `json:"expected,omitempty"` // seconds that it asked the hops to keep it
	Error    string  `json:"error,omitempty"`
}

func mixPingCommand(io streams) *cobra.Command {
	var u mixUser
	var path string
	var count int
	var timeout time.Duration
	c := &cobra.Command{Use: "ping [NODE…]", Short: "Send packets to yourself through nodes of the network, and see which come back", Args: cobra.ArbitraryArgs,
		Long: `Send a packet through each node that is named, or through every mix of the network, from
your relay and back to it, and report which came back, after how long. The other nodes of
each way are drawn; with -P the way is yours. A NODE is a nickname or the file of a descriptor.

The packets leave at once and without cover: who watches your connection sees that you are
measuring. A packet that is lost says that one of the nodes of its way lost it, not which:
use --count.`,
		Example: "  postern mix ping\n  postern mix ping mymix --count 5\n  postern mix ping -P 'keys/key_0001/ServerDesc,*2'"}
	u.flags(c)
	c.Flags().StringVarP(&path, "path", "P", "", "the way, as for postern mix send")
	c.Flags().IntVar(&count, "count", 1, "packets through each node, 1 to 100")
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait for all of them")
	js := c.Flags().Bool("json", false, "print one JSON object a line, one for each packet")
	c.RunE = func(c *cobra.Command, args []string) error {
		if count < 1 || count > 100 || path != "" && len(args) > 0 {
			return usageError{c.CommandPath(), fmt.Errorf("--count is 1 to 100, and -P stands without nodes")}
		}
		opened, err := u.open(io)
		if err != nil {
			return err
		}
		ctx, stop := interrupted(c)
		defer stop()
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		var results []pinged
		err = opened.Run(ctx, mixclient.Mode{Free: true}, func(ctx context.Context, live *mixnet.Client) error {
			cons, err := opened.AwaitConsensus(ctx)
			if err != nil {
				return hint(err, "Is the relay reachable, and does it know this client? postern mix run --json shows the connection.")
			}
			paths := args
			if path != "" {
				paths = []string{path}
			} else if len(args) == 0 {
				for i := range cons.Nodes {
					if cons.Nodes[i].Mode.Has(directory.Mix) {
						paths = append(paths, cons.Nodes[i].Nickname)
					}
				}
			}
			results, err = pingAll(ctx, live, cons, paths, count)
			return err
		})
		if isBusy(err) {
			return hint(err, "A client runs in this directory. Stop it, or ping with a client of its own: postern mix register --dir DIR …")
		}
		if err != nil {
			return err
		}
		return printPinged(io, results, *js)
	}
	return c
}

// pingAll sends all packets, then waits for them.
func pingAll(ctx context.Context, live *mixnet.Client, cons *directory.Consensus, paths []string, count int) ([]pinged, error) {
	type waiting struct {
		pinged
		back <-chan time.Duration
	}
	var all []waiting
	for _, text := range paths {
		p, err := mixnet.ParsePath(text)
		if err != nil {
			return nil, err
		}
		for range count {
			d := descriptors{files: map[string][]byte{}}
			way, back, err := live.Ping(ctx, p, d.read)
			if errs.KindOf(err) == errs.Canceled && err != nil {
				return nil, errs.E("cmd.ping", errs.Unavailable, "the packets could not be sent in time", err)
			}
			w := waiting{pinged: pinged{Node: text}, back: back}
			if err != nil {
				w.Error = errs.Public(err)
			} else {
				w.Way, w.Expected = wayText(way), way.Stay().Seconds()
			}
			if e := mixnet.FindNode(cons, text); e != nil {
				w.Layer = e.Layer
			}
			all = append(all, w)
		}
	}
	out := make([]pinged, len(all))
	for i, w := range all {
		if w.Error == "" {
			select {
			case d := <-w.back:
				w.Back, w.Seconds = true, d.Seconds()
			case <-ctx.Done():
				select { // it may be back all the same
				case d := <-w.back:
					w.Back, w.Seconds = true, d.Seconds()
				default:
				}
			}
		}
		out[i] = w.pinged
	}
	return out, nil
}

func printPinged(io streams, results []pinged, js bool) error {
	sent, back := 0, 0
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	for _, p := range results {
		if p.Error == "" {
			sent++
		}
		if p.Back {
			back++
		}
		if js {
			if err := printJSON(io.out, p); err != nil {
				return err
			}
			continue
		}
		state := "lost"
		switch {
		case p.Error != "":
			state = "not sent: " + p.Error
		case p.Back:
			state = fmt.Sprintf("back after %.1f s, of which %.1f s were asked for", p.Seconds, p.Expected)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.Node, state, p.Way)
	}
	if !js {
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(io.out, "%d of %d came back.\n", back, len(results))
	}
	switch {
	case len(results) == 0:
		return errs.E("cmd.ping", errs.Unavailable, "there is no mix in the directory of the network", nil)
	case sent == 0:
		return errs.E("cmd.ping", errs.Invalid, "nothing could be sent", nil)
	case back == 0:
		return errs.E("cmd.ping", errs.Unavailable, "nothing came back", nil)
	}
	return nil
}
