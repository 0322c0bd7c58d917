package postmap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"postern.email/kit/errs"
)

// Postfix is a Postfix of this machine, asked through its own programs.
type Postfix struct {
	ConfigDir string // "": the usual one, or that of MAIL_CONFIG
	Dir       string // where postmap and postconf are; "": looked for in PATH and the usual places
}

// usualDirs are looked in besides PATH: a service's may be short.
var usualDirs = []string{"/usr/sbin", "/usr/local/sbin", "/sbin"}

// maxSaid bounds what is kept of what a program of Postfix says, in bytes.
const maxSaid = 1 << 20

// Program finds one of Postfix's programs. errs.NotFound.
func (p Postfix) Program(name string) (string, error) {
	if p.Dir != "" {
		path := filepath.Join(p.Dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path, nil
		}
		return "", errs.E("kit/postmap.Program", errs.NotFound, "there is no program "+path, nil)
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range usualDirs {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", errs.E("kit/postmap.Program", errs.NotFound, "there is no program "+name+" on this machine: is Postfix installed?", nil)
}

// run runs one of Postfix's programs and gives what it said. errs.NotFound, errs.Unavailable (with what it
// said last, in the cause).
func (p Postfix) run(ctx context.Context, name string, args ...string) (string, error) {
	const op = "kit/postmap.run"
	path, err := p.Program(name)
	if err != nil {
		return "", err
	}
	if p.ConfigDir != "" {
		args = append([]string{"-c", p.ConfigDir}, args...)
	}
	c := exec.CommandContext(ctx, path, args...)
	out, said := &bounded{}, &bounded{}
	c.Stdout, c.Stderr = out, said
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			return "", errs.E(op, errs.Canceled, "", ctx.Err())
		}
		if errors.Is(err, fs.ErrPermission) {
			return "", errs.E(op, errs.Denied, "the program "+path+" may not be run", err)
		}
		last := strings.TrimSpace(said.String())
		return "", errs.E(op, errs.Unavailable, name+" of Postfix failed", fmt.Errorf("%w: %s", err, last[strings.LastIndexByte(last, '\n')+1:]))
	}
	return out.String(), nil
}

// bounded is a buffer that keeps the first maxSaid bytes.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxSaid - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// Compile runs postmap on the text at path.
func (p Postfix) Compile(ctx context.Context, typ, path string) error {
	_, err := p.run(ctx, "postmap", typ+":"+path)
	return errs.Wrap("kit/postmap.Compile", err)
}

// Query looks a key up, as Postfix does; "" where there is nothing.
func (p Postfix) Query(ctx context.Context, typ, path, key string) (string, error) {
	out, err := p.run(ctx, "postmap", "-q", key, typ+":"+path)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return "", nil // postmap(1), "-q"
	}
	return strings.TrimSpace(out), errs.Wrap("kit/postmap.Query", err)
}

// Settings gives values of main.cf with everything in them expanded (postconf -x).
func (p Postfix) Settings(ctx context.Context, names ...string) (map[string]string, error) {
	out, err := p.run(ctx, "postconf", append([]string{"-x"}, names...)...)
	if err != nil {
		return nil, errs.Wrap("kit/postmap.Settings", err)
	}
	all := map[string]string{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(line, "="); ok {
			all[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return all, nil
}

// Knows tells whether this Postfix has a type of table (postconf -m): in some distributions, each of them is a package
// of its own.
func (p Postfix) Knows(ctx context.Context, typ string) (bool, error) {
	out, err := p.run(ctx, "postconf", "-m")
	return slices.Contains(strings.Fields(out), typ), errs.Wrap("kit/postmap.Knows", err)
}

// Use is a place in main.cf that names a table.
type Use struct{ Parameter, Type string }

// Uses finds the places in settings that name the table at path, by the order of parameters.
func Uses(settings map[string]string, parameters []string, path string) (all []Use) {
	for _, name := range parameters {
		for _, word := range strings.FieldsFunc(settings[name], func(r rune) bool { return strings.ContainsRune(", \t{}", r) }) {
			word = strings.TrimPrefix(word, "proxy:")
			typ, file, ok := strings.Cut(word, ":")
			u := Use{name, typ}
			if ok && filepath.Clean(file) == filepath.Clean(path) && !slices.Contains(all, u) {
				all = append(all, u)
			}
		}
	}
	return all
}
