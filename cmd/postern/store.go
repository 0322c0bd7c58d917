package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/seal"
	"postern.email/role/relay"
	"postern.email/wire/control"
)

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func storeCommand(io streams) *cobra.Command {
	c := &cobra.Command{Use: "store", Short: "Check the stored data, show what the node key opens, move the node key", GroupID: groupOperate}
	c.AddCommand(checkStore(io), revealStore(io), moveKey(io))
	return c
}

// over runs a command in the running server, or on the stopped data directory.
func over(ctx context.Context, io streams, src source, command string, each func(json.RawMessage) error, stopped func(*relay.State) error) error {
	cfg, err := src.load()
	if err != nil {
		return err
	}
	var failed error
	err = control.Call(ctx, cfg.Dir, command, nil, nil, func(p json.RawMessage) {
		if failed == nil {
			failed = each(p)
		}
	})
	if errs.KindOf(err) != errs.NotFound {
		if err != nil {
			return err
		}
		return failed
	}
	return overStopped(ctx, io, cfg, stopped)
}

// overStopped runs a command on the data directory of a relay that is stopped.
func overStopped(ctx context.Context, io streams, cfg relay.Config, do func(*relay.State) error) error {
	s, err := relay.Open(ctx, keyDeps(io, cfg), cfg)
	if err != nil {
		return startError(err)
	}
	return firstOf(do(s), s.Close(), giveBack(cfg.Dir))
}

// firstOf gives the first error there is.
func firstOf(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// keyDeps are the surroundings of a relay whose node key may have to be asked for.
func keyDeps(io streams, cfg relay.Config) relay.Deps {
	d := relay.Deps{}
	if cfg.NodeKey.Source == "passphrase" {
		d.KeySource = relay.KeySource(vfs.OS(), cfg, askPassphrase(io))
	}
	return d
}

// giveBack gives what root wrote into another user's data directory to that user: the
// service that runs as one could not read it otherwise.
func giveBack(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil || os.Geteuid() != 0 {
		return nil
	}
	owner, ok := ownerOf(dir)
	if !ok || owner.Uid == 0 {
		return nil
	}
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() && !e.IsDir() {
			return err
		}
		if now, ok := ownerOf(name); ok && now.Uid == 0 {
			return os.Lchown(name, int(owner.Uid), int(owner.Gid))
		}
		return nil
	})
	if err != nil {
		return errs.E("cmd.giveBack", errs.Unavailable, "cannot give the files in "+dir+" back to their owner", err)
	}
	return nil
}

