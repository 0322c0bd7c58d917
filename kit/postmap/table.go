package postmap

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unicode"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// DefaultMaxLines bounds the lines of ours in a table.
const DefaultMaxLines = 1_000_000

// maxTries bounds how often a table is read again because somebody wrote it meanwhile.
const maxTries = 5

// suffixes are those of the files that postmap makes, by the type of table, where it makes one.
var suffixes = map[string]string{"hash": ".db", "btree": ".db", "cdb": ".cdb", "lmdb": ".lmdb"}

// Types are the types of table that can be kept, as in main.cf.
func Types() []string { return []string{"btree", "cdb", "hash", "lmdb"} }

// Options of a table. Path, Type and Compile are needed.
type Options struct {
	FS   vfs.FS // nil: the machine's own
	Path string // of the text, as it stands in main.cf
	Type string // one of Types

	// Compile makes the index of the text at path, beside it and with the suffix of its type
	// (Postfix.Compile).
	Compile func(ctx context.Context, typ, path string) error

	MaxLines int // 0: DefaultMaxLines
}

// Table is one table. Its methods may be called by many goroutines, and change it one at a time;
// one process keeps a table.
type Table struct {
	o     Options
	text  string // where the text is, behind all links
	index string
	mu    sync.Mutex
	// settled: text and index are known to fit. After a crash or an error between the two renames the index may
	// be of a text that never came, so the first Sync of a process writes in any case.
	settled bool
}

// New names a table; it need not be there yet. errs.Unsupported for a type that has no index, or one
// of several files; errs.Invalid for a path that is not absolute.
func New(o Options) (*Table, error) {
	const op = "kit/postmap.New"
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.MaxLines <= 0 {
		o.MaxLines = DefaultMaxLines
	}
	suffix, ok := suffixes[o.Type]
	if !ok {
		return nil, errs.E(op, errs.Unsupported, fmt.Sprintf("a map of the type %q cannot be kept; there are %s", o.Type, strings.Join(Types(), ", ")), nil)
	}
	if !strings.HasPrefix(o.Path, "/") {
		return nil, errs.E(op, errs.Invalid, "the path of the map must be absolute", nil)
	}
	t := &Table{o: o, text: o.Path, index: o.Path + suffix}
	if o.FS == vfs.OS() {
		if p, err := filepath.EvalSymlinks(o.Path); err == nil {
			t.text = p
		}
	}
	return t, nil
}

// Conflict is a line of ours that somebody else's line stands against.
type Conflict struct {
	Key  string
	Line int // of the file, from 1
}

// Result of Sync.
type Result struct {
	Changed   bool // the table was written
	Lines     int  // of ours that are in it now
	Conflicts []Conflict
}

// Sync makes the table hold these lines of ours, and no others. Many changes are one Sync. But for the first
// one it writes nothing where the table says so already. errs.Invalid when a line cannot stand in a table,
// errs.Full beyond MaxLines, errs.Corrupt when the marks do not fit, errs.Conflict when
// somebody writes the file all the time, the errors of the disk (errs.Denied, errs.NoSpace, errs.NotFound for
// the directory, errs.Unavailable), and Compile's. After an error the table is as it was, or as it
// should be.
func (t *Table) Sync(ctx context.Context, lines []Line) (Result, error) {
	const op = "kit/postmap.Sync"
	if len(lines) > t.o.MaxLines {
		return Result{}, errs.E(op, errs.Full, fmt.Sprintf("the map holds at most %d lines", t.o.MaxLines), nil)
	}
	lines = slices.Clone(lines)
	slices.SortFunc(lines, func(a, b Line) int { return strings.Compare(a.Key, b.Key) })
	for i, l := range lines {
		if !Word(l.Key) || !Word(l.Value) || i > 0 && lines[i-1].Key == l.Key {
			return Result{}, errs.E(op, errs.Invalid, "an entry cannot stand in a map of Postfix", nil)
		}
	}
	r, err := t.change(ctx, func(f *file) ([]byte, []Conflict) { return f.with(lines) })
	if err != nil {
		return Result{}, errs.Wrap(op, err)
	}
	r.Lines = len(lines) - len(r.Conflicts)
	return r, nil
}

