package imapmodel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// searchResult reads SEARCH, with "(MODSEQ n)" of RFC 7162 §3.1.5, and ESEARCH
// (RFC 9051 §7.3.4).
func (s *session) searchResult(r Reply, o *op) error {
	if o == nil || o.search == nil {
		return fmt.Errorf("nobody asked")
	}
	if o.searched {
		return fmt.Errorf("two results of one SEARCH")
	}
	o.searched = true
	text := r.Args
	if r.Kind == "SEARCH" {
		if s.rev2 {
			return fmt.Errorf("SEARCH in IMAP4rev2, must be ESEARCH (RFC 9051 §6.4.4)")
		}
		if list, mod, ok := strings.Cut(text, "(MODSEQ "); ok {
			n, err := strconv.ParseUint(strings.TrimSuffix(mod, ")"), 10, 63)
			if err != nil {
				return err
			}
			text, o.foundMod = list, n
		}
		for w := range strings.FieldsSeq(text) {
			n, err := strconv.ParseUint(w, 10, 32)
			if err != nil {
				return err
			}
			o.found = append(o.found, uint32(n))
		}
	} else if err := o.esearch(text); err != nil {
		return err
	}
	if o.kind == "SEARCH" { // numbers stay valid until the command has ended
		for i, n := range o.found {
			if n == 0 || int(n) > len(s.slots) {
				return fmt.Errorf("there are only %d messages", len(s.slots))
			}
			o.found[i] = s.slots[n-1].uid
		}
	}
	return nil
}

func (o *op) esearch(text string) error {
	if rest, ok := strings.CutPrefix(text, "(TAG "); ok {
		tag, after, _ := strings.Cut(rest, ")")
		if strings.Trim(tag, `"`) != o.tag {
			return fmt.Errorf("the result of another command")
		}
		text = strings.TrimSpace(after)
	}
	words := strings.Fields(text)
	if len(words) > 0 && strings.EqualFold(words[0], "UID") {
		words = words[1:]
		if o.kind != "UID SEARCH" {
			return fmt.Errorf("UIDs, but numbers were asked for")
		}
	} else if o.kind == "UID SEARCH" {
		return fmt.Errorf("UID is missing (RFC 9051 §7.3.4)")
	}
	for i := 0; i+1 < len(words); i += 2 {
		switch strings.ToUpper(words[i]) {
		case "ALL":
			set, err := parseSet(words[i+1])
			if err != nil {
				return err
			}
			o.found = set
		case "MODSEQ":
			n, err := strconv.ParseUint(words[i+1], 10, 63)
			if err != nil {
				return err
			}
			o.foundMod = n
		}
	}
	return nil
}

// concludeSearch holds the result against each message's states.
func (s *session) concludeSearch(o *op) error {
	if !o.ok {
		return nil
	}
	if !o.searched {
		return fmt.Errorf("no result")
	}
	sorted := slices.Clone(o.found)
	slices.Sort(sorted)
	if len(slices.Compact(sorted)) != len(o.found) {
		return fmt.Errorf("a message twice")
	}
	for _, sl := range o.slotsWas {
		m := s.box.byUID[sl.uid]
		if m == nil || m.died != 0 {
			continue
		}
		yes, no := false, false
		for _, e := range m.window(sl.at) {
			y, n := o.search.holds(sl.uid, e)
			yes, no = yes || y, no || n
		}
		switch in := slices.Contains(o.found, sl.uid); {
		case in && !yes:
			return fmt.Errorf("%s finds UID %d, which never was that; history: %s", o.search.text, sl.uid, history(m, sl.at))
		case !in && !no:
			return fmt.Errorf("%s does not find UID %d; history: %s", o.search.text, sl.uid, history(m, sl.at))
		}
	}
	for _, uid := range o.found {
		if uid != 0 && s.box.byUID[uid] == nil {
			return fmt.Errorf("UID %d never was in the mailbox", uid)
		}
	}
	if !o.search.mod || len(o.found) == 0 {
		return nil
	}
	if o.foundMod == 0 {
		return fmt.Errorf("no highest MODSEQ of the found (RFC 7162 §3.1.5)")
	}
	for _, uid := range o.found {
		if m := s.box.byUID[uid]; m != nil {
			for _, e := range m.hist {
				if o.foundMod >= e.lo && o.foundMod <= e.hi {
					return nil
				}
			}
		}
	}
	return fmt.Errorf("MODSEQ %d belongs to none of the found (RFC 7162 §3.1.5)", o.foundMod)
}
