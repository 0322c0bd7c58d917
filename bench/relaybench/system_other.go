//go:build !linux

package main

import (
	"os"
	"time"
)

func fdatasync(f *os.File) error { return f.Sync() }

func ownCPU() time.Duration { return 0 }
