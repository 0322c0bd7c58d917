package alias

import (
	"fmt"
	"net/url"
	"strings"
	"unicode"
)

// maxAddress bounds an address in a query, in bytes (RFC 5321 §4.5.3.1).
const maxAddress = 320

// notices say what was done, by the key in a page's query.
var notices = map[string]string{
	"made":      "The alias is made. It takes mail from now on.",
	"paused":    "Paused: mail to it is refused until you resume it.",
	"resumed":   "Resumed: it takes mail again.",
	"restored":  "Restored: it is as it was.",
	"saved":     "Saved.",
	"blocked":   "Blocked: mail from there is refused.",
	"allowed":   "Allowed: mail from there is taken.",
	"forgotten": "Taken off the list.",
	"extended":  "Extended by 30 days.",
	"revoked":   "The token is void.",
}

var modeTexts = map[string]string{
	ModeOpen:   "Anybody",
	ModePinned: "The first who writes, and nobody else",
	ModeAllow:  "Those whom I allow",
	ModeAsk:    "Ask me about each one",
}

var classTexts = map[string]string{
	ClassStrict:   "Encrypted mail only",
	ClassOpenMail: "Ordinary mail, too",
}

var stateTexts = map[string]string{
	StateActive: "Takes mail", StatePaused: "Paused", StateExpired: "Ended", StateDeleted: "Deleted",
}

var senderTexts = map[string]string{
	SenderPinned: "Pinned: the one who may write", SenderAllowed: "Allowed", SenderBlocked: "Blocked", SenderAsks: "Asks to write",
	SenderSeen: "Wrote", SenderWrittenTo: "You wrote there",
}

// pathOf is the path of an alias's page.
func pathOf(address string) string { return PagePath + "/" + url.PathEscape(address) }

// aliasView is an alias with what a page says of it.
type aliasView struct {
	View
	Path                                       string
	For                                        string // site and label in one line
	StateText, StateLong, StateClass           string
	Counts, Ends                               string
	CanPause, CanResume, CanExtend, CanRestore bool
}

func showAlias(v View) aliasView {
	a := aliasView{View: v, Path: pathOf(v.Address), StateText: stateTexts[v.State], Counts: counts(v), Ends: ends(v)}
	if a.StateText == "" {
		a.StateText = v.State
	}
	parts := []string{}
	for _, text := range []string{v.Site, v.Label} {
		if text != "" {
			parts = append(parts, text)
		}
	}
	a.For = strings.Join(parts, " · ")
	switch v.State {
	case StateActive:
		a.CanPause = true
		a.StateLong = "Who may write: " + lower(modeTexts[v.Mode]) + ". What is taken: " + lower(classTexts[v.Class]) + "."
	case StatePaused:
		a.CanResume, a.StateClass = true, "off"
		a.StateLong = "Mail to it is refused, and the sender is told that there is no such address."
	case StateExpired:
		a.StateClass = "off"
		a.StateLong = "Its time is over: mail to it is refused. Extend it, or choose another end below."
	case StateDeleted:
		a.CanRestore, a.StateClass = true, "off"
		a.StateLong = "Mail to it is refused. The address is never given to anybody again."
		if v.RestorableTill != "" {
			a.StateLong += " You can undo this until " + v.RestorableTill + "."
		}
	}
	a.CanExtend = !a.CanRestore && (v.Expires != "" || v.State == StateExpired)
	return a
}

// lower begins a text with a small letter, as the middle of a sentence has.
func lower(text string) string {
	if text == "" {
		return "as usual here"
	}
	return strings.ToLower(text[:1]) + text[1:]
}

