package sysinfo

import (
	"errors"
	"testing"

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
