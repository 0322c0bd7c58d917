package alias

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
)

// form is the fields of an alias as people fill them in.
type form struct {
	Site, Label, Note           string
	Style, Custom, Domain       string
	Mode, Class                 string
	Expires, MaxMails, IdleDays string
}

// readFields takes the fields of a form that was parsed.
func readFields(r *http.Request) form {
	f := func(name string) string {
		return strings.TrimSpace(strings.ReplaceAll(r.PostForm.Get(name), "\r\n", "\n"))
	}
	return form{Site: f("site"), Label: f("label"), Note: f("note"), Style: f("style"), Custom: f("custom"), Domain: f("domain"),
		Mode: f("mode"), Class: f("class"), Expires: f("expires"), MaxMails: f("max_mails"), IdleDays: f("idle_days")}
}

// formOf fills a form with what an alias has.
func formOf(v View) form {
	return form{Site: v.Site, Label: v.Label, Note: v.Note, Mode: v.Mode, Class: v.Class, Expires: dayOf(v.Expires),
		MaxMails: strconv.FormatUint(uint64(v.MaxMails), 10), IdleDays: strconv.FormatUint(uint64(v.IdleDays), 10)}
}

// numbers reads the two numbers; empty fields are 0.
func (f form) numbers() (mails uint32, idle uint16, err error) {
	const op = "wire/alias.numbers"
	number := func(text string, bits int) uint64 {
		if text == "" {
			return 0
		}
		n, e := strconv.ParseUint(text, 10, bits)
		if e != nil {
			err = errs.E(op, errs.Invalid, "mails and days are numbers from 0 to "+strconv.FormatUint(1<<bits-1, 10), e)
		}
		return n
	}
	return uint32(number(f.MaxMails, 32)), uint16(number(f.IdleDays, 16)), err
}

// day checks the date of the form, as browsers send it.
func (f form) day() error {
	if f.Expires == "" {
		return nil
	}
	if _, err := time.Parse(time.DateOnly, f.Expires); err != nil {
		return errs.E("wire/alias.day", errs.Invalid, "the end is a day, as 2026-12-31", err)
	}
	return nil
}

// create is the request for what the form says.
func (f form) create() (q CreateRequest, err error) {
	q = CreateRequest{Style: f.Style, Custom: f.Custom, Domain: f.Domain, Site: f.Site, Label: f.Label, Note: f.Note, Mode: f.Mode, Class: f.Class, Expires: f.Expires}
	if q.MaxMails, q.IdleDays, err = f.numbers(); err != nil {
		return q, err
	}
	return q, f.day()
}

// change is the request for what the form says differently from old: what somebody else changed
// meanwhile stays.
func (f form) change(old View) (q ChangeRequest, err error) {
	was := formOf(old)
	text := func(now, before string) *string {
		if now == before {
			return nil
		}
		return &now
	}
	q = ChangeRequest{Site: text(f.Site, was.Site), Label: text(f.Label, was.Label), Note: text(f.Note, was.Note), Expires: text(f.Expires, was.Expires)}
	if f.Mode != "" {
		q.Mode = text(f.Mode, was.Mode)
	}
	if f.Class != "" {
		q.Class = text(f.Class, was.Class)
	}
	mails, idle, err := f.numbers()
	if err != nil {
		return q, err
	}
	if mails != old.MaxMails {
		q.MaxMails = &mails
	}
	if idle != old.IdleDays {
		q.IdleDays = &idle
	}
	return q, f.day()
}

// dayOf is the day of a time as View has it; "" stays.
func dayOf(text string) string {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC().Format(time.DateOnly)
	}
	return text
}

// choice is one of a list.
type choice struct {
	Value, Text string
	Chosen      bool
}

// choices fills the lists of a form.
func (p *view) choices(a Account, f form) {
	pick := func(now string, list ...choice) []choice {
		for i := range list {
			list[i].Chosen = list[i].Value == now
		}
		return list
	}
	p.Styles = pick(f.Style, choice{"", "As usual here", false}, choice{StyleWords, "Two words that can be said, and a number", false}, choice{StyleSite, "After the site", false}, choice{StyleRandom, "Letters and digits", false})
	p.Modes = pick(f.Mode, choice{ModeOpen, modeTexts[ModeOpen], false}, choice{ModePinned, modeTexts[ModePinned], false}, choice{ModeAllow, modeTexts[ModeAllow], false}, choice{ModeAsk, modeTexts[ModeAsk], false})
	p.Classes = pick(f.Class, choice{ClassStrict, classTexts[ClassStrict], false}, choice{ClassOpenMail, classTexts[ClassOpenMail], false})
	if f.Mode == "" {
		p.Modes = append([]choice{{"", "As usual here", true}}, p.Modes...)
	}
	if f.Class == "" {
		p.Classes = append([]choice{{"", "As usual here", true}}, p.Classes...)
	}
	p.Domains = nil
	for _, d := range a.Domains {
		p.Domains = append(p.Domains, choice{d, d, d == f.Domain})
	}
}

// may reports whether the credential has a scope.
func (a Account) may(scope string) bool { return slices.Contains(a.Scopes, scope) }
