package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern.email/role/relay"
)

// mixAccount is `postern account mix`.
func mixAccount(io streams) *cobra.Command {
	var src source
	var key, remove string
	var list bool
	c := &cobra.Command{Use: "mix ADDRESS", Short: "Register, list and remove an account's clients of the mix network", Args: cobra.ExactArgs(1),
		Long: `Register, list and remove the clients of an account in the mix network. A client is
known by its link key, which its program prints (postern mix address). Users need
nothing of this: a client registers itself with address and password.`,
		Example: "  postern account mix anna --list\n  postern account mix anna --key KEY --json\n  postern account mix anna --remove KEY"}
	src.flags(c)
	c.Flags().StringVar(&key, "key", "", "register the client with this link key, 64 hexadecimal digits, and print what it needs")
	c.Flags().StringVar(&remove, "remove", "", "take the client with this link key away; what waits for the account stays")
	c.Flags().BoolVar(&list, "list", false, "list the clients; this is also done without it")
	c.MarkFlagsMutuallyExclusive("key", "remove", "list")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a := relay.AccountArgs{Address: args[0], Key: key + remove, Remove: remove != ""}
		var got relay.MixAccount
		if err := src.call(c.Context(), "account.mix", a, &got, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, got)
		}
		switch {
		case got.Entry != nil:
			fmt.Fprintf(io.out, "Registered with %s. What the client needs, beside the network file:\n  node      %s\n  link key  %s\n", got.Address, got.Entry.Node, got.Entry.LinkKey)
			for _, x := range got.Entry.Addresses {
				fmt.Fprintf(io.out, "  address   %s\n", x)
			}
			fmt.Fprintf(io.out, "  mailbox   %s\nWith --json it is printed whole, with the network file.\n", got.Mailbox)
		case a.Remove:
			fmt.Fprintf(io.out, "Removed. %s has %s left.\n", got.Address, clients(len(got.Clients)))
		case got.Mailbox == "":
			fmt.Fprintf(io.out, "%s has no clients in the mix network. To register one: postern account mix %[1]s --key KEY\n", got.Address)
		default:
			fmt.Fprintf(io.out, "%s\n  mailbox  %s\n", got.Address, got.Mailbox)
			if p := got.Proxy; p != nil {
				known := "not published"
				if p.Published {
					known = "published"
				}
				fmt.Fprintf(io.out, "  proxy    %s, %s, since %s (keys number %d)\n", p.Fingerprint, known, p.Since, p.Serial)
			}
			for _, x := range got.Clients {
				fmt.Fprintf(io.out, "  client   %s since %s\n", x.Key, x.Since)
			}
		}
		return nil
	}
	return c
}

// inviteAccount is `postern account invite`.
func inviteAccount(io streams) *cobra.Command {
	var src source
	var days int
	c := &cobra.Command{Use: "invite", Short: "Make an invitation to the mix network", Args: cobra.NoArgs,
		Long: `Make an invitation for one user's client or mail proxy in the mix network, where the relay
asks for one (mixnet.registration = "invite"). It is shown once and kept nowhere, and is good
for one account, until its last day.`,
		Example: "  postern account invite\n  postern account invite --days 30 --json"}
	src.flags(c)
	c.Flags().IntVar(&days, "days", 7, "days for which it can be used, 1 to 365")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var got relay.Invited
		if err := src.call(c.Context(), "account.invite", relay.AccountArgs{Days: days}, &got, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, got)
		}
		fmt.Fprintf(io.out, "%s\nGood for one account until %s. Invitations that nobody has used: %d.\n", got.Invite, got.Until, got.Open)
		return nil
	}
	return c
}

// clients counts them in words.
func clients(n int) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", n)
}

// printMix shows the part of a relay's status that is about the mix network.
func printMix(io streams, m *relay.MixStatus) {
	where := "in the directory"
	if !m.Listed {
		where = fmt.Sprintf("not in the directory (%d of %d authorities have accepted it, %d wait for their operators)", m.Authorities.Accepted, m.Authorities.All, m.Authorities.Held)
	}
	fmt.Fprintf(io.out, "  mix network   %s, %s; health: %s\n", m.Nickname, where, m.Health)
	switch {
	case m.Directory != "":
		fmt.Fprintf(io.out, "                directory: %s\n", m.Directory)
	default:
		fmt.Fprintf(io.out, "                consensus of epoch %d, valid until %s\n", m.Epoch, m.ValidUntil)
	}
	fmt.Fprintf(io.out, "                %d links to other nodes, %s; %d packets in %d mailboxes; %d packets under way, %s\n",
		m.Links.Nodes, clients(m.Links.Clients), m.Mailboxes.Packets, m.Mailboxes.All, m.Log.Packets, size(m.Log.Bytes))
	fmt.Fprintf(io.out, "                %d letters at the door to mailboxes, %s", m.Door.Letters, size(m.Door.Bytes))
	if m.Exit != nil {
		fmt.Fprintf(io.out, "; mail leaves into the world here, %d came back", m.Exit.Bounced)
	}
	fmt.Fprintln(io.out)
	for _, x := range m.Insecurities {
		fmt.Fprintf(io.out, "                weak: %s\n", x)
	}
}
