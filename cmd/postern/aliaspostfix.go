package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"postern.email/deploy"
	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/postmap"
	aliasrole "postern.email/role/alias"
	"postern.email/role/relay"
)

// besidePostfix are the commands for the server beside a Postfix.
func besidePostfix(io streams, src *aliasSource) []*cobra.Command {
	return []*cobra.Command{serveAlias(io, src), syncAlias(io, src), doctorAlias(io, src), statusAlias(io, src), targetAlias(io, src), configAlias(io), unitAlias(io)}
}

// file gives the configuration that -c names.
func (s *aliasSource) file(c *cobra.Command) (aliasrole.Loaded, error) {
	if s.ini == "" {
		return aliasrole.Loaded{}, usageError{c.CommandPath(), fmt.Errorf("this is for the server beside a Postfix: name its configuration, -c FILE")}
	}
	l, err := aliasrole.Load(s.ini, nil)
	return l, hint(err, "To see what can be set: postern alias config")
}

func serveAlias(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "serve", Short: "Run the alias server beside a Postfix", Args: cobra.NoArgs,
		Long: `Run the alias server beside a Postfix: it keeps the aliases and a canonical or virtual
alias map of Postfix, and answers browser add-ons. Mail never passes through it. It stays
in the foreground, logs to standard error and tells systemd when it is ready; SIGTERM and
SIGINT stop it cleanly.

The configuration is IncognitoMail's; its database, if it is there, is taken over at the
first start. Run it as the user who may write the map, often postfix. Called as
incognitomail (a link to this program) it takes -c and the commands directly.`,
		Example: "  postern alias serve -c /etc/incognitomail.conf\n  postern alias doctor -c /etc/incognitomail.conf"}
	js := c.Flags().Bool("json", false, "print one line of JSON on standard output when it is ready")
	c.RunE = func(c *cobra.Command, _ []string) error {
		l, err := src.file(c)
		if err != nil {
			return err
		}
		return serveAliases(c.Context(), io, l, func(st aliasrole.Status) error {
			if *js {
				return printJSON(io.out, st)
			}
			return nil
		})
	}
	return c
}

// serveAliases runs the server until a signal or a command stops it.
func serveAliases(ctx context.Context, io streams, l aliasrole.Loaded, ready func(aliasrole.Status) error) error {
	if err := daemon.Harden(); err != nil {
		return err
	}
	logger := aliasrole.Logger(l.Config, io.err)
	for _, w := range l.Warnings {
		logger.Warn(w)
	}
	ctx, hup, stopSignals := watchSignals(ctx)
	defer stopSignals()
	s, err := aliasrole.Start(ctx, aliasrole.Deps{Logger: logger, Version: relay.Version}, l.Config)
	if err != nil {
		return aliasStartError(err, l.File)
	}
	st := s.Status()
	logger.Info("ready", "domains", len(st.Domains), "tls", st.TLS, "aliases", st.Map.Lines, "version", relay.Version)
	if !st.TLS && st.Listen != "" && !l.Postern.PlainHTTP {
		logger.Warn("without a certificate only programs of this machine are served; set General.TLSCertFile and TLSKeyFile, or Postern.PlainHTTP behind a proxy that speaks HTTPS")
	}
	if ready != nil {
		if err := ready(st); err != nil {
			s.Close()
			return err
		}
	}
	return runAliases(ctx, s, hup, logger)
}

// runAliases waits for the end of a running server.
func runAliases(ctx context.Context, s *aliasrole.Server, hup <-chan struct{}, logger *slog.Logger) error {
	notify := notifier(logger)
	notify("READY=1")
	for {
		select {
		case <-hup: // the map is looked at; the configuration is read at a start only
			s.Touch()
		case err := <-s.Broken():
			notify("STOPPING=1")
			s.Close()
			return hint(err, "Everything that was acknowledged is on the disk. Look at the log, then start again.")
		case <-s.Asked():
			notify("STOPPING=1")
			return closeWithin(s, aliasrole.StopTime)
		case <-ctx.Done():
			notify("STOPPING=1")
			return closeWithin(s, aliasrole.StopTime)
		}
	}
}

// aliasStartError adds what to do next.
func aliasStartError(err error, file string) error {
	switch errs.KindOf(err) {
	case errs.Exists:
		return hint(err, "To look at what runs: postern alias status -c "+file)
	case errs.Denied, errs.NotFound, errs.Unsupported:
		return hint(err, "To see what is missing: postern alias doctor -c "+file)
	case errs.Auth:
		return hint(err, "Nothing was changed. Give the right key: Postern.KeyFile in "+file)
	}
	return err
}

func syncAlias(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "sync", Short: "Make the map of Postfix hold what it should", Args: cobra.NoArgs,
		Long: `Make the map of Postfix hold what it should: exactly the aliases that take mail, and the
lines of others as they are. The running server does so by itself at every change, at its
start and every ten minutes; this is for when you have edited the map and do not want to wait.`,
		Example: "  postern alias sync -c /etc/incognitomail.conf"}
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if _, err := src.file(c); err != nil {
			return err
		}
		var m aliasrole.Map
		if err := src.call(c.Context(), "alias.sync", struct{}{}, &m, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, m)
		}
		fmt.Fprintf(io.out, "%d aliases are in the map\n", m.Lines)
		return nil
	}
	return c
}

