package interop

import (
	"os/exec"
	"syscall"
)

// tie lets the kernel end the child when this process ends, however it does.
func tie(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
