package lab

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/role/relay"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestParameters: the speed divides times and nothing else, down to what a consensus allows.
func TestParameters(t *testing.T) {
	for _, c := range []struct {
		speed   int
		profile string
		want    []string
	}{
		{1, "low", []string{"delay=20000", "payload-interval=100000", "receive-interval=50000"}},
		{100, "low", []string{"delay=200", "payload-interval=1000", "max-delay=36000"}},
		{100, "full", []string{"delay=200", "payload-interval=100", "receive-interval=50"}},
		{1000, "full", []string{"delay=20", "payload-interval=10", "receive-interval=10"}},
	} {
		cfg, err := Config{Speed: c.speed, Profile: c.profile}.complete()
		must(t, err)
		got := strings.Split(cfg.parameters(), ",")
		if len(got) != 8 {
			t.Errorf("%d parameters: %v", len(got), got)
		}
		for _, w := range c.want {
			if !strings.Contains(","+strings.Join(got, ",")+",", ","+w+",") {
				t.Errorf("speed %d, %s: no %s in %v", c.speed, c.profile, w, got)
			}
		}
	}
}

// TestConfig: what is out of bounds is refused with the bound.
func TestConfig(t *testing.T) {
	for want, c := range map[string]Config{"1 to 1000": {Speed: 1001}, "low or full": {Profile: "some"}, "1 to 32 proxies": {Proxies: 33}, "whole seconds": {Period: time.Millisecond},
		"0 to 30 percent": {Loss: 31}, "the speed is": {Speed: -1}} {
		if _, err := c.complete(); errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	c, err := Config{}.complete()
	must(t, err)
	if c.Speed != DefaultSpeed || c.Period != DefaultPeriod || c.Proxies != DefaultProxies || c.Profile != "low" {
		t.Errorf("%+v", c)
	}
	if p := (Config{Loss: 10}).lossAtMix() / 100; math.Abs((1-p)*(1-p)*(1-p)-0.9) > 1e-9 {
		t.Errorf("a mix loses %v", p)
	}
}

// TestPlan: the usual ports are fixed, all differ, and lie below those of outgoing connections;
// free ones differ too; a plan that is kept is the same again.
func TestPlan(t *testing.T) {
	for _, free := range []bool{false, true} {
		c, err := Config{FreePorts: free, Proxies: MaxProxies}.complete()
		must(t, err)
		p, err := newPlan(c)
		must(t, err)
		seen := map[int]string{}
		for member, ports := range p.Ports {
			for door, n := range ports {
				if other := seen[n]; other != "" || n < 1024 || n >= 32768 {
					t.Errorf("port %d is of %s and of %s %s", n, other, member, door)
				}
				seen[n] = member + " " + door
			}
		}
		if want := 1 + 3 + 6 + 4 + 2*9 + MaxProxies*4 + torRelays*2 + 1; len(seen) != want {
			t.Errorf("%d ports, want %d", len(seen), want)
		}
		secret := p.password("anna@relay1.test")
		if len(secret) < 20 || p.password("anna@relay1.test") != secret || p.password("berta@relay2.test") == secret {
			t.Error("passwords")
		}
		dir := t.TempDir()
		if _, err := loadPlan(dir); errs.KindOf(err) != errs.NotFound {
			t.Errorf("no plan: %v", err)
		}
		must(t, p.save(dir))
		again, err := loadPlan(dir)
		must(t, err)
		if fmt.Sprint(again) != fmt.Sprint(p) {
			t.Errorf("%+v\n%+v", again, p)
		}
		info, err := os.Stat(filepath.Join(dir, planFile))
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Error(info.Mode())
		}
		for text, kind := range map[string]errs.Kind{"{": errs.Corrupt, `{"version":99}`: errs.Unsupported} {
			must(t, os.WriteFile(filepath.Join(dir, planFile), []byte(text), 0o600))
			if _, err := loadPlan(dir); errs.KindOf(err) != kind {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
}

// TestRelayConfig: the file of a relay says what the lab decided: read by the relay it gives that.
func TestRelayConfig(t *testing.T) {
	c, err := Config{Dir: t.TempDir()}.complete()
	must(t, err)
	p, err := newPlan(c)
	must(t, err)
	l := &Lab{c: c, plan: p}
	l.info.CA, l.info.Network = l.path("ca.pem"), l.path("network")
	must(t, l.mkdir("relay1"))
	file, err := l.relayConfig(0)
	must(t, err)
	var got relay.Config
	must(t, config.Load(&got, file, nil))
	must(t, got.Check())
	if got.Domain != "relay1.test" || got.Listen.IMAPS != "127.0.0.1:21102" || !got.Mixnet.Enabled || got.Mixnet.Addresses[0] != "127.0.0.1:21109" || got.Network.Resolver != "127.0.0.1:21021" || len(got.Delivery.Routes) != 3 {
		t.Errorf("%+v", got)
	}
	for _, at := range []string{got.Listen.HTTPS, got.Listen.SMTP, got.Listen.POP3, got.Mixnet.Listen} {
		if !strings.HasPrefix(at, "127.0.0.1:") {
			t.Errorf("it listens on %s", at)
		}
	}
	if got.Listen.HTTP != "off" || got.Listen.HTTPSAlt != "off" {
		t.Errorf("it opens ports that nobody decided: %s %s", got.Listen.HTTP, got.Listen.HTTPSAlt)
	}
}