// Disown removes lines of others that say exactly what one of these says: of a program whose place this one takes. Errors
// as Sync.
func (t *Table) Disown(ctx context.Context, lines []Line) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := t.change(ctx, func(f *file) ([]byte, []Conflict) { return f.disown(lines), nil })
	return errs.Wrap("kit/postmap.Disown", err)
}

// change makes the table what fn makes of it.
func (t *Table) change(ctx context.Context, fn func(*file) ([]byte, []Conflict)) (Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for range maxTries {
		r, again, err := t.try(ctx, fn)
		if err != nil {
			return Result{}, err
		}
		if !again {
			return r, nil
		}
	}
	return Result{}, errs.E("kit/postmap.change", errs.Conflict, "the map changes all the time; nothing was written", nil)
}

// try is change once. again: somebody wrote the text meanwhile.
func (t *Table) try(ctx context.Context, fn func(*file) ([]byte, []Conflict)) (r Result, again bool, err error) {
	old, st, err := t.read()
	if err != nil {
		return r, false, err
	}
	f, err := parse(old)
	if err != nil {
		return r, false, err
	}
	text, conflicts := fn(f)
	r.Conflicts = conflicts
	if t.settled && bytes.Equal(text, old) && st != nil && t.fresh(st) {
		return r, false, nil
	}
	r.Changed = true
	t.settled = false
	again, err = t.replace(ctx, text, st)
	t.settled = err == nil && !again
	return r, again, err
}

// read gives the text as it is; st is nil where there is none.
func (t *Table) read() (text []byte, st os.FileInfo, err error) {
	fs := t.o.FS
	st, err = fs.Stat(t.text)
	if err != nil {
		if errs.KindOf(vfs.Error("", err)) == errs.NotFound {
			return nil, nil, nil
		}
		return nil, nil, t.fault("look at", err)
	}
	if text, err = vfs.ReadFile(fs, t.text); err != nil {
		return nil, nil, t.fault("read", err)
	}
	return text, st, nil
}

func (t *Table) fault(what string, err error) error {
	return errs.E("kit/postmap.Sync", errs.KindOf(vfs.Error("", err)), "cannot "+what+" the map "+t.o.Path, err)
}

// fresh tells whether the index is there and not older than the text.
func (t *Table) fresh(text os.FileInfo) bool {
	st, err := t.o.FS.Stat(t.index)
	return err == nil && !st.ModTime().Before(text.ModTime())
}

// newText is the name of a text before it takes its place; its index has the suffix more.
func (t *Table) newText() string {
	fs := t.o.FS
	return fs.PathJoin(fs.PathDir(t.text), "."+fs.PathBase(t.text)+".postern")
}

// replace puts another text in the place of the one that st is of, with its index.
func (t *Table) replace(ctx context.Context, text []byte, st os.FileInfo) (again bool, err error) {
	fs := t.o.FS
	fresh := t.newText()
	index := fresh + suffixes[t.o.Type]
	defer func() {
		_ = fs.Remove(fresh) // what has its place is not there any more
		_ = fs.Remove(index)
	}()
	_, _ = fs.Remove(fresh), fs.Remove(index) // of a process that was killed: postmap would write into it
	if err := t.write(fresh, text, st); err != nil {
		return false, t.fault("write", err)
	}
	if err := t.o.Compile(ctx, t.o.Type, fresh); err != nil {
		return false, err
	}
	if err := t.settle(index); err != nil {
		return false, t.fault("write the index of", err)
	}
	switch now, err := fs.Stat(t.text); {
	case err != nil && st == nil:
	case err == nil && st != nil && sameFile(st, now):
	default:
		return true, nil
	}
	if err := fs.Rename(index, t.index); err != nil {
		return false, t.fault("replace the index of", err)
	}
	if err := fs.Rename(fresh, t.text); err != nil {
		return false, t.fault("replace", err)
	}
	if err := vfs.SyncDir(fs, fs.PathDir(t.index)); err != nil {
		return false, t.fault("write", err)
	}
	if a, b := fs.PathDir(t.index), fs.PathDir(t.text); a != b {
		if err := vfs.SyncDir(fs, b); err != nil {
			return false, t.fault("write", err)
		}
	}
	return false, nil
}

