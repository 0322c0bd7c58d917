package retry

import (
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
)

var began = time.Date(2026, 11, 26, 17, 0, 0, 0, time.UTC)

// times gives when a schedule tries again, if each attempt is made when it is due.
func times(s Schedule) (out []time.Duration) {
	last := began
	for {
		next, ok := s.Next(began, last)
		if !ok {
			return out
		}
		out = append(out, next.Sub(began))
		last = next
	}
}

// TestParse: schedules in all the forms that mixminiond takes, among them the defaults of its
// sample configuration, give the attempts that it would make.
func TestParse(t *testing.T) {
	const m, h, d = time.Minute, time.Hour, 24 * time.Hour
	for _, c := range []struct {
		in    string
		total time.Duration
		n     int
		first []time.Duration
	}{
		{"every 1 hour for 1 day, 7 hours for 5 days", 24*h + 18*7*h, 24 + 18, []time.Duration{h, 2 * h, 3 * h}},
		{"every 1 h for 1 day, 7 h for 5 days", 24*h + 18*7*h, 24 + 18, []time.Duration{h, 2 * h, 3 * h}},
		{"7 hours for 6 days", 21 * 7 * h, 21, []time.Duration{7 * h, 14 * h}},
		{"every 7 hours for 6 days", 21 * 7 * h, 21, []time.Duration{7 * h, 14 * h}},
		{"5 minutes, every 10 min for 1 hour, 1 day", 65*m + d, 8, []time.Duration{5 * m, 15 * m, 25 * m, 35 * m, 45 * m, 55 * m, 65 * m, 65*m + d}},
		{".5 hour for 1 day", d, 48, []time.Duration{30 * m, h}},
		{"  EVERY  1.5\tHours   FOR 4 hours ", 4*h + 30*m, 3, []time.Duration{90 * m, 3 * h, 4*h + 30*m}},
		{"1 second", time.Second, 1, []time.Duration{time.Second}},
		{"1 week, 1 mon, 1 month, 1 year", 7*d + 60*d + 365*d, 4, []time.Duration{7 * d}},
		{"10 secs, 3 mins, 2 weeks", 10*time.Second + 3*m + 14*d, 3, []time.Duration{10 * time.Second, 3*m + 10*time.Second}},
		{"1h,1h", 2 * h, 2, []time.Duration{h, 2 * h}},
	} {
		s, err := Parse(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		got := times(s)
		if s.Total() != c.total || s.Attempts() != c.n || len(got) != c.n || !slices.Equal(got[:len(c.first)], c.first) || got[len(got)-1] != c.total {
			t.Errorf("%q: total %v, %d attempts, at %v", c.in, s.Total(), s.Attempts(), got)
		}
		again, err := Parse(s.String())
		if err != nil || !slices.Equal(times(again), got) {
			t.Errorf("%q became %q: %v", c.in, s, err)
		}
	}
	if got := Every(7*time.Hour, 6*24*time.Hour); !slices.Equal(times(got), times(must(t, "7 hours for 6 days"))) {
		t.Errorf("Every: %v", times(got))
	}
}

func must(t *testing.T, in string) Schedule {
	t.Helper()
	s, err := Parse(in)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestNext: an attempt that was missed is due at once, and once; attempts that were late do not
// put off the others; after the last one it is over; a clock that was set back tries early enough.
func TestNext(t *testing.T) {
	const m = time.Minute
	s := must(t, "5 minutes, every 10 minutes for 30 minutes") // 5, 15, 25, 35
	for _, c := range []struct {
		last, next time.Duration
		ok         bool
	}{
		{0, 5 * m, true}, {5*m - 1, 5 * m, true}, {5 * m, 15 * m, true}, {6 * m, 15 * m, true}, {24 * m, 25 * m, true},
		{25 * m, 35 * m, true}, {35*m - 1, 35 * m, true}, {35 * m, 0, false}, {1000 * m, 0, false}, {-10 * m, 5 * m, true},
	} {
		next, ok := s.Next(began, began.Add(c.last))
		if ok != c.ok || ok && !next.Equal(began.Add(c.next)) {
			t.Errorf("after %v: %v, %v, want %v", c.last, next.Sub(began), ok, c.next)
		}
	}
	if _, ok := (Schedule{}).Next(began, began); ok {
		t.Error("the zero schedule tries again")
	}
}

// TestErrors: each mistake has its kind and a text that shows it.
func TestErrors(t *testing.T) {
	for in, want := range map[string]struct {
		kind errs.Kind
		text string
	}{
		"":                                  {errs.Invalid, `"" is not a time like "90 minutes" or "1.5 hours"`},
		"1 hour,":                           {errs.Invalid, `"" is not a time like`},
		"every 1 hour":                      {errs.Invalid, `"every 1 hour" in a retry schedule does not say for how long; did you mean "every 1 hour for 1 day"?`},
		"1 fortnight":                       {errs.Invalid, `"1 fortnight" is not a time`},
		"1 ms":                              {errs.Invalid, `"1 ms" is not a time`},
		"-1 hour":                           {errs.Invalid, `"-1 hour" is not a time`},
		"1e9 hours":                         {errs.Invalid, `"1e9 hours" is not a time`},
		"hour":                              {errs.Invalid, `"hour" is not a time`},
		"1.2.3 hours":                       {errs.Invalid, `"1.2.3 hours" is not a time`},
		"1 hour for":                        {errs.Invalid, `"1 hour for" is not a time`},
		"1 hour for ever":                   {errs.Invalid, `"ever" is not a time`},
		"0 seconds for 1 day":               {errs.Invalid, `"0 seconds for 1 day" in a retry schedule repeats without a pause`},
		".5 seconds for 1 day":              {errs.Invalid, `".5 seconds for 1 day" in a retry schedule repeats without a pause`},
		"11 years":                          {errs.TooLarge, `"11 years" is longer than ten years`},
		"6 years, 6 years":                  {errs.TooLarge, "a retry schedule has more than 64 elements, a million attempts or ten years"},
		"every 1 sec for 1 year":            {errs.TooLarge, "a retry schedule has more than 64 elements"},
		strings.Repeat("1 hour,", 200):      {errs.TooLarge, "a retry schedule is longer than 1024 bytes"},
		strings.Repeat("1h,2h,", 40) + "1h": {errs.TooLarge, "a retry schedule has more than 64 elements"},
	} {
		_, err := Parse(in)
		if errs.KindOf(err) != want.kind || !strings.HasPrefix(errs.Public(err), want.text) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// TestConcerns: what mixminiond warned of.
func TestConcerns(t *testing.T) {
	for in, want := range map[string][]string{
		"7 hours for 6 days":                              nil,
		"every 1 hour for 2 hours":                        {"it gives up in less than a day", "it tries again fewer than 5 times"},
		"1 hour for 15 days":                              {"it goes on for more than 14 days", "it tries again more than 50 times"},
		"every 10 minutes for 8 hours, 6 hours for 1 day": {"it tries again more than 50 times", "it tries again more often than the mix sends; attempts wait for that"},
	} {
		if got := must(t, in).Concerns(30 * time.Minute); !slices.Equal(got, want) {
			t.Errorf("%q: %q", in, got)
		}
	}
	if got := must(t, "4 minutes, every 7 hours for 6 days").Concerns(0); !slices.Equal(got, []string{"it tries again after less than 5 minutes"}) {
		t.Errorf("%q", got)
	}
	if got := (Schedule{}).Concerns(time.Hour); len(got) != 2 {
		t.Errorf("the zero schedule: %q", got)
	}
}

// TestInterval: intervals and how they are written.
func TestInterval(t *testing.T) {
	for in, want := range map[string]string{
		"1.5 hour": "90 minutes", "90 min": "90 minutes", "5400 sec": "90 minutes", "1 day": "1 day", "48 hours": "2 days",
		"7 days": "1 week", "1 mon": "30 days", "1 second": "1 second", "0 min": "0 seconds", "1 year": "365 days", "61 s": "61 seconds", "2d": "2 days",
	} {
		d, err := ParseInterval(in)
		if got := FormatInterval(d); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// FuzzParse: what parses has its bounds, is written in a form that parses to the same, and its
// attempts come in order.
func FuzzParse(f *testing.F) {
	f.Add("every 1 hour for 1 day, 7 hours for 5 days")
	f.Add("5 minutes, every 10 min for 1 hour, 1 day")
	f.Add(".5 hours for 99999999999999999999 days")
	f.Add("0 s, 1 s")
	f.Fuzz(func(t *testing.T, in string) {
		s, err := Parse(in)
		if err != nil {
			return
		}
		if s.Total() > MaxInterval || s.Total() < 0 || s.Attempts() > MaxAttempts || s.Attempts() < 1 {
			t.Fatalf("%q: %v, %d attempts", in, s.Total(), s.Attempts())
		}
		again, err := Parse(s.String())
		if err != nil || again.Total() != s.Total() || again.String() != s.String() {
			t.Fatalf("%q became %q, then %q: %v", in, s, again, err)
		}
		last := began
		for range 100 {
			next, ok := s.Next(began, last)
			if !ok {
				break
			}
			if !next.After(last) || next.After(began.Add(s.Total())) {
				t.Fatalf("%q: %v after %v", in, next, last)
			}
			last = next
		}
	})
}
