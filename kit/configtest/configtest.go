// Package configtest runs the tests that show what each option of a configuration does. Only tests
// import it.
package configtest

import (
	"maps"
	"testing"

	"postern.email/kit/config"
)

// Options runs one test for each option of the struct that v points to, named by its key, which
// shows that the option has an effect. An option without one fails, and so does a test without an
// option.
func Options(t *testing.T, v any, effects ...map[string]func(*testing.T)) {
	t.Helper()
	tests := make(map[string]func(*testing.T))
	for _, some := range effects {
		maps.Copy(tests, some)
	}
	for _, o := range config.Options(v) {
		fn := tests[o.Key]
		delete(tests, o.Key)
		if fn == nil {
			t.Errorf("option %s: no test shows its effect", o.Key)
			continue
		}
		t.Run(o.Key, fn)
	}
	for key := range tests {
		t.Errorf("test of %s: there is no such option", key)
	}
}
