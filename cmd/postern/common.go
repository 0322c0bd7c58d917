package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/role/relay"
	"postern.email/wire/control"
)

// source is where a command's configuration comes from.
type source struct {
	file string
	dir  string
	set  []string
}

// flags adds --config, --dir and --set.
func (s *source) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.file, "config", "", "configuration file (default $POSTERN_CONFIG; for root "+systemConfig+", if it exists)")
	c.Flags().StringVar(&s.dir, "dir", "", "data directory (default: that of the configuration, or of \"postern up\")")
	s.setFlag(c)
}

func (s *source) setFlag(c *cobra.Command) {
	c.Flags().StringArrayVar(&s.set, "set", nil, "override an option, section.key=`value`; may be repeated")
}

// systemConfig is the configuration of the relay that belongs to the machine.
const systemConfig = "/etc/postern/postern.toml"

// find names the file to read where neither --config nor --dir says it: that of
// $POSTERN_CONFIG, and for root that of the machine's relay, if there is one.
func (s *source) find() {
	if s.file != "" || s.dir != "" {
		return
	}
	if s.file = os.Getenv("POSTERN_CONFIG"); s.file != "" || os.Geteuid() != 0 {
		return
	}
	if _, err := os.Stat(systemConfig); err == nil {
		s.file = systemConfig
	}
}

// load reads the configuration that was named or found. Without any it is that of
// `postern up`.
func (s *source) load() (relay.Config, error) {
	s.find()
	var c relay.Config
	if err := config.Load(&c, s.file, nil); err != nil {
		return c, hint(err, "To see what can be set: postern config describe")
	}
	if s.file == "" {
		c.Dir = upDir()
	}
	if s.dir != "" {
		c.Dir = s.dir
	}
	if err := config.Apply(&c, s.set); err != nil {
		return c, usageError{"postern config describe", err}
	}
	if err := c.Check(); err != nil {
		return c, hint(err, "To see what can be set: postern config describe")
	}
	abs, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, errs.E("cmd.load", errs.Invalid, "the data directory has no path", err)
	}
	c.Dir = abs
	return c, nil
}

// upDir is the data directory of `postern up`, by the XDG base directories.
func upDir() string {
	base := os.Getenv("XDG_DATA_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return filepath.Join(os.TempDir(), "postern-up")
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "postern", "up")
}

// call asks the running server; its absence is an error that says what to type.
func (s *source) call(ctx context.Context, command string, args, result any, progress func(json.RawMessage)) error {
	c, err := s.load()
	if err != nil {
		return err
	}
	err = control.Call(ctx, c.Dir, command, args, result, progress)
	if errs.KindOf(err) == errs.NotFound && isNoServer(ctx, c.Dir) {
		next := "To start one: postern up"
		if s.dir != "" {
			next += " --dir " + s.dir
		}
		if s.file != "" {
			next = "To start one: postern serve --config " + s.file
		} else if s.dir == "" {
			next += "\n  If yours keeps its data elsewhere, name it: --dir DIR or --config FILE"
		}
		return hint(err, next)
	}
	return err
}

// isNoServer tells the absence of a server from the absence of what was asked for.
func isNoServer(ctx context.Context, dir string) bool {
	return errs.KindOf(control.Call(ctx, dir, "status", nil, nil, nil)) == errs.NotFound
}

// careless tells whether the environment says that the rights of private files are not looked at.
func careless() bool {
	return os.Getenv("POSTERN_NO_FILE_PARANOIA") != "" || os.Getenv("MM_NO_FILE_PARANOIA") != ""
}

// printJSON writes one line.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return errs.E("cmd.print", errs.Unavailable, "cannot write the output", err)
	}
	return nil
}

// asJSON adds --json.
func asJSON(c *cobra.Command) *bool {
	return c.Flags().Bool("json", false, "print JSON")
}

func versionCommand(io streams) *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print the version", GroupID: groupConfig, Args: cobra.NoArgs, Example: "  postern version --json"}
	js := asJSON(c)
	c.RunE = func(*cobra.Command, []string) error {
		v := map[string]string{"version": relay.Version}
		if b, ok := debug.ReadBuildInfo(); ok {
			v["go"] = b.GoVersion
			for _, s := range b.Settings {
				if s.Key == "vcs.revision" {
					v["commit"] = s.Value
				}
			}
		}
		if *js {
			return printJSON(io.out, v)
		}
		fmt.Fprintf(io.out, "postern %s (%s)\n", v["version"], v["go"])
		return nil
	}
	return c
}
