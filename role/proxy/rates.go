package proxy

import (
	"postern.email/agent/mixsubmit"
	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
)

// rates fills in what the network's directory says of the line.
func (a *AccountStatus) rates(p directory.Parameters) {
	seconds := func(name string) float64 { return float64(p.Get(name)) / 1000 }
	a.Send, a.Fetch = seconds(directory.PayloadInterval), seconds(directory.ReceiveInterval)
	a.Leave = 1 / (1/a.Send + 1/seconds(directory.LoopInterval) + 1/seconds(directory.DropInterval))
	a.Size = client.MaxBytes(p, mixsubmit.SizeTime)
}
