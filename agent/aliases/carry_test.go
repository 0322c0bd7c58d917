package aliases

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/post/alias"
	"postern.email/post/names"
	"postern.email/post/seal"
)

// TestImportHostile: lines that nobody exported are told one by one, make no half of an alias and keep
// no other from being made.
func TestImportHostile(t *testing.T) {
	w := newWorld(t, nil)
	who, ctx := w.token("anna"), t.Context()
	good := View{Address: "good@example.org"}
	with := func(set func(*View)) View { v := View{Address: "bad@example.org"}; set(&v); return v }
	for text, v := range map[string]View{
		"is not a mail address":        {},
		"not a mail address":           {Address: "a@b@c\r\nBcc: x@y.example"},
		"reserved":                     {Address: "postmaster@example.org"},
		"not made in this domain":      {Address: "x.y@elsewhere.example"},
		"the mode is":                  with(func(v *View) { v.Mode = "odd" }),
		"the class is":                 with(func(v *View) { v.Class = "odd" }),
		"an end is a day":              with(func(v *View) { v.Expires = "tomorrow" }),
		"lies ahead":                   with(func(v *View) { v.Expires = "2020-01-01" }),
		"before the year 10000":        with(func(v *View) { v.Expires = "9999-12-31" }),
		"host name":                    with(func(v *View) { v.Site = "a b" }),
		"at most 255 bytes":            with(func(v *View) { v.Label = strings.Repeat("x", 256) }),
		"a note at most 4096":          with(func(v *View) { v.Note = strings.Repeat("x", 4097) }),
		"a sender is an address":       with(func(v *View) { v.Correspondents = []Correspondent{{Address: "no sender", State: "blocked"}} }),
		"a sender is an address, or @": with(func(v *View) { v.Mode, v.Correspondents = "pinned", []Correspondent{{Address: "@", State: "pinned"}} }),
	} {
		r, err := w.desk.Import(ctx, who, "", []View{v, good})
		if err != nil || len(r.Failed) == 0 || r.Failed[0].Address != v.Address || !strings.Contains(r.Failed[0].Text, text) {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
	}
	if got := w.all(who, ListRequest{}); len(got) != 1 || got[0] != "good" {
		t.Errorf("made were %v", got)
	}
	many := with(func(v *View) {
		v.Address = "many@example.org"
		for i := range 100 {
			v.Correspondents = append(v.Correspondents, Correspondent{Address: fmt.Sprintf("@evil%d.example", i), State: "blocked"})
		}
	})
	r, err := w.desk.Import(ctx, who, "", []View{many})
	if err != nil || r.Made != 0 || len(r.Failed) != 1 || !strings.Contains(r.Failed[0].Text, "made without its rules: an alias has no room") {
		t.Errorf("%+v, %v", r, err)
	}
	_, err = w.desk.Import(ctx, who, "other.example", []View{good})
	wantKind(t, err, errs.Invalid, textDomain)
}

// TestImportFull: with as many aliases as the owner may have the others are told, and the map learns
// of those that were made.
func TestImportFull(t *testing.T) {
	mapped := 0
	w := newWorld(t, func(o *Options) { o.Map = func(context.Context) error { mapped++; return nil } })
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.desk.o.Aliases, err = alias.Open(t.Context(), alias.Options{Store: w.Store, Root: root, Names: names.New(w.Store, root), Domains: w.desk.o.Domains, Now: w.Clock.Now, MaxPerOwner: 2})
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.desk.Import(t.Context(), w.who("anna"), "", []View{{Address: "one@example.org"}, {Address: "two@example.org"}, {Address: "three@example.org"}, {Address: "four@example.org"}})
	if err != nil || r.Made != 2 || len(r.Failed) != 2 || !strings.Contains(r.Failed[1].Text, "as many aliases as you may") || mapped != 1 {
		t.Errorf("%+v, %v, the map was told %d times", r, err, mapped)
	}
}

// dying is a context that ends after so many looks at it.
type dying struct {
	context.Context
	left *int
}

func (d dying) Err() error {
	if *d.left--; *d.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestImportCutOff: whoever hangs up in the middle of an import, at whatever moment, leaves no alias without its rules,
// and the same import again makes the rest, and none twice.
func TestImportCutOff(t *testing.T) {
	var in []View
	for i := range 3 {
		in = append(in, View{Address: fmt.Sprintf("shop-%d@example.org", i), State: "paused"})
	}
	cut := 0
	for looks := 0; ; looks++ {
		w := newWorld(t, nil)
		who := w.token("anna")
		left := looks
		first, err := w.desk.Import(dying{t.Context(), &left}, who, "", in)
		made := w.all(who, ListRequest{})
		for _, local := range made {
			if v, err := w.desk.Get(t.Context(), who, local); err != nil || v.State != "paused" {
				t.Fatalf("cut off after %d looks: %+v, %v", looks, v, err)
			}
		}
		if err == nil {
			break
		}
		wantKind(t, err, errs.Canceled, "")
		if first.Made != len(made) {
			t.Errorf("%d of %d are told", first.Made, len(made))
		}
		if len(made) > 0 && len(made) < len(in) {
			cut++
		}
		if again, err := w.desk.Import(t.Context(), who, "", in); err != nil || again.Yours != len(made) || again.Made != len(in)-len(made) || len(again.Failed) > 0 {
			t.Fatalf("cut off after %d looks: %+v, %v", looks, again, err)
		}
	}
	if cut == 0 {
		t.Error("no import was cut off in the middle")
	}
}

// TestImportTwice: of two imports at once each alias is made by one of them, and is there once.
func TestImportTwice(t *testing.T) {
	w := newWorld(t, nil)
	who := w.token("anna")
	var in []View
	for i := range 50 {
		in = append(in, View{Address: fmt.Sprintf("shop-%d@example.org", i), State: "paused"})
	}
	results := make(chan ImportResult, 2)
	for range 2 {
		go func() {
			r, err := w.desk.Import(t.Context(), who, "", in)
			if err != nil {
				t.Error(err)
			}
			results <- r
		}()
	}
	a, b := <-results, <-results
	if a.Made+b.Made != len(in) || a.Yours+b.Yours != len(in) || len(a.Failed)+len(b.Failed) > 0 {
		t.Errorf("%+v and %+v", a, b)
	}
	if got := w.all(who, ListRequest{}); len(got) != len(in) {
		t.Errorf("%d aliases are there", len(got))
	}
}

// TestRoundTrip: an export that another owner takes over, in another domain, exports the same again,
// but for address, days and counts.
func TestRoundTrip(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	anna, ben := w.token("anna"), w.token("ben")
	w.make(anna, CreateRequest{Custom: "one.shop", Site: "shop.example", Label: `quote " and, comma`, Note: "two\nlines\u0000 \u202e", Mode: "allow-list", Class: "strict", Expires: "2030-02-28T12:00:00+02:00", MaxMails: 9, IdleDays: 8})
	w.make(anna, CreateRequest{Custom: "two_shop", Mode: "ask"})
	w.make(anna, CreateRequest{Custom: "three-shop"})
	yes := true
	for local, r := range map[string]ChangeRequest{
		"one.shop":   {Allow: []string{"friend@shop.example", "@kind.example"}, Block: []string{"@evil.example"}},
		"two_shop":   {Paused: &yes},
		"three-shop": {Pin: new("@shop.example")},
	} {
		if _, err := w.desk.Change(ctx, anna, local, r); err != nil {
			t.Fatal(err)
		}
	}
	export := func(who Who, call string) (out map[string]View) {
		t.Helper()
		out = make(map[string]View)
		n, err := Commands(w.desk, nil)[call](ctx, []byte(`{"token":"`+who.Token+`"}`), func(v any) error {
			text, err := json.Marshal(v) // as it goes over the socket
			if err != nil {
				return err
			}
			var got View
			err = json.Unmarshal(text, &got)
			local, _, _ := strings.Cut(got.Address, "@")
			slices.SortFunc(got.Correspondents, func(a, b Correspondent) int { return strings.Compare(a.Address, b.Address) })
			out[local] = got
			return err
		})
		if err != nil || n != len(out) {
			t.Fatalf("%v of %d, %v", n, len(out), err)
		}
		return out
	}
	was := export(anna, "alias.export")
	var in []View
	for _, v := range was {
		in = append(in, v)
	}
	text, err := json.Marshal(Args{Token: ben.Token, Domain: "Alias.example", Import: in})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Commands(w.desk, nil)["alias.import"](ctx, text, nil); err != nil || r.(ImportResult).Made != 3 || len(r.(ImportResult).Failed) != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	for local, v := range export(ben, "alias.export") {
		want := was[local]
		if want.Address = local + "@alias.example"; !reflect.DeepEqual(v, want) {
			t.Errorf("got  %+v\nwant %+v", v, want)
		}
	}
	if v := was["three-shop"]; v.Mode != "pinned" || len(v.Correspondents) != 1 || v.Correspondents[0].Address != "@shop.example" || v.Correspondents[0].State != "pinned" {
		t.Errorf("%+v", v)
	}
	if v := was["one.shop"]; v.Expires != "2030-02-28T10:00:00Z" || len(v.Correspondents) != 3 {
		t.Errorf("%+v", v)
	}
}
