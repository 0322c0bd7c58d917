package nodebench

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"testing"
	"time"

	"postern.email/kit/vfs"
	"postern.email/mixnet/dircache"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/keys"
	"postern.email/mixnet/node"
	"postern.email/mixnet/replay"
)

// childEnv tells the test binary to be the node.
const childEnv = "NODEBENCH_CHILD"

// job is what the node is told.
type job struct {
	Dir     string // keys are in it
	Network []byte
	Doc     []byte // the consensus
	About   directory.Node
	Profile string // a file for a CPU profile; "": none
}

// report is what the node says in the end.
type report struct {
	CPU     time.Duration
	Log     replay.Stats
	Refused uint64
}

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := child(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child is the node: it prints its address, works until it is interrupted, and reports.
func child(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var j job
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	network, err := directory.ParseNetwork(j.Network)
	if err != nil {
		return err
	}
	k, err := openKeys(j.Dir)
	if err != nil {
		return err
	}
	cache, err := dircache.Open(dircache.Options{FS: vfs.OS(), Dir: j.Dir + "/dir", Network: network})
	if err != nil {
		return err
	}
	if err := cache.Put(j.Doc); err != nil {
		return err
	}
	n, err := node.New(node.Options{FS: vfs.OS(), Dir: j.Dir + "/log", Keys: k, Network: network, Cache: cache, Settings: node.Settings{About: j.About}})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	if j.Profile != "" {
		f, err := os.Create(j.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	end := context.AfterFunc(ctx, func() {
		s := n.Status()
		out, _ := json.Marshal(report{cpuTime(), s.Log, s.Link.LaterIn})
		fmt.Println(string(out))
	})
	defer end()
	return n.Run(ctx, ln)
}

func openKeys(dir string) (*keys.Keys, error) {
	o := keys.Options{FS: vfs.OS(), Dir: dir + "/keys", Now: time.Now}
	k, err := keys.Open(o)
	if err != nil {
		k, err = keys.Create(o)
	}
	return k, err
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
