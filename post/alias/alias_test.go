package alias

import (
	"testing"

	"postern.email/kit/errs"
	"postern.email/post/names"
	"postern.email/store"
)

// TestLife: an alias is made, found in any capitals and with a tag, changed, deleted, restored and
// in the end dead for good, and so is its name.
func TestLife(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	al := w.create(v.Vault, New{Local: "amber-falcon-4821", Notes: Notes{Site: "shop.example", Label: "Shop", Note: "for shoes"}})
	if al.Address != at("amber-falcon-4821@example.org") || al.Owner != v.Owner || !al.Stored || al.Created != DayOf(w.clock.Now()) {
		t.Fatalf("%+v", al)
	}
	for _, addr := range []string{"Amber-Falcon-4821@EXAMPLE.org", "amber-falcon-4821+tag@example.org"} {
		if got := w.lookup(addr); got.Address != al.Address || got.Owner != v.Owner {
			t.Errorf("%s finds %+v", addr, got)
		}
	}
	if n := w.notes(v.Vault, "amber-falcon-4821@example.org"); n.Site != "shop.example" || n.Label != "Shop" || n.Note != "for shoes" || n.Correspondents != nil {
		t.Errorf("notes %+v", n)
	}
	other := w.account(2)
	for _, who := range []account{v, other} {
		_, err := w.Create(ctx, who.Vault, New{Local: "Amber-Falcon-4821"})
		wantKind(t, err, errs.Exists, textTaken)
	}
	_, err := other.Notes(al)
	wantKind(t, err, errs.Denied, "")
	wantKind(t, w.Delete(ctx, other.Vault, al.Address), errs.NotFound, textNoAlias)
	_, err = w.Change(ctx, other.Vault, al.Address, func(*Change) {})
	wantKind(t, err, errs.NotFound, textNoAlias)

	if err := w.Delete(ctx, v.Vault, al.Address); err != nil {
		t.Fatal(err)
	}
	_, err = w.Lookup(ctx, al.Address)
	wantKind(t, err, errs.NotFound, "")
	wantKind(t, w.Delete(ctx, v.Vault, al.Address), errs.NotFound, textNoAlias)
	_, err = w.Change(ctx, v.Vault, al.Address, func(*Change) {})
	wantKind(t, err, errs.NotFound, textNoAlias)
	_, err = w.Create(ctx, v.Vault, New{Local: "amber-falcon-4821"})
	wantKind(t, err, errs.Exists, textTaken)
	_, err = w.Restore(ctx, other.Vault, al.Address)
	wantKind(t, err, errs.NotFound, textNoAlias)
	if list, _, err := w.List(ctx, v.Owner, "", 10); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	w.clock.Add(DefaultUndoDays * aDay)
	if list, _, err := w.Trash(ctx, v.Owner, "", 10); err != nil || len(list) != 1 || list[0].Deleted == 0 {
		t.Errorf("%v %v", list, err)
	}
	back, err := w.Restore(ctx, v.Vault, al.Address)
	if err != nil || back.Address != al.Address || back.Deleted != 0 {
		t.Fatalf("%+v %v", back, err)
	}
	if n := w.notes(v.Vault, "amber-falcon-4821@example.org"); n.Label != "Shop" {
		t.Errorf("notes %+v", n)
	}
	_, err = w.Restore(ctx, v.Vault, al.Address)
	wantKind(t, err, errs.NotFound, textNoAlias)
	w.sound()

	if err := w.Delete(ctx, v.Vault, al.Address); err != nil {
		t.Fatal(err)
	}
	w.clock.Add((DefaultUndoDays + 1) * aDay)
	_, err = w.Restore(ctx, v.Vault, al.Address)
	wantKind(t, err, errs.NotFound, textUndo)
	if n, err := w.Sweep(ctx); err != nil || n != (Swept{Buried: 1}) {
		t.Fatalf("%+v %v", n, err)
	}
	if r, err := w.o.Names.Lookup(ctx, al.Address); err != nil || r.Kind != names.GoneAlias || r.ID != v.Owner {
		t.Errorf("the name is %+v %v", r, err)
	}
	for _, who := range []account{v, other} {
		_, err = w.Create(ctx, who.Vault, New{Local: "amber-falcon-4821"})
		wantKind(t, err, errs.Denied, "this name was deleted and is not given out again")
	}
	w.clock.Add(10000 * aDay)
	if n, err := w.Sweep(ctx); err != nil || n != (Swept{}) {
		t.Fatalf("%+v %v", n, err)
	}
	_, err = w.Create(ctx, v.Vault, New{Local: "amber-falcon-4821"})
	wantKind(t, err, errs.Denied, "")
	w.sound()
}

// TestNames: an alias never gets the name of an account, living or dead.
func TestNames(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	for local, k := range map[string]names.Kind{"alice": names.Account, "bob": names.Gone} {
		addr := at(local + "@" + domain)
		err := w.st.Update(ctx, w.o.Names.Shard(addr), func(tx store.Tx) error {
			return w.o.Names.Set(tx, addr, names.Record{Kind: k, ID: Owner{9}, Day: 1})
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Create(ctx, v.Vault, New{Local: local})
		wantKind(t, err, map[names.Kind]errs.Kind{names.Account: errs.Exists, names.Gone: errs.Denied}[k], "")
		_, err = w.Lookup(ctx, addr)
		wantKind(t, err, errs.NotFound, "")
	}
	w.sound()
}
