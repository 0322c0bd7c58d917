package rig

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc on every Linux Go runs on.
const clockTick = 10 * time.Millisecond

// tree lists the processes of a server: its roots and all below them.
func (s *System) tree() ([]int, error) {
	children := map[int][]int{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, path := range stats {
		f, err := statFields(path)
		if err != nil {
			continue // it ended meanwhile
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, _ := strconv.Atoi(f[1])
		children[parent] = append(children[parent], pid)
	}
	var all []int
	for todo := append([]int(nil), s.Roots...); len(todo) > 0; {
		pid := todo[0]
		all = append(all, pid)
		todo = append(todo[1:], children[pid]...)
	}
	return all, nil
}

// statFields gives the fields of /proc/PID/stat from the third on (state first).
func statFields(path string) ([]string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	i := bytes.LastIndexByte(raw, ')')
	f := strings.Fields(string(raw[i+1:]))
	if i < 0 || len(f) < 20 {
		return nil, fmt.Errorf("%s: not understood", path)
	}
	return f, nil
}

// CPU is the CPU time the server has used so far, ended children included.
func (s *System) CPU() (time.Duration, error) {
	pids, err := s.tree()
	if err != nil {
		return 0, err
	}
	var ticks int64
	for _, pid := range pids {
		f, err := statFields(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		for _, i := range []int{11, 12, 13, 14} { // utime stime cutime cstime
			n, _ := strconv.ParseInt(f[i], 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * clockTick, nil
}

// Memory is RSS and PSS of the whole tree in KiB.
func (s *System) Memory() (rss, pss int64, err error) {
	pids, err := s.tree()
	if err != nil {
		return 0, 0, err
	}
	for _, pid := range pids {
		f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		for sc := bufio.NewScanner(f); sc.Scan(); {
			name, rest, _ := strings.Cut(sc.Text(), ":")
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			switch name {
			case "Rss":
				rss += n
			case "Pss":
				pss += n
			}
		}
		f.Close()
	}
	if pss == 0 {
		return 0, 0, fmt.Errorf("%s: no memory figures in /proc", s.Name)
	}
	return rss, pss, nil
}

var syncCall = regexp.MustCompile(`\b(fsync|fdatasync|syncfs|sync)\(`)

// CountSyncs runs f with strace attached to the whole tree and counts the calls
// that make bytes durable. ok is false where strace cannot be used.
func (s *System) CountSyncs(dir string, f func() error) (count int, ok bool, err error) {
	tool, err := lookTool("strace")
	if err != nil {
		return 0, false, f()
	}
	pids, err := s.tree()
	if err != nil {
		return 0, false, err
	}
	out := filepath.Join(dir, "strace."+strconv.Itoa(os.Getpid()))
	defer os.Remove(out)
	args := []string{"-f", "-qq", "-e", "trace=fsync,fdatasync,syncfs,sync", "-o", out}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	var said bytes.Buffer
	cmd := exec.Command(tool, args...)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return 0, false, err
	}
	if err := waitTraced(pids, cmd.Process.Pid, 10*time.Second); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, false, f() // not permitted here; the load is still wanted
	}
	runErr := f()
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	log, err := os.ReadFile(out)
	if err != nil {
		return 0, false, err
	}
	return len(syncCall.FindAll(log, -1)), true, runErr
}

// waitTraced waits until each process has the tracer.
func waitTraced(pids []int, tracer int, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	want := []byte(fmt.Sprintf("TracerPid:\t%d\n", tracer))
	for {
		missing := 0
		for _, pid := range pids {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err == nil && !bytes.Contains(status, want) {
				missing++
			}
		}
		if missing == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("strace is not attached to %d processes", missing)
		}
		<-tick.C
	}
}
