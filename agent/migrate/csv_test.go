package migrate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"postern.email/kit/errs"
)

func text(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func flat(all []Entry) (out []string) {
	for _, e := range all {
		s := fmt.Sprintf("%d %s %q", e.Line, e.Address, e.Note)
		if e.Paused {
			s += " paused"
		}
		if len(e.Targets) > 0 {
			s += " to " + strings.Join(e.Targets, "+")
		}
		if !e.Created.IsZero() {
			s += " " + e.Created.Format(time.RFC3339)
		}
		out = append(out, s)
	}
	return out
}

func said(all []Problem) (out []string) {
	for _, p := range all {
		out = append(out, p.String())
	}
	return out
}

func TestSimpleLogin(t *testing.T) {
	entries, problems, err := SimpleLogin(strings.NewReader(text(t, "simplelogin.csv")))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{
		`2 shop.lamp4@alias.example "The lamp shop, \"Lux\"" to me@mailbox.example`,
		`3 paused_one@alias.example "" paused to me@mailbox.example+work@mailbox.example`,
		`4 two.lines@alias.example "first\nsecond" to me@mailbox.example`,
	}; !slices.Equal(flat(entries), want) {
		t.Errorf("%q", flat(entries))
	}
	if want := []string{
		"line 6: not an address: this is no mail address; it was left out",
		"line 7: shop.lamp4@alias.example: it is there twice, first in line 2; this one was left out",
	}; !slices.Equal(said(problems), want) {
		t.Errorf("%q", said(problems))
	}
	// As one makes it by hand for SimpleLogin's own import.
	entries, problems, err = SimpleLogin(strings.NewReader("alias,note\na1@alias.example,x\n"))
	if err != nil || len(problems) > 0 || !slices.Equal(flat(entries), []string{`2 a1@alias.example "x"`}) {
		t.Errorf("%q, %v, %v", flat(entries), problems, err)
	}
}

func TestAddy(t *testing.T) {
	entries, problems, err := Addy(strings.NewReader(text(t, "addy.csv")))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{
		`2 shop@me.addy.example "The lamp shop" 2024-03-19T11:45:53Z`,
		`3 news+extra@me.addy.example "" paused 2025-06-14T07:12:25Z`,
	}; !slices.Equal(flat(entries), want) {
		t.Errorf("%q", flat(entries))
	}
	if want := []string{"line 4: gone@me.addy.example: it is deleted there; it was left out"}; !slices.Equal(said(problems), want) {
		t.Errorf("%q", said(problems))
	}
	entries, problems, err = Addy(strings.NewReader("\ufeffAlias,Description,Recipients\r\na1@me.example,x,\"me@mailbox.example,you@mailbox.example\"\r\n"))
	if err != nil || len(problems) > 0 || !slices.Equal(flat(entries), []string{`2 a1@me.example "x" to me@mailbox.example+you@mailbox.example`}) {
		t.Errorf("%q, %v, %v", flat(entries), problems, err)
	}
}

func TestCSV(t *testing.T) {
	for name, want := range map[string]Service{"simplelogin.csv": ServiceSimpleLogin, "addy.csv": ServiceAddy} {
		s, entries, _, err := CSV(strings.NewReader(text(t, name)))
		if err != nil || s != want || len(entries) == 0 {
			t.Errorf("%s: %s, %d entries, %v", name, s, len(entries), err)
		}
	}
}

func TestFaults(t *testing.T) {
	both := map[string]func(io.Reader) ([]Entry, []Problem, error){"SimpleLogin": SimpleLogin, "addy.io": Addy}
	for name, read := range both {
		for text, want := range map[string]string{
			"":                "the file is empty",
			"name,address\na": "this is no file of " + name,
		} {
			if _, _, err := read(strings.NewReader(text)); errs.KindOf(err) != errs.Invalid || !strings.HasPrefix(errs.Public(err), want) {
				t.Errorf("%s, %q: %v", name, text, err)
			}
		}
		if _, _, err := read(iotest.ErrReader(errors.New("gone"))); errs.KindOf(err) != errs.Unavailable || errs.Public(err) != "the file cannot be read" {
			t.Error(err)
		}
	}
	for kind, read := range map[string]func(*Table) ([]Entry, []Problem, error){"SimpleLogin": simpleLogin, "addy.io": addy} {
		within := func(text io.Reader) error {
			table, err := openWithin(io.MultiReader(strings.NewReader("alias,note,description\n"), text), 2000, 3)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = read(table)
			return err
		}
		if err := within(strings.NewReader("a@b.example\nb@b.example\nc@b.example\n")); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if err := within(strings.NewReader("a@b.example\nb@b.example\nc@b.example\nd@b.example\n")); errs.KindOf(err) != errs.TooLarge || errs.Public(err) != "the file has more than 3 aliases" {
			t.Errorf("%s: %v", kind, err)
		}
		if err := within(io.MultiReader(strings.NewReader("\""), endless{})); errs.KindOf(err) != errs.TooLarge || errs.Public(err) != "the file is larger than 2000 bytes" {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, _, _, err := CSV(strings.NewReader("a,b\n")); errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), "neither a file of SimpleLogin") {
		t.Error(err)
	}
	_, problems, err := SimpleLogin(strings.NewReader("alias,note\na@b.example," + strings.Repeat("é", MaxNote)))
	if err != nil || !slices.Equal(said(problems), []string{"line 2: a@b.example: its note is longer than 4096 bytes and was cut"}) {
		t.Errorf("%q, %v", said(problems), err)
	}
}

// endless is letters without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// FuzzCSV: no file makes the readers fall, and what they give is addresses in canonical form, each once.
func FuzzCSV(f *testing.F) {
	f.Add([]byte(text(f, "simplelogin.csv")))
	f.Add([]byte(text(f, "addy.csv")))
	f.Add([]byte("alias,note\n\"a@b\x00\",\"\n"))
	f.Add([]byte("\ufeffemail,active,deleted_at\r\nA@B.example,1,"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, entries, problems, err := CSV(strings.NewReader(string(b)))
		if err != nil && errs.KindOf(err) != errs.Invalid {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, e := range entries {
			if e.Address != e.Address.Canonical() || e.Address.IsZero() || seen[e.Address.String()] || len(e.Note) > MaxNote {
				t.Fatalf("%+v", e)
			}
			seen[e.Address.String()] = true
		}
		for _, p := range problems {
			if p.Text == "" || len(p.Subject) > 4*254 {
				t.Fatalf("%+v", p)
			}
		}
	})
}
