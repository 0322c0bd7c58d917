package relay

import (
	"strings"
	"testing"
)

// TestQueueReason: of a mail whose pause is over, and which waits for a connection that others have, the queue's
// list says both that it does and why its destination could not be reached.
func TestQueueReason(t *testing.T) {
	shut, hangs := newCounter(t, false), newCounter(t, true)
	s := inMemory(t, "delivery.routes=shut.example host=127.0.0.1 https=off tls=any smtp="+shut.port+",hangs.example host=127.0.0.1 https=off tls=any smtp="+hangs.port,
		"delivery.connections=1", "delivery.first_retry=1ms", "delivery.last_retry=10ms")
	allowed(t, write(t, s, 100, "x@shut.example"))
	until(t, "two tries", func() bool { return shut.count() >= 2 })
	allowed(t, write(t, s, 100, "x@hangs.example"))
	until(t, "the one that hangs", func() bool { return hangs.count() > 0 })
	until(t, "the reason", func() bool {
		page, err := s.listQueue(t.Context(), QueueArgs{To: "shut.example"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := page.(QueuePage).Mails[0].Recipients[0]
		return r.Ready && !r.Sending && strings.HasPrefix(r.Why, "421 ")
	})
}
