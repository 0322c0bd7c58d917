package access

import (
	"testing"

	"postern.email/kit/vfs"
	"postern.email/wire/imap/imaptest"
)

// TestModel: random commands of three sessions on the real store agree with a model
// written from the RFCs.
func TestModel(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(t, vfs.NewCrashDisk(), "/data", nil)
		err := imaptest.RunModel(imaptest.ModelOptions{Addr: w.addr, Login: "bobbobbob@example.org secret-word",
			Sessions: 3, Steps: 400, Seed: 1000 + seed,
			Deliver: func() { w.deliver("bobbobbob@example.org", "INBOX", "Subject: x\r\n\r\nbody\r\n") }})
		if err != nil {
			t.Fatal(err)
		}
	}
}