// sameFile tells whether nobody has written a file between two looks. A disk in memory knows no
// numbers of files.
func sameFile(a, b os.FileInfo) bool {
	x, ok := sysOf(a)
	y, also := sysOf(b)
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && ok == also && (!ok || x.Ino == y.Ino && x.Dev == y.Dev)
}

// write writes and syncs the new text, with the rights of the old one; without one only the owner
// may read it.
func (t *Table) write(path string, text []byte, st os.FileInfo) error {
	f, err := t.o.FS.Create(path, vfs.Unspecified)
	if err != nil {
		return err
	}
	mode := os.FileMode(0o600)
	if st != nil {
		mode = st.Mode().Perm()
	}
	if c, ok := f.(interface{ Chmod(os.FileMode) error }); ok {
		err = c.Chmod(mode)
	}
	if old, ok := sysOf(st); ok && err == nil && os.Geteuid() == 0 {
		err = syscall.Fchown(int(f.Fd()), int(old.Uid), int(old.Gid))
	}
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func sysOf(st os.FileInfo) (*syscall.Stat_t, bool) {
	if st == nil {
		return nil, false
	}
	s, ok := st.Sys().(*syscall.Stat_t)
	return s, ok
}

// settle makes what another program wrote durable.
func (t *Table) settle(path string) error {
	f, err := t.o.FS.OpenReadWrite(path, vfs.Unspecified)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// State is what a table holds.
type State struct {
	Exists  bool
	Ours    []Line
	Foreign int  // lines of others
	Fresh   bool // the index is there and not older than the text
}

// State reads the table. errs.Corrupt and those of the disk.
func (t *Table) State() (State, error) {
	text, st, err := t.read()
	if err != nil || st == nil {
		return State{}, err
	}
	f, err := parse(text)
	if err != nil {
		return State{Exists: true}, err
	}
	return State{Exists: true, Ours: f.ours, Foreign: len(f.foreign), Fresh: t.fresh(st)}, nil
}

// Foreign gives the line number of somebody else's entry with this key, 0 where there is none.
func (t *Table) Foreign(key string) (line int, err error) {
	text, _, err := t.read()
	if err != nil {
		return 0, err
	}
	f, err := parse(text)
	if err != nil {
		return 0, err
	}
	for _, e := range f.foreign {
		if fold(e.Key) == fold(key) {
			return e.number, nil
		}
	}
	return 0, nil
}

// Writable tells why the table cannot be written, nil where it can: it makes a file in its directory and
// removes it. errs.Denied, errs.NotFound, errs.NoSpace, errs.Unavailable.
func (t *Table) Writable() error {
	fs := t.o.FS
	for _, dir := range slices.Compact([]string{fs.PathDir(t.text), fs.PathDir(t.index)}) {
		probe := fs.PathJoin(dir, "."+fs.PathBase(t.text)+".postern-probe")
		f, err := fs.Create(probe, vfs.Unspecified)
		if err == nil {
			f.Close()
			err = fs.Remove(probe)
		}
		if err != nil {
			return errs.E("kit/postmap.Writable", errs.KindOf(vfs.Error("", err)), "no file can be made in the directory of the map "+t.o.Path, err)
		}
	}
	if _, st, err := t.read(); err != nil {
		return err
	} else if st != nil && !st.Mode().IsRegular() {
		return errs.E("kit/postmap.Writable", errs.Invalid, t.o.Path+" is no ordinary file", nil)
	}
	return nil
}

// Word tells whether a text can be a key or a value: a single word of visible letters, without
// quotes, backslashes and commas, that begins no comment.
func Word(s string) bool {
	return s != "" && len(s) <= 1024 && s[0] != '#' && !strings.ContainsAny(s, "\"\\,") &&
		strings.IndexFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar }) < 0
}
