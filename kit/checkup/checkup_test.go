package checkup

import (
	"encoding/json"
	"testing"
)

// TestList: each kind has its own marks, as JSON too, and faults alone are counted.
func TestList(t *testing.T) {
	var l List
	l.OK("disk", "%d free", 3)
	l.Advise("clock", "set it", "late by %s", "1s")
	if l.Faults() != 0 {
		t.Errorf("%d faults", l.Faults())
	}
	l.Fault("port", "open it", "closed")
	const want = `[{"what":"disk","ok":true,"text":"3 free"},{"what":"clock","ok":false,"advice":true,"text":"late by 1s","next":"set it"},{"what":"port","ok":false,"text":"closed","next":"open it"}]`
	if b, err := json.Marshal(l); string(b) != want || err != nil || l.Faults() != 1 {
		t.Errorf("%s, %v, %d faults", b, err, l.Faults())
	}
}
