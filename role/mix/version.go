package mix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// FormatVersion is the version of the data directory that this program writes: the number in
// the file version. What lies where is docs/mix.md's; each file has a version of its own.
const FormatVersion = 2

// foreign are the versions that mixminiond writes.
var foreign = []string{"1000", "1001"}

// version gives the format of a data directory: 0 for one that holds nothing yet.
// errs.Unsupported for that of mixminiond, errs.Corrupt for anything else.
func version(fs vfs.FS, c Config) (int, error) {
	const op = "role/mix.version"
	text, err := vfs.ReadFile(fs, c.versionFile())
	switch {
	case errs.KindOf(err) == errs.NotFound:
		for _, dir := range []string{c.keyDir(), c.packetDir()} {
			if ok, err := vfs.Exists(fs, dir); err != nil || ok {
				return 0, errs.E(op, errs.Corrupt, "there are keys or packets in "+c.Server.BaseDir+" and no file version that says in which form", err)
			}
		}
		return 0, nil
	case err != nil:
		return 0, errs.E(op, errs.KindOf(err), "cannot read "+c.versionFile(), err)
	}
	word := strings.TrimSpace(string(text))
	if slices.Contains(foreign, word) {
		return 0, errs.E(op, errs.Unsupported, c.Server.BaseDir+" belongs to mixminiond: its keys and packets are of another protocol and cannot be taken over; choose another server.base_dir (BaseDir)", nil)
	}
	var n int
	if k, err := fmt.Sscanf(word, "%d", &n); k != 1 || err != nil || n < 1 || fmt.Sprint(n) != word {
		return 0, errs.E(op, errs.Corrupt, c.versionFile()+" holds no version", nil)
	}
	return n, nil
}

// checkVersion refuses a data directory of another version, and begins one that is fresh.
func checkVersion(fs vfs.FS, c Config) error {
	const op = "role/mix.checkVersion"
	n, err := version(fs, c)
	switch {
	case err != nil:
		return err
	case n == 0:
		return writeVersion(fs, c)
	case n < FormatVersion:
		return errs.E(op, errs.Unsupported, fmt.Sprintf("%s has format %d, and this program works with format %d; nothing was changed", c.Server.BaseDir, n, FormatVersion), errOld)
	case n > FormatVersion:
		return errs.E(op, errs.Unsupported, fmt.Sprintf("%s has format %d, and this program knows formats up to %d: it is older than what wrote it", c.Server.BaseDir, n, FormatVersion), nil)
	}
	return nil
}

// errOld marks what Upgrade can mend.
var errOld = errors.New("an older format")

// NeedsUpgrade reports whether an error of Start says that Upgrade is to be called first.
func NeedsUpgrade(err error) bool { return errors.Is(err, errOld) }

func writeVersion(fs vfs.FS, c Config) error {
	err := vfs.WriteFileAtomic(fs, c.versionFile(), fmt.Appendf(nil, "%d\n", FormatVersion), 0o644)
	return errs.Wrap("role/mix.writeVersion", err)
}

// Upgraded says what Upgrade did.
type Upgraded struct {
	From int      `json:"from"` // 0: there was nothing
	To   int      `json:"to"`
	Did  []string `json:"did,omitempty"`
}

// Upgrade brings the data directory of a stopped node to the present format. It may be cut
// anywhere and called again: every step is a move that is looked at before it is made, and
// the file version is written last. errs.Exists when a process holds the directory; the
// errors of checkVersion.
func Upgrade(ctx context.Context, c Config, d Deps) (u Upgraded, err error) {
	const op = "role/mix.Upgrade"
	d = d.withDefaults()
	lock, err := daemon.Hold(d.FS, c.Server.BaseDir, d.Now())
	if err != nil {
		return u, errs.Wrap(op, err)
	}
	defer lock.Close()
	u.To = FormatVersion
	if u.From, err = version(d.FS, c); err != nil || u.From == 0 || u.From == FormatVersion {
		return u, errs.Wrap(op, err)
	}
	if u.From > FormatVersion {
		return u, checkVersion(d.FS, c)
	}
	if err := vfs.MkdirAll(d.FS, c.queueDir(), 0o700); err != nil {
		return u, errs.Wrap(op, err)
	}
	for _, m := range fromVersion1(d.FS, c) {
		if err := ctx.Err(); err != nil {
			return u, errs.E(op, errs.Canceled, "", err)
		}
		moved, err := move(d.FS, m.from, m.to)
		if err != nil {
			return u, errs.Wrap(op, err)
		}
		if moved {
			u.Did = append(u.Did, m.what)
		}
	}
	return u, errs.Wrap(op, writeVersion(d.FS, c))
}

// step is one move of Upgrade.
type step struct{ from, to, what string }

