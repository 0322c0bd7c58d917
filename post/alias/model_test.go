package alias

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/store/storetest"
)

// modelAlias is what the model knows of an alias.
type modelAlias struct {
	owner    int
	mode     Mode
	paused   bool
	deleted  Day // 0: living
	buried   bool
	received uint32
	pinned   string
	written  map[string]bool
	blocked  map[string]bool
	allowed  map[string]bool
}

// verdict is what the model says of a mail.
func (m *modelAlias) verdict(from string) Action {
	switch {
	case m.paused:
		return Paused
	case m.blocked[from]:
		return Refuse
	case m.allowed[from], m.pinned == from, m.written[from]:
		return Take
	case m.mode == ModeOpen, m.mode == ModePinned && m.pinned == "":
		return Take
	case m.mode == ModeAsk:
		return Later
	}
	return Refuse
}

// TestModel: any order of creations, mails, changes, deletions and restorations gives what a map
// of names would, on one log and on two, and a name is never given out twice.
func TestModel(t *testing.T) {
	for _, split := range []bool{false, true} {
		t.Run(fmt.Sprintf("split=%t", split), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { runModel(t, rt, split) })
		})
	}
}

func runModel(t *testing.T, rt *rapid.T, split bool) {
	w := newWorld(t)
	defer func() { _ = w.st.Close() }()
	set := func(o *Options) {
		o.AskDays, o.MaxPerOwner = 100000, 3
		if split {
			o.Store = storetest.SplitLogs(w.st)
		}
	}
	w.reopen(set)
	vaults := []*Vault{w.account(1).Vault, w.account(2).Vault}
	all := map[string]*modelAlias{}
	locals := rapid.SampledFrom([]string{"a1", "b2", "c3", "d4", "e5"})
	senders := rapid.SampledFrom([]string{"x@shop.example", "y@shop.example", "z@evil.example"})
	who := rapid.IntRange(0, 1)
	living := func(owner int) (n int) {
		for _, m := range all {
			if m.owner == owner && m.deleted == 0 && !m.buried {
				n++
			}
		}
		return n
	}
	mine := func(owner int, local string) *modelAlias {
		if m := all[local]; m != nil && m.owner == owner && m.deleted == 0 && !m.buried {
			return m
		}
		return nil
	}
	expect := func(what string, err error, want errs.Kind, ok bool) {
		if ok && err != nil || !ok && (err == nil || errs.KindOf(err) != want) {
			rt.Fatalf("%s: %v, want %v (fine: %t)", what, err, want, ok)
		}
	}
	rt.Repeat(map[string]func(*rapid.T){
		"create": func(rt *rapid.T) {
			o, local, mode := who.Draw(rt, "owner"), locals.Draw(rt, "local"), Mode(rapid.IntRange(0, int(numModes)-1).Draw(rt, "mode"))
			_, err := w.Create(ctx, vaults[o], New{Local: local, Mode: mode})
			switch m := all[local]; {
			case living(o) == 3:
				if err == nil || errs.KindOf(err) != errs.Full && errs.KindOf(err) != errs.Exists && errs.KindOf(err) != errs.Denied {
					rt.Fatalf("create beyond the most: %v", err)
				}
			case m != nil && m.buried:
				expect("create", err, errs.Denied, false)
			case m != nil:
				expect("create", err, errs.Exists, false)
			default:
				expect("create", err, 0, true)
				all[local] = &modelAlias{owner: o, mode: mode, written: map[string]bool{}, blocked: map[string]bool{}, allowed: map[string]bool{}}
			}
		},
		"mail": func(rt *rapid.T) {
			local, from := locals.Draw(rt, "local"), senders.Draw(rt, "from")
			al, err := w.Lookup(ctx, at(local+"@"+domain))
			m := all[local]
			if m == nil || m.deleted != 0 || m.buried {
				expect("lookup", err, errs.NotFound, false)
				return
			}
			expect("lookup", err, 0, true)
			v := al.Judge(at(from), w.clock.Now())
			if want := m.verdict(from); v.Action != want || al.Received != m.received || al.Mode != m.mode || al.Paused != m.paused || al.Owner != vaults[m.owner].Owner {
				rt.Fatalf("%+v of %+v, want %s", v, al, want)
			}
			expect("record", w.Record(ctx, w.Arrive(al, at(from), v)), 0, true)
			if v.Action == Take {
				m.received++
				if m.pinned == "" && (m.mode == ModeOpen || m.mode == ModePinned) {
					m.pinned = from
				}
			}
		},
		"write": func(rt *rapid.T) {
			local, to := locals.Draw(rt, "local"), senders.Draw(rt, "to")
			if al, err := w.Lookup(ctx, at(local+"@"+domain)); err == nil {
				expect("write", w.Record(ctx, w.WroteTo(al, []mail.Address{at(to)})), 0, true)
				all[local].written[to] = true
			}
		},
		"change": func(rt *rapid.T) {
			o, local, s := who.Draw(rt, "owner"), locals.Draw(rt, "local"), senders.Draw(rt, "sender")
			what := rapid.IntRange(0, 4).Draw(rt, "what")
			mode := Mode(rapid.IntRange(0, int(numModes)-1).Draw(rt, "mode"))
			_, err := w.Change(ctx, vaults[o], at(local+"@"+domain), func(c *Change) {
				switch what {
				case 0:
					c.Paused = !c.Paused
				case 1:
					c.Mode = mode
				case 2:
					c.Block = []string{s}
				case 3:
					c.Allow = []string{s}
				case 4:
					c.Forget = []string{s}
				}
			})
			m := mine(o, local)
			expect("change", err, errs.NotFound, m != nil)
			if m == nil {
				return
			}
			switch what {
			case 0:
				m.paused = !m.paused
			case 1:
				m.mode = mode
			case 2:
				m.blocked[s], m.allowed[s] = true, false
			case 3:
				m.allowed[s], m.blocked[s] = true, false
			case 4:
				m.allowed[s], m.blocked[s], m.written[s] = false, false, false
				if m.pinned == s {
					m.pinned = ""
				}
			}
		},
		"delete": func(rt *rapid.T) {
			o, local := who.Draw(rt, "owner"), locals.Draw(rt, "local")
			m := mine(o, local)
			expect("delete", w.Delete(ctx, vaults[o], at(local+"@"+domain)), errs.NotFound, m != nil)
			if m != nil {
				m.deleted = DayOf(w.clock.Now())
			}
		},
		"restore": func(rt *rapid.T) {
			o, local := who.Draw(rt, "owner"), locals.Draw(rt, "local")
			_, err := w.Restore(ctx, vaults[o], at(local+"@"+domain))
			m := all[local]
			switch {
			case m == nil || m.owner != o || m.buried || m.deleted == 0 || DayOf(w.clock.Now())-m.deleted > DefaultUndoDays:
				expect("restore", err, errs.NotFound, false)
			case living(o) == 3:
				expect("restore", err, errs.Full, false)
			default:
				expect("restore", err, 0, true)
				m.deleted = 0
			}
		},
		"wait": func(rt *rapid.T) {
			w.clock.Add(20 * aDay)
			if _, err := w.Sweep(ctx); err != nil {
				rt.Fatal(err)
			}
			for _, m := range all {
				if m.deleted != 0 && DayOf(w.clock.Now())-m.deleted > DefaultUndoDays {
					m.buried = true
				}
			}
		},
		"restart": func(*rapid.T) { w.reopen(set) },
		"": func(rt *rapid.T) {
			for o, v := range vaults {
				list, _, err := w.List(ctx, v.Owner, "", 10)
				if err != nil || len(list) != living(o) {
					rt.Fatalf("owner %d lists %d, has %d: %v", o, len(list), living(o), err)
				}
			}
		},
	})
	if err := w.Check(ctx, func(f Finding) { rt.Errorf("Check finds %+v", f) }); err != nil {
		rt.Fatal(err)
	}
}
