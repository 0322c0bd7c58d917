package mailbox

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/vfs"
)

// TestDeletedBytesLeaveByDefault: with the default options, and deleted in the worst
// moment, right after a purge, a mail's bytes are in no file ten minutes later: expunged
// and expired ones, small and large.
func TestDeletedBytesLeaveByDefault(t *testing.T) {
	const promised = 10 * time.Minute
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashDisk()
		w := newWorld(t, withFS(fs))
		k, l := w.user(), w.user()
		w.deliver(mailOf(1, 20_000), k)
		w.deliver(mailOf(2, 100_000), k)
		w.deliver(mailOf(3, 20_000), l)
		pieces := append(sealedBytes(t, w, k), sealedBytes(t, w, l)...)
		found := func() (n int) {
			for _, dir := range []string{w.dir + "/store", w.dir + "/blobs"} {
				names, err := fs.List(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range names {
					b, err := vfs.ReadFile(fs, fs.PathJoin(dir, name))
					if err != nil {
						continue // gone since
					}
					for _, p := range pieces {
						if bytes.Contains(b, p) {
							n++
						}
					}
				}
			}
			return n
		}
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error)
		go func() { ran <- w.boxes.Run(ctx) }()
		synctest.Wait() // the purge of the start is over
		expungeAll(t, w, k, 1, 2)
		w.clock.Add(30 * 24 * time.Hour)
		if err := w.boxes.expireAll(ctx); err != nil {
			t.Fatal(err)
		}
		if found() == 0 {
			t.Fatal("nothing is found before: the search is blind")
		}
		time.Sleep(promised)
		if n := found(); n != 0 {
			t.Errorf("%d places hold deleted bytes after %v", n, promised)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		w.close()
	})
}
