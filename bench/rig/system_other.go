//go:build !linux

package rig

import (
	"os"
	"time"
)

func fdatasync(f *os.File) error { return f.Sync() }

// OwnCPU is not known here.
func OwnCPU() time.Duration { return 0 }