func doctorAlias(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "doctor", Short: "Say what keeps Postfix from using the aliases, and what to do about it", Args: cobra.NoArgs,
		Long: `Say what keeps Postfix from using the aliases, and what to do about it: whether its
programs are there, whether the map can be written, whether main.cf names it and takes
mail for the domains. Run it as the user that the server runs as; it changes nothing. The
exit code is 1 when there is a FAULT; advice alone is none.`,
		Example: "  sudo -u postfix postern alias doctor -c /etc/incognitomail.conf"}
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		l, err := src.file(c)
		if err != nil {
			return err
		}
		all := aliasrole.Doctor(c.Context(), l.Config, postmap.Postfix{})
		var found []aliasrole.Diagnosis
		if src.call(c.Context(), "alias.conflicts", struct{}{}, &found, nil) == nil { // a running server knows more
			all = append(all, found...)
		}
		if *js {
			err = printJSON(io.out, all)
		} else {
			printDiagnoses(io, all)
		}
		if err != nil {
			return err
		}
		return aliasrole.AsError(all)
	}
	return c
}

func statusAlias(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "Show how the alias server beside a Postfix does", Args: cobra.NoArgs, Example: "  postern alias status -c /etc/incognitomail.conf"}
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if _, err := src.file(c); err != nil {
			return err
		}
		var st aliasrole.Status
		if err := src.call(c.Context(), "status", struct{}{}, &st, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, st)
		}
		fmt.Fprintf(io.out, "Alias server %s, process %d, since %s\n", st.Version, st.PID, st.Since.Format("2006-01-02 15:04:05 MST"))
		fmt.Fprintf(io.out, "  domains   %v\n", st.Domains)
		if st.Listen != "" {
			fmt.Fprintf(io.out, "  HTTP      %s, TLS %v\n", st.Listen, st.TLS)
		}
		fmt.Fprintf(io.out, "  state     %s\n", st.State)
		fmt.Fprintf(io.out, "  map       %s, %d aliases\n", st.MapFile, st.Map.Lines)
		if st.Map.Error != "" {
			fmt.Fprintf(io.out, "            %s; it is tried again\n", st.Map.Error)
		}
		if st.Map.Conflicts > 0 {
			fmt.Fprintf(io.out, "            %d aliases are left out because of lines of others: postern alias doctor names them\n", st.Map.Conflicts)
		}
		if st.Disk != "" {
			fmt.Fprintf(io.out, "  disk      %s\n", st.Disk)
		}
		return nil
	}
	return c
}

func targetAlias(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "target ADDRESS [SECRET]", Short: "Change where the mail of an account's aliases goes, elsewhere", Args: cobra.RangeArgs(1, 2),
		Example: "  postern alias -c /etc/incognitomail.conf target new@mailbox.example --secret-file ~/.alias"}
	src.who(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := src.credential(io, c, first(args[1:]))
		if err != nil {
			return err
		}
		a.Address = args[0]
		return success(io, *js, src.call(c.Context(), "alias.owner.target", a, nil, nil))
	}
	return c
}

func unitAlias(io streams) *cobra.Command {
	c := &cobra.Command{Use: "unit", Short: "Print a systemd unit for the alias server beside a Postfix", Args: cobra.NoArgs,
		Example: "  postern alias unit > /etc/systemd/system/postern-alias.service"}
	js := asJSON(c)
	c.RunE = func(*cobra.Command, []string) error {
		if *js {
			return printJSON(io.out, map[string]string{"unit": deploy.Alias()})
		}
		if _, err := fmt.Fprint(io.out, deploy.Alias()); err != nil {
			return errs.E("cmd.unit", errs.Unavailable, "cannot write the output", err)
		}
		return nil
	}
	return c
}

func configAlias(io streams) *cobra.Command {
	c := &cobra.Command{Use: "config [KEY]", Short: "Describe the configuration of the server beside a Postfix", Args: cobra.MaximumNArgs(1),
		Example: "  postern alias config\n  postern alias config PostfixConfig.MapFilePath"}
	describeOptions(io, c, func() any { return &aliasrole.Config{} }, aliasReferenceTitle, aliasReferenceIntro)
	return c
}

// aliasReferenceTitle and aliasReferenceIntro head docs/alias-config.md.
const (
	aliasReferenceTitle = "Configuration of the alias server beside a Postfix"
	aliasReferenceIntro = "Generated by `postern alias config --markdown`; do not edit. The file is IncognitoMail's and works as it is: sections in brackets, `Key = value`, " +
		"comments behind `;` or `#`, double quotes around values with blanks or one of these two, names in any case. An unknown key is an error. " +
		"The section `Postern` is ours. How to set the server up: [aliases-postfix.md](aliases-postfix.md)."
)
