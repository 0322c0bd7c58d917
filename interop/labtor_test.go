package interop

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestLabTor: the road from the proxies to their relays leads through a private Tor network of
// Debian's tor; mail arrives, and each proxy has a connection to the SOCKS port of the lab's Tor client.
func TestLabTor(t *testing.T) {
	t.Parallel()
	needTool(t, "tor")
	needTool(t, "tor-gencert")
	l := startLab(t, "--tor")
	t.Logf("ready after %v", l.took.Round(time.Second))
	t.Run("connections", func(t *testing.T) {
		if n := established(t, l.Tor); n < len(l.Proxies) {
			t.Errorf("%d connections to the SOCKS port %s", n, l.Tor)
		}
	})
	from, to := &l.Proxies[0], &l.Proxies[1]
	from.swaks(t, to.Account, labMail(from.Account, to.Account, "over Tor", "and through the mixes")).want(t, swaksOK)
	to.await(t, 1, 4*time.Minute)
	if got := bodyOf(t, to.fetch(t, 1)); got != "and through the mixes" {
		t.Errorf("it came as %q", got)
	}
}

// established counts the connections that others have to a port of this machine.
func established(t *testing.T, at string) (n int) {
	t.Helper()
	_, port := hostPort(t, at)
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		missing(t, "/proc/net/tcp")
	}
	const state = "01" // TCP_ESTABLISHED
	for line := range bytes.Lines(table) {
		if f := bytes.Fields(line); len(f) > 3 && string(f[2]) == fmt.Sprintf("0100007F:%04X", number) && string(f[3]) == state {
			n++
		}
	}
	return n
}
