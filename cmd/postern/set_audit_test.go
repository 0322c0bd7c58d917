package main

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"testing"
	"time"
)

// TestSetEverywhere: every command that reads a configuration takes --config and --set,
// and a wrong --set stops it before it does anything, with exit code 2 and the key.
func TestSetEverywhere(t *testing.T) {
	arguments := map[string][]string{
		"postern account create": {"nobody"}, "postern account show": {"nobody"}, "postern account passwd": {"nobody"},
		"postern account block": {"nobody"}, "postern account unblock": {"nobody"}, "postern account set": {"nobody", "--quota", "1G"},
		"postern account delete": {"nobody", "--yes"}, "postern account mix": {"nobody", "--list"}, "postern store reveal": {"--node-key"}, "postern store move-key": {"--to", "file"},
		"postern serve":      {"--config", "testdata/empty.toml"},
		"postern queue show": {"3f9c"}, "postern queue drop": {"3f9c", "--yes"}, "postern queue export": {"3f9c"},
		"postern init": {"example.org"}, "postern mix init": {"nobody"},
		"postern authority init": {"some-net"}, "postern authority approve": {"3f9c"}, "postern authority reject": {"3f9c"}, "postern authority forget": {"3f9c"},
		"postern proxy init": {"anna@relay.example"}, "postern proxy passwd": {"anna"}, "postern proxy verify": {"bob@relay.example"}, "postern proxy nyms make": {"Fox"}, "postern proxy nyms forget": {"Fox"}, "postern proxy evidence": {"shop@relay.example", "--user", "anna"}, "postern proxy recipients get": {"bob@relay.example"},
		"postern proxy recipients set": {"bob@relay.example", "key"}, "postern proxy recipients remove": {"bob@relay.example"}, "postern proxy recipients query": {"anna@relay.example", "bob@relay.example"},
		"postern queue retry": {"--all"}, "postern queue hold": {"--all"}, "postern queue release": {"--all"},
	}
	none := map[string]bool{"postern version": true, "postern config describe": true, "postern mix config": true, "postern authority config": true,
		"postern authority network": true, "postern import mixminiond": true, "postern import mailproxy": true, "postern proxy config": true, "postern lab world": true, "postern mix simulate": true}
	// The server beside a Postfix has IncognitoMail's configuration, -c; evidence needs none.
	for _, name := range []string{"config", "doctor", "serve", "status", "sync", "unit", "verify-evidence"} {
		none["postern alias "+name] = true
	}
	for _, name := range []string{"show", "pause", "resume", "restore", "pin", "evidence", "delete handle", "new account", "target"} {
		arguments["postern alias "+name] = []string{"shop@relay.example"}
	}
	for _, name := range []string{"allow", "block", "forget", "elsewhere reverse"} {
		arguments["postern alias "+name] = []string{"shop@relay.example", "eve@other.example"}
	}
	maps.Copy(arguments, map[string][]string{"postern alias mode": {"shop", "ask"}, "postern alias elsewhere key": {"shop", "--none"}, "postern alias class": {"shop", "strict"}, "postern alias expire": {"shop", "never"},
		"postern alias label": {"shop", "a label"}, "postern alias import": {"file.csv"}, "postern alias token revoke": {"0011223344556677"}})
	// A client of the mix network has a directory and no configuration.
	for _, name := range []string{"register", "address", "run", "send", "fetch", "sent", "ping", "reply-block make", "reply-block list", "reply-block use", "reply-block inspect"} {
		none["postern mix "+name] = true
	}
	// Roles have their own options: what is written wrongly, and what was meant.
	wrong := func(path string) (set, meant string) {
		switch {
		case strings.HasPrefix(path, "postern mix "):
			return "mixing.intervall=1h", "mixing.interval"
		case strings.HasPrefix(path, "postern proxy "):
			return "Proxy.SMTPAuht=false", "Proxy.SMTPAuth"
		case strings.HasPrefix(path, "postern authority "):
			return "vote.profil=low", "vote.profile"
		}
		return "mail.max_mailbox_sice=1G", "mail.max_mailbox_size"
	}
	all := newRoot(streams{strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}}).Commands()
	tried := 0
	for len(all) > 0 {
		c := all[0]
		all = append(all[1:], c.Commands()...)
		if c.HasSubCommands() || none[c.CommandPath()] {
			continue
		}
		if c.Flags().Lookup("config") == nil || c.Flags().Lookup("set") == nil {
			t.Errorf("%s: no --config or no --set", c.CommandPath())
			continue
		}
		args := append(strings.Fields(c.CommandPath())[1:], arguments[c.CommandPath()]...)
		if c.CommandPath() != "postern config check" {
			args = append(args, "--dir", t.TempDir())
		}
		var out, errs bytes.Buffer
		// A command that takes the wrong option would start a server and stay.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		set, meant := wrong(c.CommandPath())
		code := run(ctx, append(args, "--set", set), streams{strings.NewReader(""), &out, &errs})
		cancel()
		if code != exitUsage || !strings.Contains(errs.String(), `the nearest known key is "`+meant+`"`) || out.Len() > 0 {
			t.Errorf("%s: exit code %d, %q, %q", c.CommandPath(), code, out.String(), errs.String())
		}
		tried++
	}
	if tried < 15 {
		t.Errorf("only %d commands were tried", tried)
	}
}
