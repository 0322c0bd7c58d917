package imap

import (
	"context"
	"time"
)

// saved is the save date that a new message gets.
func (b *fakeBackend) saved() time.Time {
	if b.undated {
		return time.Time{}
	}
	return b.now().UTC()
}

func (m *fakeMailbox) SaveDate(_ context.Context, e Entry) (time.Time, error) {
	m.b.mu.Lock()
	defer m.b.mu.Unlock()
	msg, err := m.get(e)
	if err != nil {
		return time.Time{}, err
	}
	return msg.saved, nil
}
