package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"postern.email/role/proxy"
)

func proxyEvidenceCommand(io streams) *cobra.Command {
	var src proxySource
	var user, passwordFile, stranger, out string
	c := &cobra.Command{Use: "evidence ALIAS", Short: "Write a file that shows who passed an alias on", Args: cobra.ExactArgs(1),
		Long: `Write a file that shows who passed an alias on, of mail in a mailbox of the running proxy:
the first signed mail of the sender that the alias was for, and the mail of the stranger
who should not have known it. Anybody can check it with postern alias verify-evidence.
The mails are opened with the password at the proxy, which is asked for.`,
		Example: "  postern proxy evidence amber-falcon-48217@relay.example --user anna --out evidence.json"}
	src.flags(c)
	c.Flags().StringVar(&user, "user", "", "whose mailbox: the `address`, or the name before the @ where that says it all")
	c.Flags().StringVar(&passwordFile, "password-file", "", "`file` whose first line is the password")
	c.Flags().StringVar(&stranger, "stranger", "", "`address` of the stranger (default: the last one who wrote)")
	c.Flags().StringVar(&out, "out", "", "`file` to write (default: standard output)")
	c.Flags().Bool("json", false, "the file is JSON in any case")
	_ = c.MarkFlagRequired("user")
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, err := src.load()
		if err != nil {
			return err
		}
		password, err := secretOf(io, "Password of "+user+": ", passwordFile, false)
		if err != nil {
			return err
		}
		var got json.RawMessage
		if err := src.ask(c.Context(), cfg, "evidence", proxy.EvidenceArgs{Account: user, Password: string(password), Alias: args[0], Stranger: stranger}, &got); err != nil {
			return err
		}
		return writeEvidence(io, out, got)
	}
	return c
}