// fromVersion1 are the moves from format 1, in which all lay in the base directory beside the
// keys, whatever work_dir and queue_dir said, and key sets had names of digits alone.
func fromVersion1(fs vfs.FS, c Config) (all []step) {
	base := func(name string) string { return fs.PathJoin(c.Server.BaseDir, name) }
	all = []step{
		{base("stats.tmp"), c.statsTmp(), "the statistics of the present period are in work_dir"},
		{base("dir"), c.directoryDir(), "the directory of the network is in work_dir"},
		{base("packets"), c.packetDir(), "the packets are in queue_dir"},
	}
	names, _ := fs.List(c.keyDir())
	slices.Sort(names)
	for _, n := range names {
		if len(n) == 4 && strings.Trim(n, "0123456789") == "" {
			all = append(all, step{fs.PathJoin(c.keyDir(), n), fs.PathJoin(c.keyDir(), "key_"+n), "key set " + n + " is called key_" + n})
		}
	}
	return all
}

// move renames a file or directory, durably; false where it is not there, because it was
// moved before or never was. Between two disks it copies, and then shreds what was copied.
func move(fs vfs.FS, from, to string) (bool, error) {
	const op = "role/mix.move"
	old := from + ".old" // copied whole, and to be destroyed
	if there, err := vfs.Exists(fs, old); err != nil || there && shredTree(fs, old) != nil {
		return false, errs.E(op, errs.Unavailable, "cannot remove "+old, err)
	}
	there, err := vfs.Exists(fs, from)
	if err != nil || !there || from == to {
		return false, err
	}
	if err := vfs.MkdirAll(fs, fs.PathDir(to), 0o700); err != nil {
		return false, err
	}
	// While from is there it is whole, and what lies at the other place is what a cut move
	// left.
	if err := fs.RemoveAll(to); err != nil {
		return false, vfs.Error(op, err)
	}
	err = fs.Rename(from, to)
	if errors.Is(err, syscall.EXDEV) {
		if err := errors.Join(copyTree(fs, from, to), vfs.SyncDir(fs, fs.PathDir(to))); err != nil {
			return false, err
		}
		// A shredded half must never be copied over what was copied whole.
		if err := fs.Rename(from, old); err != nil {
			return false, vfs.Error(op, err)
		}
		if err := vfs.SyncDir(fs, fs.PathDir(from)); err != nil {
			return false, err
		}
		return true, shredTree(fs, old)
	}
	if err != nil {
		return false, errs.E(op, errs.KindOf(vfs.Error(op, err)), "cannot move "+from+" to "+to, err)
	}
	return true, errors.Join(vfs.SyncDir(fs, fs.PathDir(to)), vfs.SyncDir(fs, fs.PathDir(from)))
}

// copyTree copies a file or a directory of files and directories, durably. What a cut copy left
// is written over.
func copyTree(fs vfs.FS, from, to string) error {
	const op = "role/mix.copyTree"
	st, err := fs.Stat(from)
	if err != nil {
		return vfs.Error(op, err)
	}
	if !st.IsDir() {
		return copyFile(fs, from, to)
	}
	if err := vfs.MkdirAll(fs, to, 0o700); err != nil {
		return err
	}
	names, err := fs.List(from)
	if err != nil {
		return vfs.Error(op, err)
	}
	for _, n := range names {
		if err := copyTree(fs, fs.PathJoin(from, n), fs.PathJoin(to, n)); err != nil {
			return err
		}
	}
	return vfs.SyncDir(fs, to)
}

func copyFile(fs vfs.FS, from, to string) error {
	const op = "role/mix.copyFile"
	r, err := fs.Open(from)
	if err != nil {
		return vfs.Error(op, err)
	}
	defer r.Close()
	w, err := fs.Create(to, vfs.Unspecified)
	if err != nil {
		return vfs.Error(op, err)
	}
	_, err = io.Copy(w, r)
	if err == nil {
		err = w.Sync()
	}
	return vfs.Error(op, errors.Join(err, w.Close()))
}

// shredTree destroys a file or a directory with all that is in it.
func shredTree(fs vfs.FS, path string) error {
	const op = "role/mix.shredTree"
	st, err := fs.Stat(path)
	if err != nil {
		return vfs.Error(op, err)
	}
	if st.IsDir() {
		names, err := fs.List(path)
		if err != nil {
			return vfs.Error(op, err)
		}
		for _, n := range names {
			if err := shredTree(fs, fs.PathJoin(path, n)); err != nil {
				return err
			}
		}
		err = fs.Remove(path)
		return errors.Join(vfs.Error(op, err), vfs.SyncDir(fs, fs.PathDir(path)))
	}
	return errors.Join(vfs.Shred(fs, path, -1), vfs.SyncDir(fs, fs.PathDir(path)))
}
