package lab

import "context"

// servePage serves the live page until run ends.
func (l *Lab) servePage(run context.Context) error { return nil }
