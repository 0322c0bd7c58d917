package rig

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// PosternName is its name in reports.
const PosternName = "postern"

// liftedLimits takes away what is there against strangers and would measure
// itself instead of the server: the rate of one sender, of one network and of
// new addresses. Nothing about durability or sealing is touched.
var liftedLimits = []string{
	"submission.max_user_send_per_minute=0",
	"accounts.create_per_minute=0", "accounts.create_per_network=0",
	"accounts.max_load=0", "accounts.min_available_memory=0", "accounts.min_free_disk_space=0",
	"connections.imap_per_network=0", "connections.smtp_per_network=0",
}

// BuildPostern builds the program from the module this benchmark is part of.
func BuildPostern(dir string) (string, error) {
	bin := filepath.Join(dir, "postern")
	cmd := exec.Command("go", "build", "-o", bin, "postern.email/cmd/postern")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return bin, nil
}

// StartPostern starts the program on an empty directory.
func StartPostern(bin, dir string, sets []string) (*System, error) {
	args := []string{"up", "--dir", filepath.Join(dir, "state"), "--ports", "0", "--json"}
	for _, set := range append(append([]string{}, liftedLimits...), sets...) {
		args = append(args, "--set", set)
	}
	log, err := os.Create(filepath.Join(dir, "postern.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(bin, args...)
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		return cmd.Wait()
	}
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var ready struct {
		Ready              bool
		Domain             string
		Imaps, Submissions string
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err == nil && !ready.Ready {
		err = errors.New("not ready")
	}
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return nil, errors.Join(fmt.Errorf("postern up: %w: %s%s", err, line, said), stop())
	}
	return &System{
		Name: PosternName, Domain: ready.Domain, Submissions: ready.Submissions, IMAPS: ready.Imaps,
		Roots: []int{cmd.Process.Pid}, stop: stop,
		again: func() (*System, error) { return StartPostern(bin, dir, sets) },
	}, nil
}
