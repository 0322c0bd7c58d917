package mixclient

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/dirtest"
)

// FuzzProfile: whatever a relay answers is a registration or an error with a public text.
func FuzzProfile(f *testing.F) {
	net := dirtest.New(f, "test.net", time.Hour, 1).Network
	good := fmt.Sprintf(`{"network":%q,"node":%q,"link_key":%q,"addresses":["127.0.0.1:1"],"mailbox":%q}`,
		net.Bytes(), strings.Repeat("1f", 32), strings.Repeat("2e", 32), strings.Repeat("3d", 32))
	f.Add([]byte(good))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"network":"postern-network 1\n"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseProfile(b)
		if err != nil {
			if errs.KindOf(err) == errs.Internal || errs.Public(err) == "" {
				t.Fatal(err)
			}
			return
		}
		if p.network == nil || len(p.Addresses) == 0 {
			t.Fatal("half a registration")
		}
	})
}
