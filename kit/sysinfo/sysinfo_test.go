package sysinfo

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

func TestReal(t *testing.T) {
	r := &Reader{FS: vfs.OS(), Dir: t.TempDir()}
	if v, err := r.DiskFree(); err != nil || v <= 0 {
		t.Errorf("DiskFree = %d, %v", v, err)
	}
	if v, err := r.MemAvailable(); err != nil || v < 1<<20 {
		t.Errorf("MemAvailable = %d, %v", v, err)
	}
	if v, err := r.Load1(); err != nil || v < 0 {
		t.Errorf("Load1 = %v, %v", v, err)
	}
}

func TestInjected(t *testing.T) {
	files := map[string]string{"/proc/loadavg": "5.25 1 1 2/3 4\n", "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:     1024 kB\n"}
	r := &Reader{ReadFile: func(n string) ([]byte, error) { return []byte(files[n]), nil }}
	if v, err := r.Load1(); v != 5.25 || err != nil {
		t.Errorf("Load1 = %v, %v", v, err)
	}
	if v, err := r.MemAvailable(); v != 1<<20 || err != nil {
		t.Errorf("MemAvailable = %v, %v", v, err)
	}
	files["/proc/loadavg"], files["/proc/meminfo"] = "NaN", "MemAvailable: lots\n"
	if _, err := r.Load1(); errs.KindOf(err) != errs.Unsupported {
		t.Errorf("Load1: %v", err)
	}
	if _, err := r.MemAvailable(); errs.KindOf(err) != errs.Unsupported {
		t.Errorf("MemAvailable: %v", err)
	}
	r.ReadFile = func(string) ([]byte, error) { return nil, errors.New("none") }
	if _, err := r.Load1(); errs.KindOf(err) != errs.Unsupported {
		t.Errorf("Load1: %v", err)
	}
}

func TestPublic(t *testing.T) {
	for text, want := range map[string]bool{"9.9.9.9": true, "2620:fe::9": true, "::ffff:9.9.9.9": true,
		"10.0.0.1": false, "100.64.1.1": false, "192.0.2.1": false, "127.0.0.1": false, "169.254.1.1": false, "224.0.0.1": false, "255.255.255.255": false,
		"fd00::1": false, "fe80::1": false, "2001:db8::1": false, "3fff::1": false, "::": false, "0.0.0.1": false} {
		if got := Public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestPublicAddresses: lasting public addresses, IPv4 first, each once.
func TestPublicAddresses(t *testing.T) {
	net1 := func(s string) net.Addr { return &net.IPNet{IP: net.ParseIP(s), Mask: net.CIDRMask(64, 128)} }
	r := &Reader{Interfaces: func() ([]net.Addr, error) {
		return []net.Addr{net1("2620:fe::9"), net1("2620:fe::77"), net1("2620:fe::78"), net1("10.0.0.1"), net1("9.9.9.9"), net1("9.9.9.9"), net1("::1"), &net.UnixAddr{}}, nil
	}, ReadFile: func(name string) ([]byte, error) {
		if name != "/proc/net/if_inet6" {
			return nil, errors.New("none")
		}
		return []byte("262000fe000000000000000000000009 02 40 00 80     eth0\n262000fe000000000000000000000077 02 40 00 01     eth0\n" +
			"262000fe000000000000000000000078 02 40 00 20     eth0\nnonsense\nzz 02 40 00 01 eth0\n"), nil
	}}
	want := []netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("2620:fe::9")}
	if got, err := r.PublicAddresses(); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	r.Interfaces = func() ([]net.Addr, error) { return nil, errors.New("none") }
	if _, err := r.PublicAddresses(); errs.KindOf(err) != errs.Unavailable {
		t.Error(err)
	}
	if _, err := (&Reader{}).PublicAddresses(); err != nil {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	real := &Reader{Dir: t.TempDir()}
	if n, err := real.OpenFiles(); err != nil || n < 10 {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := real.Inodes(); err != nil && errs.KindOf(err) != errs.Unsupported || err == nil && n <= 0 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := ClockSynced(); err != nil && errs.KindOf(err) != errs.Unsupported {
		t.Error(err)
	}
	files, free := uint64(100), uint64(7)
	r := &Reader{Dir: "/d", FileLimit: func() (uint64, error) { return 1 << 63, nil }, Statfs: func(dir string, s *unix.Statfs_t) error {
		if dir != "/d" {
			t.Error(dir)
		}
		s.Files, s.Ffree = files, free
		return nil
	}}
	if n, err := r.OpenFiles(); err != nil || n != 1<<63-1 {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := r.Inodes(); err != nil || n != 7 {
		t.Errorf("%d, %v", n, err)
	}
	files = 0
	if _, err := r.Inodes(); errs.KindOf(err) != errs.Unsupported {
		t.Error(err)
	}
	r.FileLimit = func() (uint64, error) { return 0, errors.New("none") }
	if _, err := r.OpenFiles(); errs.KindOf(err) != errs.Unsupported {
		t.Error(err)
	}
}
