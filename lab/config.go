package lab

import (
	"fmt"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
)

// Defaults and bounds of a Config.
const (
	DefaultSpeed   = 100
	MaxSpeed       = 1000
	DefaultPeriod  = 20 * time.Second // of an epoch
	DefaultProxies = 2
	MaxProxies     = 32
	MaxLoss        = 30
	Authorities    = 3
	Mixes          = 6
	Relays         = 2
)

// Config says what kind of lab it is.
type Config struct {
	Dir     string // everything that is kept; the same one continues
	Program string // the file of the program that plays the roles

	// FreePorts: a new lab takes free ports in place of the usual ones. One that continues keeps
	// those that it has.
	FreePorts bool
	// Speed divides the mean delays and intervals of the network, 1 to MaxSpeed; 0:
	// DefaultSpeed. The length of an epoch does not depend on it: with a real one of an hour
	// nothing could be tried.
	Speed   int
	Profile string        // parameters that Speed divides: "low" (or empty) or "full"
	Period  time.Duration // of an epoch, for a new lab; 0: DefaultPeriod
	Proxies int           // how many a new lab has; 0: DefaultProxies
	Kill    bool          // kill parts at random and start them again, all the time
	Loss    int           // percentage of packets that are lost on their way through the mixes, 0 to MaxLoss
	Tor     bool          // the road from the proxies to their relays is a private Tor network
}

// complete fills in the defaults. errs.Invalid for what is out of bounds.
func (c Config) complete() (Config, error) {
	const op = "lab.Config"
	defaults.Zero(&c.Speed, DefaultSpeed)
	defaults.Zero(&c.Period, DefaultPeriod)
	defaults.Zero(&c.Proxies, DefaultProxies)
	if c.Profile == "" {
		c.Profile = "low"
	}
	switch {
	case c.Speed < 1 || c.Speed > MaxSpeed:
		return c, errs.E(op, errs.Invalid, fmt.Sprintf("the speed is 1 to %d", MaxSpeed), nil)
	case c.Profile != "low" && c.Profile != "full":
		return c, errs.E(op, errs.Invalid, "the profile is low or full", nil)
	case c.Proxies < 1 || c.Proxies > MaxProxies:
		return c, errs.E(op, errs.Invalid, fmt.Sprintf("a lab has 1 to %d proxies", MaxProxies), nil)
	case c.Loss < 0 || c.Loss > MaxLoss:
		return c, errs.E(op, errs.Invalid, fmt.Sprintf("the loss is 0 to %d percent", MaxLoss), nil)
	case c.Period < directory.MinPeriod || c.Period > directory.MaxPeriod || c.Period%time.Second != 0:
		return c, errs.E(op, errs.Invalid, "the period is whole seconds up to a day", nil)
	}
	return c, nil
}

// parameters are those that the authorities vote for, as vote.parameters takes them.
func (c Config) parameters() string {
	p := directory.ProfileLow()
	if c.Profile == "full" {
		p = directory.ProfileFull()
	}
	words := ""
	for _, e := range p {
		lowest := uint64(0)
		switch e.Name {
		case directory.Delay:
			lowest = 1
		case directory.MaxDelay, directory.DropInterval, directory.LinkInterval, directory.LoopInterval, directory.MixLoopInterval, directory.PayloadInterval, directory.ReceiveInterval:
			lowest = 10
		default:
			continue // no time
		}
		if words != "" {
			words += ","
		}
		words += fmt.Sprintf("%s=%d", e.Name, max(e.Value/uint64(c.Speed), lowest))
	}
	return words
}
