//go:build !linux

package lab

import (
	"os/exec"
	"syscall"
)

// tie puts a process into a group of its own, so that Ctrl-C reaches the lab alone.
func tie(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
