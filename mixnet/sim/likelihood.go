package sim

import (
	"context"
	"fmt"
	"math"

	"postern.email/mixnet/client"
)

// likelihood is by how much an observer favours one of two senders: ε = |ln(p0/p1)|, where p is the chance
// that a packet in the last mix carries a message of that sender (Loopix, §4.3). 0: it cannot tell
// them apart.
type likelihood struct {
	Mean, Deviation float64
	Samples         int
}

// mostLikely bounds ε where one of the two is excluded.
const mostLikely = 10

// loopixUsers and loopixRate are those of Loopix §4.3: 100 users, each with 2 packets in a unit of time.
const (
	loopixUsers = 100
	loopixRate  = 2
	loopixUnits = 100 // for how long the two send
)

// runLikelihood simulates as Loopix did: two of the users put one message into their queues each unit of
// time, and the observer knows which packets of theirs carry one. It is done several times,
// and looked at in each honest mix of the last layer.
func runLikelihood(ctx context.Context, s Setup, runs int, whole uint64, part string) (likelihood, error) {
	var l likelihood
	var squares float64
	for r := range runs {
		list, err := oneLikelihood(ctx, s, whole, fmt.Sprintf("%s/run %d", part, r))
		if err != nil {
			return l, err
		}
		for _, e := range list {
			l.Mean, squares = l.Mean+e, squares+e*e
			l.Samples++
		}
	}
	if n := float64(l.Samples); n > 0 {
		l.Mean /= n
		l.Deviation = math.Sqrt(max(0, squares/n-l.Mean*l.Mean))
	}
	return l, nil
}

func oneLikelihood(ctx context.Context, s Setup, whole uint64, part string) ([]float64, error) {
	w, err := newWorld(s, whole, part)
	if err != nil {
		return nil, err
	}
	w.bad[len(w.bad)-1] = false // one is honest: else there is nothing to tell
	start := s.settle()
	var queue [2]int
	given := int64(0)
	w.mail = func(user int32) bool {
		for ; given < (w.now-start)/int64(unit) && w.now > start; given++ {
			queue[0]++
			queue[1]++
		}
		if user > 1 || queue[user] == 0 {
			return false
		}
		queue[user]--
		return true
	}
	tags := newLabels(len(w.nodes), w.mine)
	w.step = func(m move, held int32, p *parcel) error {
		label := -1
		if m.from < 0 && p.load == client.Mail {
			label = int(p.user)
		}
		tags.move(m, held, label)
		return nil
	}
	if err := w.run(ctx, start+loopixUnits*int64(unit)); err != nil {
		return nil, err
	}
	var list []float64
	for node := len(w.nodes) - s.Mixes; node < len(w.nodes); node++ {
		if p := tags.pool[node]; !w.bad[node] && p[0]+p[1] > 0 {
			list = append(list, min(mostLikely, math.Abs(math.Log(p[0]/p[1]))))
		}
	}
	return list, nil
}
