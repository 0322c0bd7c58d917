package rig

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Limits are what the machine itself can do.
type Limits struct {
	Syncs      float64 `json:"fdatasync_per_s"`      // append 16 KB + fdatasync, one writer
	Handshakes float64 `json:"tls_handshakes_per_s"` // TLS 1.3, P-256, both sides here
}

// MeasureLimits takes them; dir is on the disk that is meant.
func MeasureLimits(dir string) (Limits, error) {
	syncs, err := syncRate(dir, 2*time.Second)
	if err != nil {
		return Limits{}, err
	}
	hs, err := handshakeRate(2 * time.Second)
	return Limits{syncs, hs}, err
}

func syncRate(dir string, span time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "syncrate"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 16<<10)
	n := 0
	start := time.Now()
	for time.Since(start) < span {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := fdatasync(f); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

func handshakeRate(span time.Duration) (float64, error) {
	cert, _, _, err := selfSigned("limits.test")
	if err != nil {
		return 0, err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	if err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 1)) // until the client closes
			}()
		}
	}()
	start := time.Now()
	deadline := start.Add(span)
	count := make([]int, 4)
	err = Parallel(len(count), len(count), func(_, i int) error {
		for time.Now().Before(deadline) {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			tc := tls.Client(conn, Dialer.TLS)
			if err := tc.Handshake(); err != nil {
				return err
			}
			tc.Close()
			count[i]++
		}
		return nil
	})
	took := time.Since(start)
	err = errors.Join(err, l.Close())
	<-ended
	sum := 0
	for _, n := range count {
		sum += n
	}
	return float64(sum) / took.Seconds(), err
}
