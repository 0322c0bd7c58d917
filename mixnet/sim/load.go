package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
)

// wire is what one unit takes on a connection, TLS included, in bytes (docs/link.md §3).
const wire = 32_898

const day = 24 * time.Hour

// load is what users and mixes carry.
type load struct {
	User float64 // bytes a day that a user sends
	Mix  float64 // bytes a day that a mix takes in; it sends as much
}

// runLoad counts what passes in some mean delays.
func runLoad(ctx context.Context, s Setup, delays int64, whole uint64, part string) (load, error) {
	w, err := newWorld(s, whole, part)
	if err != nil {
		return load{}, err
	}
	begin := s.settle()
	var sent, came float64
	w.step = func(m move, _ int32, p *parcel) error {
		switch {
		case w.now < begin:
		case m.from < 0:
			sent++
		case m.to != end:
			came++
		}
		return nil
	}
	span := delays * s.delay()
	if err := w.run(ctx, begin+span); err != nil {
		return load{}, err
	}
	days := float64(span) / float64(day)
	mixes := float64(s.Layers * s.Mixes)
	return load{User: sent * wire / days / float64(s.Users), Mix: came * wire / days / mixes}, nil
}

// userLaw is how many bytes a day the clocks of a user send.
func userLaw(p directory.Parameters) float64 { return client.Rate(p, day) * wire }

// takes is how many packets a mail of so many bytes takes, each of which is acknowledged. What the
// letter compresses is not counted on: pictures and encrypted mail do not become smaller.
func takes(bytes int) int { return letter.Packets(bytes, letter.Options{Room: letter.RoomACK}) }

// runMail sends one mail of so many packets several times, where nothing else waits, and gives
// the times, sorted, in seconds, from when it is handed in until the last packet is in the
// mailbox.
func runMail(ctx context.Context, s Setup, packets, runs int, whole uint64, part string) ([]float64, error) {
	var times []float64
	s.Users = 1 // what others do changes nothing for it
	for r := range runs {
		w, err := newWorld(s, whole, fmt.Sprintf("%s/run %d", part, r))
		if err != nil {
			return nil, err
		}
		waits, under := packets, packets
		w.mail = func(int32) bool {
			if waits == 0 {
				return false
			}
			waits--
			return true
		}
		w.step = func(m move, _ int32, p *parcel) error {
			if m.to == end && p.load == client.Mail {
				under--
			}
			if under == 0 {
				under--
				times = append(times, float64(w.now)/1e9)
			}
			return nil
		}
		for until := int64(0); under >= 0; {
			until += 10 * s.delay()
			if err := w.run(ctx, until); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(times)
	return times, nil
}

// runWait has mails of one packet handed in at random, some a day, and gives the mean time, in
// seconds, that they wait until they leave, over so many mails.
func runWait(ctx context.Context, s Setup, perDay float64, mails int, whole uint64, part string) (float64, error) {
	s.Users = 1
	w, err := newWorld(s, whole, part)
	if err != nil {
		return 0, err
	}
	// Whoever writes mail writes it at random: a clock of its own.
	writer := client.NewClocks(directory.Parameters{
		{Name: directory.DropInterval, Value: quiet}, {Name: directory.LoopInterval, Value: quiet},
		{Name: directory.PayloadInterval, Value: uint64(float64(day.Milliseconds()) / perDay)},
	}, w.began, w.rng)
	var queue []int64
	sum, n := 0.0, 0
	w.mail = func(int32) bool {
		for writer.Peek().At.Before(w.time()) {
			queue = append(queue, int64(writer.Next().At.Sub(w.began)))
		}
		if len(queue) == 0 {
			return false
		}
		sum += float64(w.now-queue[0]) / 1e9
		n++
		queue = queue[1:]
		return true
	}
	for until := int64(0); n < mails; {
		until += int64(day)
		if err := w.run(ctx, until); err != nil {
			return 0, err
		}
	}
	return sum / float64(n), nil
}

// runLatency gives the times, sorted, in mean delays, that about so many packets took from the
// sender's relay to the mailbox.
func runLatency(ctx context.Context, s Setup, packets int, whole uint64, part string) ([]float64, error) {
	w, err := newWorld(s, whole, part)
	if err != nil {
		return nil, err
	}
	var times []float64
	mean, begin := float64(s.delay()), s.settle()
	until := begin + int64(float64(packets)/s.rate()/float64(s.Users)*1e9)
	w.step = func(m move, _ int32, p *parcel) error {
		// All that were sent in a span: who took the first to come would leave out the slow ones.
		if m.to == end && p.born >= begin && p.born < until {
			times = append(times, float64(w.now-p.born)/mean)
		}
		return nil
	}
	if err := w.run(ctx, until+2*s.settle()); err != nil {
		return nil, err
	}
	slices.Sort(times)
	return times, nil
}
