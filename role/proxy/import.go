package proxy

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"postern.email/kit/config"
	"postern.email/kit/errs"
)

// Import is a mailproxy.toml of the Katzenpost program as a configuration of ours.
type Import struct {
	Options    []config.ImportedOption // one for each entry of the file, in its order, then the defaults that differ
	Text       string                  // the configuration; empty with something Refused
	Recipients string                  // the directory in which that program has the keys of recipients
	Config     Config                  // of Text
}

// Refused gives the options for which the file cannot be used.
func (i *Import) Refused() []config.ImportedOption { return config.RefusedOf(i.Options) }

// ImportFile reads mailproxy's configuration and writes one whose data lies in dir. What is of the
// Katzenpost network (keys of authorities and providers) is not taken over: an account is
// registered with its relay anew, and what it trusts is pinned then. errs.Invalid for a file that mailproxy
// would not take either.
func ImportFile(name string, text []byte, dir string) (*Import, error) {
	const op = "role/proxy.ImportFile"
	old, err := LoadText(name, text, nil)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	i := &Import{Recipients: old.Proxy.RecipientDir}
	w := importWriter{i: i, old: &old, dir: dir}
	for _, e := range config.Entries(text) {
		w.entry(e)
	}
	w.defaults()
	if len(i.Refused()) > 0 {
		return i, nil
	}
	i.Text = w.text(filepath.Base(name))
	if i.Config, err = LoadText(name, []byte(i.Text), nil); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return i, nil
}

// importWriter is one run of ImportFile.
type importWriter struct {
	i     *Import
	old   *Config
	dir   string
	lines map[string][]string // by section, in the order in which sections stand
	order []string
}

// keep writes an option into a section.
func (w *importWriter) keep(section, line string) {
	if w.lines == nil {
		w.lines = map[string][]string{}
	}
	if _, ok := w.lines[section]; !ok {
		w.order = append(w.order, section)
	}
	w.lines[section] = append(w.lines[section], line)
}

// notOurs are options that are read and mean nothing here, by section and key in lower case, with why.
var notOurs = map[string]string{
	"debug.pollinginterval":  "mail comes at a constant rate that the network sets",
	"debug.senddecoytraffic": "there is always cover traffic",
}

// entry judges one line.
func (w *importWriter) entry(e config.Entry) {
	if len(e.Table) == 0 { // a dotted key
		e.Table = strings.Split(e.Key, ".")
		e.Table, e.Key = e.Table[:1], strings.Join(e.Table[1:], ".")
	}
	section := e.Table[0]
	o := config.ImportedOption{Line: e.Line, Section: strings.Join(e.Table, "."), Key: e.Key, Verdict: config.Mapped}
	say := func(v config.Verdict, note string) { o.Verdict, o.Note = v, note }
	head := "[" + section + "]"
	switch at := strings.ToLower(section + "." + e.Key); {
	case e.Key == "" || e.Value == "":
		say(config.Refused, "write it as a section of its own, a line for each key")
	case at == "proxy.datadir":
		say(config.Replaced, "the data of this program lies in "+w.dir)
	case at == "proxy.recipientdir":
		say(config.Replaced, "the keys of recipients are taken over into "+filepath.Join(w.dir, "recipients"))
	case at == "management.path" && w.old.Management.Path == filepath.Join(w.old.Proxy.DataDir, "management_sock"):
		say(config.Replaced, "the socket lies in "+w.dir+", as it does by itself")
	case notOurs[at] != "":
		say(config.Replaced, notOurs[at])
	case strings.EqualFold(section, "NonvotingAuthority"), strings.EqualFold(section, "VotingAuthority"):
		say(config.Replaced, "an authority of another network; until you name those of the relay's network here, what the relay says at registration counts")
	case strings.EqualFold(section, "Account"):
		w.account(e, &o)
	case strings.EqualFold(section, "Recipients"):
		o.To, o.Value = "Recipients."+e.Key, e.Value
		o.Note = "a bare X25519 key is used with Proxy.AllowClassicalRecipients only; better ask for the recipient's new key"
		w.keep(head, strconv.Quote(e.Key)+" = "+e.Value)
	default:
		o.To, o.Value = section+"."+e.Key, e.Value
		if at == "upstreamproxy.password" {
			o.Value = "(a password)"
		}
		w.keep(head, e.Key+" = "+e.Value)
	}
	w.i.Options = append(w.i.Options, o)
}

// account judges a line of an account. The sections are written from what was understood.
func (w *importWriter) account(e config.Entry, o *config.ImportedOption) {
	head := fmt.Sprintf("[[Account]] %d", e.N)
	switch strings.ToLower(e.Key) {
	case "providerkeypin":
		o.Verdict, o.Note = config.Replaced, "a key of another network; until you write the relay's here, the one that answers at registration counts"
	case "authority", "votingauthority", "nonvotingauthority":
		o.Verdict, o.Note = config.Replaced, "an authority of another network; until you name those of the relay's network here, what the relay says at registration counts"
	default:
		o.To, o.Value = "Account."+e.Key, e.Value
		w.keep(head, e.Key+" = "+e.Value)
	}
}

// defaults says where silence means something else here.
func (w *importWriter) defaults() {
	for _, d := range []struct{ key, to, value, note string }{
		{"SMTPAuth", "Proxy.SMTPAuth", "true", "mail programs log in with a password before they send; there they need none. SMTPAuth = false restores that on loopback"},
		{"IMAPAddress", "Proxy.IMAPAddress", w.old.Proxy.IMAPAddress, "there is no IMAP there"},
		{"PageAddress", "Proxy.PageAddress", w.old.Proxy.PageAddress, "there is no page there"},
	} {
		w.i.Options = append(w.i.Options, config.ImportedOption{Section: "Proxy", Key: d.key, Verdict: config.Default, To: d.to, Value: d.value, Note: d.note})
	}
}

// text is the new file.
func (w *importWriter) text(from string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# A mail proxy, from %s by postern import mailproxy.\n# All options with their defaults: postern proxy config\n\n[Proxy]\nDataDir = %s\n", from, config.Literal(w.dir))
	for _, l := range w.lines["[Proxy]"] {
		b.WriteString(l + "\n")
	}
	for _, head := range w.order {
		if head == "[Proxy]" {
			continue
		}
		name, _, _ := strings.Cut(head, "] ")
		if name != head {
			name += "]"
		}
		b.WriteString("\n" + name + "\n")
		for _, l := range w.lines[head] {
			b.WriteString(l + "\n")
		}
	}
	return b.String()
}
