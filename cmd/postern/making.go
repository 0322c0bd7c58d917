package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// making is what an init command made, so that it can be told, and taken back when it fails.
type making struct {
	made []string
	kept []string
	undo []func() // of what was made, newest last
}

// takeBack removes what was made.
func (m *making) takeBack() {
	for _, undo := range slices.Backward(m.undo) {
		undo()
	}
}

// write makes a file that is not there, with its directory.
func (m *making) write(name, text string) error {
	const op = "cmd.init"
	dir := filepath.Dir(name)
	var fresh []string // directories, innermost first
	for d := dir; !exists(d); d = filepath.Dir(d) {
		fresh = append(fresh, d)
	}
	for _, d := range slices.Backward(fresh) {
		if err := os.Mkdir(d, 0o755); err != nil {
			return errs.E(op, errs.Unavailable, "cannot make the directory "+dir, err)
		}
		m.undo = append(m.undo, func() { os.Remove(d) })
	}
	if err := vfs.WriteFileAtomic(vfs.OS(), name, []byte(text), 0o644); err != nil {
		return hint(errs.E(op, errs.KindOf(err), "cannot write "+name, err), "To write the configuration elsewhere: --config FILE")
	}
	m.undo = append(m.undo, func() { os.Remove(name) })
	m.made = append(m.made, name)
	return nil
}

// writeOrKeep makes a file, or keeps the one that is there; an empty name is no file.
func (m *making) writeOrKeep(name, text string) error {
	switch {
	case name == "":
		return nil
	case exists(name):
		m.kept = append(m.kept, name)
		return nil
	}
	return m.write(name, text)
}

// decided is what an init command finds out before it makes anything: where things belong, the
// configuration that is there or will be, and the text of the unit, if one is wanted.
func decided(place, configuration func() error, unit bool, unitText func() (string, error)) (text string, err error) {
	if err := place(); err != nil {
		return "", err
	}
	if err := configuration(); err != nil || !unit {
		return "", err
	}
	return unitText()
}

// told lists what was made and kept, a line each; what says more of a name.
func (m *making) told(what func(name string) string) string {
	var b strings.Builder
	for _, list := range []struct {
		word  string
		names []string
	}{{"Made", m.made}, {"Kept", m.kept}} {
		for _, n := range list.names {
			text := ""
			if w := what(n); w != "" {
				text = "  (" + w + ")"
			}
			fmt.Fprintf(&b, "%s  %s%s\n", list.word, n, text)
		}
	}
	return b.String()
}

// nextSteps lists commands to type next, and what each is for.
func nextSteps(commands []string, why ...string) string {
	var b strings.Builder
	b.WriteString("\nNext:\n")
	width := 0
	for _, c := range commands {
		width = max(width, len(c))
	}
	for i, c := range commands {
		fmt.Fprintf(&b, "  %-*s  # %s\n", width, c, why[i])
	}
	return b.String()
}

// enable is the command that starts a unit, now and whenever the machine or user does; systemctl is its
// beginning.
func enable(systemctl, unit string) string {
	return systemctl + " daemon-reload && " + systemctl + " enable --now " + strings.TrimSuffix(filepath.Base(unit), ".service")
}

// choice is an option that an operator must think of: it stands in a fresh file as a comment,
// with what could stand there.
type choice struct{ key, why, example string }

// assignment is the line of a file that sets an option.
func assignment(v any, key string) string {
	text, err := config.Assignment(v, key)
	if err != nil {
		panic("init: " + err.Error()) // the keys are those of the configuration itself
	}
	return text
}

// sections writes the sections of a fresh file: what --set says, and the choices.
func sections(v any, choices []choice, set []string) string {
	given := map[string]bool{}
	for _, word := range set {
		key, _, _ := strings.Cut(word, "=")
		given[strings.TrimSpace(key)] = true
	}
	var b strings.Builder
	section := ""
	for _, o := range config.Options(v) {
		head, _, inside := strings.Cut(o.Key, ".")
		i := slices.IndexFunc(choices, func(x choice) bool { return x.key == o.Key })
		if !inside || i < 0 && !given[o.Key] {
			continue
		}
		if head != section {
			section = head
			fmt.Fprintf(&b, "\n[%s]\n", section)
		}
		if i >= 0 && choices[i].why != "" {
			fmt.Fprintf(&b, "# %s\n", choices[i].why)
		}
		if given[o.Key] {
			b.WriteString(assignment(v, o.Key) + "\n")
			continue
		}
		fmt.Fprintf(&b, "#%s = %s\n", o.Key[len(head)+1:], choices[i].example)
	}
	return b.String()
}

// systemOnly are folders that a service cannot see (ProtectHome, PrivateTmp).
var systemOnly = []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"}

// executable is the file of this program.
func executable() (string, error) {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return "", errs.E("cmd.executable", errs.Unavailable, "cannot find the program's own file", err)
	}
	return exe, nil
}

// ownProgram is the file of this program, for a unit of the system that starts it with a configuration.
func ownProgram(file string) (string, error) {
	const op = "cmd.init"
	exe, err := executable()
	if err != nil {
		return "", err
	}
	for _, hidden := range systemOnly {
		if strings.HasPrefix(exe, hidden) || strings.HasPrefix(file, hidden) {
			return "", hint(errs.E(op, errs.Invalid, "the service cannot see what lies under "+strings.TrimSuffix(hidden, "/"), nil),
				"Copy the program to /usr/local/bin/postern, run it from there, and leave --config out.")
		}
	}
	return exe, nil
}

// startLine puts program and configuration into a unit, whose ExecStart is that of the usual
// places.
func startLine(unit, command, usualFile, exe, file string) (string, error) {
	for _, name := range []string{exe, file} {
		if strings.ContainsFunc(name, func(r rune) bool {
			return r <= ' ' || r > '~' || strings.ContainsRune(`"'\%$;`, r)
		}) {
			return "", errs.E("cmd.init", errs.Invalid, "a unit cannot name this path: "+name, nil)
		}
	}
	start := "ExecStart=/usr/local/bin/postern " + command + " --config " + usualFile + "\n"
	before, after, ok := strings.Cut(unit, start)
	if !ok {
		return "", errs.E("cmd.init", errs.Internal, "the unit in the program has no "+start, nil)
	}
	return before + "ExecStart=" + exe + " " + command + " --config " + file + "\n" + after, nil
}
