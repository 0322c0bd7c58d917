package tooltest

import (
	"fmt"
	"math/rand/v2"
	"net"

	"postern.email/kit/errs"
)

// FreeAddress gives an address of the loopback, host:port, on which nobody listens, for a program that
// must be told one before it starts. The port lies below those that a system gives to connections
// by itself (on Linux from 32768 on), so that it is still free when it is used.
func FreeAddress() (string, error) {
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", errs.E("kit/tooltest.FreeAddress", errs.Unavailable, "no port is free", nil)
}
