package main

import (
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern.email/kit/config"
	"postern.email/role/relay"
	"postern.email/wire/web"
)

// upPorts are the ports of `postern up`, high enough for any user (DESIGN §7).
var upPorts = []struct{ key, port string }{{"https", "8443"}, {"imaps", "8993"}, {"imap", "8143"}, {"smtp", "8025"},
	{"submissions", "8465"}, {"submission", "8587"}, {"pop3s", "8995"}, {"pop3", "8110"}}

func upCommand(io streams) *cobra.Command {
	var src source
	var ports string
	c := &cobra.Command{
		Use: "up", Short: "Try it: run a relay on this machine, without root or DNS", GroupID: groupRun, Args: cobra.NoArgs,
		Long: `Run a relay on loopback and print how to use it. Nothing has to be set up: the
certificate and the data directory are made on the first start, and the same
directory continues where it was. Ctrl-C stops it.`,
		Example: "  postern up\n  postern up --ports 0            # take free ports\n  postern up --dir /tmp/try --json",
	}
	src.setFlag(c)
	c.Flags().StringVar(&src.file, "config", "", "configuration file; its options are used but for domain, dir and ports")
	c.Flags().StringVar(&src.dir, "dir", "", "data directory (default postern/up in $XDG_DATA_HOME, that is ~/.local/share)")
	c.Flags().StringVar(&ports, "ports", "", "0: take free ports in place of the usual ones")
	js := c.Flags().Bool("json", false, "print one line of JSON when every listener answers, nothing else")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if ports != "" && ports != "0" {
			return usageError{"postern up", fmt.Errorf("--ports takes 0 only; to choose one: --set listen.imaps=127.0.0.1:9993")}
		}
		load := func() (relay.Config, error) { return upConfig(src, ports == "0") }
		cfg, err := load()
		if err != nil {
			return err
		}
		return serve(c.Context(), io, cfg, serveOptions{clientHost: "127.0.0.1", quiet: true, reread: load, ready: func(i relay.Info) error {
			if *js {
				return printJSON(io.out, i)
			}
			return greet(io, i, src)
		}})
	}
	return c
}

// upConfig is the configuration of `postern up`: what --set says wins over all.
func upConfig(src source, free bool) (relay.Config, error) {
	set := []string{"domain=postern.localhost"}
	for _, p := range upPorts {
		port := p.port
		if free {
			port = "0"
		}
		set = append(set, "listen."+p.key+"="+net.JoinHostPort("127.0.0.1", port))
	}
	mixPort := "48099"
	if free {
		mixPort = "0"
	}
	set = append(set, "mixnet.listen="+net.JoinHostPort("127.0.0.1", mixPort)) // of a relay that is in a mix network
	// One web port is enough to try things, and no authority vouches for what only this
	// machine reaches.
	set = append(set, "listen.http=off", "listen.https_alt=off")
	// A name that exists on this machine only can write to nobody else.
	set = append(set, "delivery.remote=false")
	kept := len(set)
	// A machine to try things on is often short of what a real relay should have.
	set = append(set, "accounts.max_load=0", "accounts.min_available_memory=0", "accounts.min_free_disk_space=0")
	if src.file != "" {
		// The file's own choice stays for what is no matter of trying out.
		var c relay.Config
		if err := config.Load(&c, src.file, nil); err != nil {
			return c, hint(err, "To see what can be set: postern config describe")
		}
		set = set[:kept]
	}
	dir := src.dir
	if dir == "" {
		dir = upDir()
	}
	src.dir, src.set = dir, append(set, src.set...)
	c, err := src.load()
	if err == nil && c.TLS.Mode == "auto" && c.TLS.Cert == "" {
		c.TLS.Mode = "self-signed"
	}
	return c, err
}

// greet prints how to use the server.
func greet(io streams, i relay.Info, src source) error {
	login, err := web.Generate(web.Options{Domain: i.Domain, Host: "127.0.0.1", SelfSigned: true,
		Ports: web.Ports{IMAPS: portNumber(i.IMAPS), IMAP: portNumber(i.IMAP), Submissions: portNumber(i.Submissions), Submission: portNumber(i.Submission)}})
	if err != nil {
		return err
	}
	var b strings.Builder
	at := func(addr, how string) string {
		if addr == "" {
			return "off"
		}
		return addr + "  " + how
	}
	fmt.Fprintf(&b, `Postern runs. Mail for %s is kept in %s

Any mail program (user name = whole address; the certificate is self-signed):
  IMAP   %s
         %s
  SMTP   %s
         %s
  POP3   %s
         %s
An address exists when somebody logs in with it: choose a name and a password of
9 characters or more, NAME@%s.

Web page that makes an address:  https://%s/
Mail from other servers (SMTP):  %s
Certificate to trust:            %s

`, i.Domain, i.Dir, at(i.IMAPS, "TLS"), at(i.IMAP, "STARTTLS"), at(i.Submissions, "TLS"), at(i.Submission, "STARTTLS"), at(i.POP3S, "TLS"), at(i.POP3, "STARTTLS"),
		i.Domain, i.HTTPS, i.SMTP, i.TLSCert)
	fmt.Fprintf(&b, "Delta Chat on this machine: scan or paste this (a fresh address, made by the first login)\n  %s\n", login.LoginURL)
	if f, ok := io.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if code, err := web.TerminalQR(login.LoginURL); err == nil {
			b.WriteString("\n" + code)
		}
	}
	dir := ""
	if src.dir != "" {
		dir = " --dir " + src.dir
	}
	fmt.Fprintf(&b, "\nNext, in another terminal:\n  postern status%[1]s\n  postern account list%[1]s\n  postern account create NAME%[1]s\nCtrl-C stops it.\n", dir)
	_, err = fmt.Fprint(io.out, b.String())
	return err
}

func portNumber(addr string) int {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	var n int
	fmt.Sscan(port, &n)
	return n
}
