package client

import (
	"io"
	"math/rand/v2"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
)

// Chooser gives numbers from 0 to less than 1, each equally likely. *rand.Rand is one. A
// client that sends real packets takes one of NewChooser.
type Chooser interface {
	Float64() float64
}

// NewChooser gives a Chooser that nobody can predict who does not know the 32 bytes that it
// takes from random. It must not be used by several goroutines at once.
func NewChooser(random io.Reader) (*rand.Rand, error) {
	var seed [32]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, errs.E("mixnet/client.NewChooser", errs.Internal, "", err)
	}
	return rand.New(rand.NewChaCha8(seed)), nil
}

// interval draws from the exponential distribution.
func interval(r Chooser, mean time.Duration) time.Duration {
	return directory.DrawInterval(r.Float64(), mean)
}

// Delay draws how long a hop shall keep a packet: see directory.DrawDelay.
func Delay(r Chooser, mean, limit time.Duration) time.Duration {
	return directory.DrawDelay(r.Float64(), mean, limit)
}