func many(n uint32, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

func counts(v View) string {
	text := many(v.Received, "mail", "mails") + " received, " + fmt.Sprint(v.Refused) + " refused, " + fmt.Sprint(v.Sent) + " sent"
	if v.Last != "" {
		text += " · last one on " + v.Last
	}
	return text
}

func ends(v View) string {
	var list []string
	if v.Expires != "" {
		list = append(list, "on "+dayOf(v.Expires))
	}
	if v.MaxMails != 0 {
		list = append(list, "after "+many(v.MaxMails, "mail", "mails"))
	}
	if v.IdleDays != 0 {
		list = append(list, "after "+many(uint32(v.IdleDays), "day", "days")+" without mail")
	}
	if len(list) == 0 {
		return "It has no end."
	}
	return "Ends " + strings.Join(list, ", or ") + "."
}

// senderView is a correspondent with what a page says of them.
type senderView struct {
	Correspondent
	StateText, StateClass, History string
	CanBlock, CanAllow, CanForget  bool
}

// showSender says what counts for a sender of an alias of this mode. The first who wrote is remembered in every mode, and
// is the only one who may write in one of them.
func showSender(c Correspondent, mode string) senderView {
	s := senderView{Correspondent: c, StateText: senderTexts[c.State], CanBlock: c.State != SenderBlocked,
		CanAllow: c.State != SenderAllowed && c.State != SenderPinned, CanForget: c.State == SenderBlocked || c.State == SenderAllowed}
	switch {
	case s.StateText == "":
		s.StateText = c.State
	case c.State == SenderPinned && mode != ModePinned:
		s.StateText = "Expected"
	}
	switch c.State {
	case SenderBlocked:
		s.StateClass = "bad"
	case SenderSeen, SenderWrittenTo:
		s.StateClass = "off"
	}
	s.History = many(c.Mails, "mail", "mails")
	switch {
	case c.First != "" && c.Last != "" && c.First != c.Last:
		s.History += ", from " + c.First + " to " + c.Last
	case c.First != "":
		s.History += ", on " + c.First
	}
	return s
}

// tokenView is a token with what a page says of it.
type tokenView struct {
	Token
	Title, May string
}

var scopeTexts = map[string]string{ScopeCreate: "make aliases", ScopeList: "see them", ScopeManage: "change them"}

func showToken(t Token) tokenView {
	v := tokenView{Token: t, Title: t.Name}
	if v.Title == "" {
		v.Title = "Token without a name"
	}
	var may []string
	for _, s := range t.Scopes {
		may = append(may, scopeTexts[s])
	}
	v.May = "It may " + strings.Join(may, ", ") + ". Made on " + t.Created
	if t.LastUsed == "" {
		v.May += ", never used."
	} else {
		v.May += ", last used on " + t.LastUsed + "."
	}
	return v
}

// sign is one character of an address, and how it is said.
type sign struct{ Sign, Word string }

// radio is the alphabet of the International Telecommunication Union's Radio Regulations,
// appendix 14.
var radio = [...]string{"Alfa", "Bravo", "Charlie", "Delta", "Echo", "Foxtrot", "Golf", "Hotel", "India", "Juliett", "Kilo", "Lima", "Mike",
	"November", "Oscar", "Papa", "Quebec", "Romeo", "Sierra", "Tango", "Uniform", "Victor", "Whiskey", "X-ray", "Yankee", "Zulu"}

var digits = [...]string{"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}

// spell says each character of an address.
func spell(address string) []sign {
	var out []sign
	for _, c := range address {
		s := sign{Sign: string(c)}
		switch {
		case c >= 'a' && c <= 'z':
			s.Word = radio[c-'a']
		case c >= 'A' && c <= 'Z':
			s.Word = radio[c-'A']
		case c >= '0' && c <= '9':
			s.Word = digits[c-'0']
		case c == '@':
			s.Word = "at"
		case c == '.':
			s.Word = "dot"
		case c == '-':
			s.Word = "hyphen"
		case c == '_':
			s.Word = "underscore"
		case c == '+':
			s.Word = "plus"
		case unicode.IsLetter(c):
			s.Word = "letter"
		default:
			s.Word = "sign"
		}
		out = append(out, s)
	}
	return out
}
