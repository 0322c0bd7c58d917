package lab

import (
	"os/exec"
	"syscall"
)

// tie puts a process into a group of its own, so that Ctrl-C reaches the lab alone, and has the
// kernel end it when the lab is gone, however that went. The kernel looks at the thread that
// started it: see spawner.
func tie(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