func ownerOf(name string) (*syscall.Stat_t, bool) {
	info, err := os.Lstat(name)
	if err != nil {
		return nil, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return st, ok
}

func checkStore(io streams) *cobra.Command {
	var src source
	c := &cobra.Command{Use: "check", Short: "Walk every invariant of the stored data and name what is wrong", Args: cobra.NoArgs,
		Long:    "Walk every invariant of the stored data and name what is wrong. It changes nothing,\nand works on a running relay as well as on a stopped one.",
		Example: "  postern store check\n  postern store check --dir /var/lib/postern --json"}
	src.flags(c)
	js := c.Flags().Bool("json", false, "print one JSON object a line for each finding")
	c.RunE = func(c *cobra.Command, _ []string) error {
		n := 0
		show := func(f relay.Finding) error {
			if !f.Leftover {
				n++
			}
			if *js {
				return printJSON(io.out, f)
			}
			if f.Leftover {
				f.Text += " (a crash left it; no damage, the running relay removes it)"
			}
			_, err := fmt.Fprintf(io.out, "%s: %s\n", f.Part, f.Text)
			return err
		}
		err := over(c.Context(), io, src, "store.check", func(p json.RawMessage) error {
			var f relay.Finding
			if err := json.Unmarshal(p, &f); err != nil {
				return errs.E("cmd.check", errs.Invalid, "the server's answer cannot be read", err)
			}
			return show(f)
		}, func(s *relay.State) error {
			var failed error
			err := s.Check(c.Context(), func(f relay.Finding) {
				if err := show(f); err != nil {
					failed = err
				}
			})
			if err == nil {
				err = failed
			}
			return err
		})
		if err != nil {
			return err
		}
		if n > 0 {
			return hint(errs.E("cmd.check", errs.Corrupt, fmt.Sprintf("%d faults were found", n), nil),
				"Copy the data directory before anything else is tried with it.")
		}
		if !*js {
			fmt.Fprintln(io.out, "Everything is in order.")
		}
		return nil
	}
	return c
}

func revealStore(io streams) *cobra.Command {
	var src source
	c := &cobra.Command{Use: "reveal --node-key", Short: "Print all that the node key opens: what a thief of disk and key would read", Args: cobra.NoArgs,
		Long: `Print everything that can be read with the disk and the node key, without any
user's password. The list of kinds is the table in docs/threat-model.md.`,
		Example: "  postern store reveal --node-key --json"}
	src.flags(c)
	node := c.Flags().Bool("node-key", false, "needed: the output names every account")
	js := c.Flags().Bool("json", false, "print one JSON object a line")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !*node {
			return usageError{c.CommandPath(), fmt.Errorf("--node-key is needed: this prints the name of every account")}
		}
		show := func(r relay.Revealed) error {
			if *js {
				return printJSON(io.out, r)
			}
			_, err := fmt.Fprintf(io.out, "%s: %s\n", r.Kind, r.Text)
			return err
		}
		return over(c.Context(), io, src, "store.reveal", func(p json.RawMessage) error {
			var r relay.Revealed
			if err := json.Unmarshal(p, &r); err != nil {
				return errs.E("cmd.reveal", errs.Invalid, "the server's answer cannot be read", err)
			}
			return show(r)
		}, func(s *relay.State) error {
			var failed error
			err := s.Reveal(c.Context(), func(r relay.Revealed) {
				if err := show(r); err != nil {
					failed = err
				}
			})
			if err == nil {
				err = failed
			}
			return err
		})
	}
	return c
}

func moveKey(io streams) *cobra.Command {
	var src source
	var to, file string
	c := &cobra.Command{Use: "move-key", Short: "Wrap the root key with another node key; the relay must be stopped", Args: cobra.NoArgs,
		Long: `Move the node key: to another file (on another disk), a passphrase, or a systemd
credential. Only 32 bytes are wrapped anew; nothing else on the disk changes. The
old node key stops to open the data and should then be destroyed.`,
		Example: "  postern store move-key --to passphrase\n  postern store move-key --to file --file /media/key/node.key\n  postern store move-key --to file --set node_key.source=passphrase   # back again"}
	src.flags(c)
	c.Flags().StringVar(&to, "to", "", "file, passphrase or credential")
	c.Flags().StringVar(&file, "file", "", "with --to file: where (default node.key in the data directory)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if to != "file" && to != "passphrase" && to != "credential" {
			return usageError{c.CommandPath(), fmt.Errorf("--to is file, passphrase or credential")}
		}
		cfg, err := src.load()
		if err != nil {
			return err
		}
		next := cfg
		next.NodeKey.Source, next.NodeKey.File = to, file
		fs := vfs.OS()
		err = relay.MoveKey(c.Context(), fs, cfg, relay.KeySource(fs, cfg, askPassphrase(io)), relay.KeySource(fs, next, askPassphrase(io)))
		if err != nil {
			return hint(err, "Nothing was changed. A running relay must be stopped first: postern stop")
		}
		fmt.Fprintf(io.out, "The node key now comes from a %s. Put this into the configuration:\n\n  [node_key]\n  source = %q\n", to, to)
		if to == "file" && file != "" {
			fmt.Fprintf(io.out, "  file = %q\n", file)
		}
		if src, ok := relay.KeySource(fs, cfg, nil).(seal.FileSource); ok && (to != "file" || file != "" && file != src.Path) {
			fmt.Fprintf(io.out, "\nThe old key file opens nothing any more. Destroy it once the relay has started: %s\n", src.Path)
		}
		return nil
	}
	return c
}
