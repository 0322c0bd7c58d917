package seal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/errs"
	"postern.email/kit/passhash"
	"postern.email/kit/vfs"
)

var ctx = context.Background()

// cheapPhrase asks for a passphrase with a hash that costs little.
func cheapPhrase(s string) PassphraseSource {
	return PassphraseSource{Params: passhash.Cost{Time: 1, Memory: 8, Threads: 1}, Ask: func(context.Context, bool) ([]byte, error) { return []byte(s), nil }}
}

// sameRoot reports whether two roots are the same key.
func sameRoot(t testing.TB, a, b *Root) bool {
	t.Helper()
	sealed, err := a.Seal(PurposeInfo, nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Open(PurposeInfo, nil, sealed)
	return err == nil
}

func TestNodeKeyFileOnTheMachinesDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	fs := vfs.OS()
	key, root := filepath.Join(dir, DefaultKeyFile), filepath.Join(dir, DefaultRootFile)
	src := FileSource{FS: fs, Path: key}
	first, err := OpenRoot(ctx, fs, root, src, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{key, root} {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", filepath.Base(p), info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	second, err := OpenRoot(ctx, fs, root, src, nil)
	if err != nil || !sameRoot(t, first, second) {
		t.Fatalf("the second start: %v", err)
	}
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = OpenRoot(ctx, fs, root, src, nil)
	wantKind(t, err, errs.Denied)
	if !strings.Contains(errs.Public(err), "0640") || !strings.Contains(errs.Public(err), "chmod 600") || strings.Contains(errs.Public(err), dir) {
		t.Errorf("public text %q", errs.Public(err))
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	// A missing node key is never replaced by a new one.
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	_, err = OpenRoot(ctx, fs, root, src, nil)
	wantKind(t, err, errs.NotFound)
	if _, err := os.Stat(key); !errors.Is(err, os.ErrNotExist) {
		t.Error("a new node key was made")
	}
	// A wrong one is told apart from a damaged file.
	other := FileSource{FS: fs, Path: filepath.Join(dir, "other", DefaultKeyFile)}
	if _, err := OpenRoot(ctx, fs, filepath.Join(dir, "other", DefaultRootFile), other, nil); err != nil {
		t.Fatal(err)
	}
	_, err = OpenRoot(ctx, fs, root, other, nil)
	wantKind(t, err, errs.Auth)
	if err := os.WriteFile(key, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = OpenRoot(ctx, fs, root, src, nil)
	wantKind(t, err, errs.Invalid)
}

func TestPassphrase(t *testing.T) {
	fs := crvfs.NewMem()
	first, err := OpenRoot(ctx, fs, "root", cheapPhrase("a long passphrase"), nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenRoot(ctx, fs, "root", cheapPhrase("a long passphrase"), nil)
	if err != nil || !sameRoot(t, first, again) {
		t.Fatal(err)
	}
	_, err = OpenRoot(ctx, fs, "root", cheapPhrase("another passphrase"), nil)
	wantKind(t, err, errs.Auth)
	_, err = OpenRoot(ctx, fs, "root", FileSource{FS: fs, Path: "node.key"}, nil)
	wantKind(t, err, errs.Invalid)
	if want := "this data directory takes its node key from a passphrase, not from a file"; errs.Public(err) != want {
		t.Errorf("%q", errs.Public(err))
	}
	_, err = OpenRoot(ctx, fs, "other", cheapPhrase("12345678901"), nil)
	wantKind(t, err, errs.Denied)
	_, err = OpenRoot(ctx, fs, "other", PassphraseSource{}, nil)
	wantKind(t, err, errs.Invalid)
	confirmed := false
	ask := PassphraseSource{Params: passhash.Cost{Time: 1, Memory: 8, Threads: 1}, Ask: func(_ context.Context, confirm bool) ([]byte, error) {
		confirmed = confirm
		return []byte("a long passphrase"), nil
	}}
	if _, err := OpenRoot(ctx, fs, "third", ask, nil); err != nil || !confirmed {
		t.Errorf("a new passphrase is not confirmed: %v", err)
	}
	if _, err := OpenRoot(ctx, fs, "third", ask, nil); err != nil || confirmed {
		t.Errorf("a known one is confirmed: %v", err)
	}
}

func TestCredential(t *testing.T) {
	fs := crvfs.NewMem()
	put := func(path, content string) {
		t.Helper()
		if err := writePrivate(fs, path, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	raw := strings.Repeat("k", KeyLen)
	put("creds/postern-node-key", raw)
	first, err := OpenRoot(ctx, fs, "root", CredentialSource{FS: fs, Dir: "creds"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	put("creds/text", string(encodeNodeKey(nodeKey([]byte(raw)))))
	again, err := OpenRoot(ctx, fs, "root", CredentialSource{FS: fs, Dir: "creds", File: "text"}, nil)
	if err != nil || !sameRoot(t, first, again) {
		t.Fatal(err)
	}
	for kind, src := range map[errs.Kind]CredentialSource{
		errs.NotFound: {FS: fs, Dir: "creds", File: "missing"},
		errs.Invalid:  {FS: fs, Dir: ""},
		errs.Corrupt:  {FS: fs, Dir: "creds", File: "huge"},
	} {
		put("creds/huge", strings.Repeat("x", maxSmallFile+1))
		_, err := OpenRoot(ctx, fs, "root", src, nil)
		wantKind(t, err, kind)
	}
	_, err = OpenRoot(ctx, fs, "root", CredentialSource{FS: fs, Dir: "creds", File: "../node.key"}, nil)
	wantKind(t, err, errs.Invalid)
}

func TestRewrap(t *testing.T) {
	fs := crvfs.NewMem()
	file := FileSource{FS: fs, Path: "keys/node.key"}
	phrase := cheapPhrase("a long passphrase")
	root, err := OpenRoot(ctx, fs, "data/root.key", file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Rewrap(ctx, fs, "data/root.key", phrase, file, nil); errs.KindOf(err) != errs.Invalid {
		t.Fatalf("from a source that it does not have: %v", err)
	}
	if err := Rewrap(ctx, fs, "data/root.key", file, phrase, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRoot(ctx, fs, "data/root.key", file, nil); errs.KindOf(err) != errs.Invalid {
		t.Fatalf("the old source opens: %v", err)
	}
	again, err := OpenRoot(ctx, fs, "data/root.key", phrase, nil)
	if err != nil || !sameRoot(t, root, again) {
		t.Fatal(err)
	}
	other := FileSource{FS: fs, Path: "usb/node.key"}
	if err := Rewrap(ctx, fs, "data/root.key", phrase, other, nil); err != nil {
		t.Fatal(err)
	}
	again, err = OpenRoot(ctx, fs, "data/root.key", other, nil)
	if err != nil || !sameRoot(t, root, again) {
		t.Fatal(err)
	}
	_, err = OpenRoot(ctx, fs, "data/root.key", file, nil)
	wantKind(t, err, errs.Auth)
	wantKind(t, Rewrap(ctx, fs, "nothing", file, phrase, nil), errs.NotFound)
}

// The machine loses power at every sync of the first start and of a move: the
// next start works, with the same root key once it was used.
func TestNodeKeyPowerCut(t *testing.T) {
	disk := vfs.NewCrashDisk()
	phrase := cheapPhrase("a long passphrase")
	var root *Root
	cuts := 0
	look := func(p vfs.SyncPoint) {
		for _, mode := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
			cuts++
			after := disk.Clone(mode, uint64(p.N))
			got, err := OpenRoot(ctx, after, "data/root.key", FileSource{FS: after, Path: "data/node.key"}, nil)
			if errs.KindOf(err) == errs.Invalid { // the move has happened
				got, err = OpenRoot(ctx, after, "data/root.key", phrase, nil)
			}
			if err != nil {
				t.Errorf("sync %d after=%t %v: %v", p.N, p.After, mode, err)
			} else if root != nil && !sameRoot(t, root, got) {
				t.Errorf("sync %d after=%t %v: another root key", p.N, p.After, mode)
			}
		}
	}
	fs := vfs.NewSyncPoints(disk, func(p vfs.SyncPoint) { look(p) })
	file := FileSource{FS: fs, Path: "data/node.key"}
	var err error
	if root, err = OpenRoot(ctx, fs, "data/root.key", file, nil); err != nil {
		t.Fatal(err)
	}
	if err := Rewrap(ctx, fs, "data/root.key", file, phrase, nil); err != nil {
		t.Fatal(err)
	}
	if cuts < 12 {
		t.Errorf("only %d cuts", cuts)
	}
	after := disk.Clone(vfs.Dropped, 1)
	got, err := OpenRoot(ctx, after, "data/root.key", phrase, nil)
	if err != nil || !sameRoot(t, root, got) {
		t.Errorf("what was acknowledged is gone: %v", err)
	}
}

func TestRootFileIsStrict(t *testing.T) {
	for _, bad := range []string{"", "{}", `{"postern-root-key":2}`, `{"postern-root-key":1,"other":1}`, `{"postern-root-key":1} x`, `{"postern-root-key":1}{}`} {
		if _, err := decodeRootFile([]byte(bad)); errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// Nothing of the head can be changed under the seal.
	fs := crvfs.NewMem()
	if _, err := OpenRoot(ctx, fs, "root", cheapPhrase("a long passphrase"), nil); err != nil {
		t.Fatal(err)
	}
	b, err := readSmall(fs, "root")
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{`"passphrase"`, `"file"`}, {"t=1 m=8", "t=2 m=8"}} {
		changed := bytes.Replace(b, []byte(change[0]), []byte(change[1]), 1)
		if bytes.Equal(changed, b) {
			t.Fatalf("%q is not in %s", change[0], b)
		}
		if err := writePrivate(fs, "root", changed); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenRoot(ctx, fs, "root", cheapPhrase("a long passphrase"), nil); err == nil {
			t.Errorf("opened with %q", change[1])
		}
	}
}
