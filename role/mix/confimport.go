package mix

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"postern.email/kit/config"
	"postern.email/kit/errs"
)

// What became of options, as with every other program's configuration.
type (
	Verdict        = config.Verdict
	ImportedOption = config.ImportedOption
)

// Verdicts.
const (
	Mapped   = config.Mapped
	Replaced = config.Replaced
	Refused  = config.Refused
	Default  = config.Default
)

// Import is a mixminiond.conf as our configuration.
type Import struct {
	Config  Config
	Options []ImportedOption // one for each entry of the file, in its order, then the defaults that differ
	Given   map[string]bool  // our options that it sets
}

// Refused gives the options for which the file cannot be used.
func (i *Import) Refused() []ImportedOption {
	return config.RefusedOf(i.Options)
}

// importer is one run of ImportConf.
type importer struct {
	name   string
	given  map[string][]confEntry // by "Section/Key"
	values map[string][]string    // what their readers made of them
	out    Import
}

// ImportConf reads a mixminiond.conf. An entry that is not understood, or that must be in it
// and is not, is an error (errs.Invalid) that names the line, as there; what was
// understood and cannot be used is Refused in the Options, and leaves its option as it was.
func ImportConf(name string, text []byte) (*Import, error) {
	const op = "role/mix.ImportConf"
	entries, err := readConf(name, text)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	m := importer{name: name, given: map[string][]confEntry{}, values: map[string][]string{}}
	m.out.Given = map[string]bool{}
	config.Defaults(&m.out.Config)
	sections := map[string]bool{}
	for _, e := range entries {
		if e.key == "" {
			if confOptions[e.section] == nil {
				return nil, m.fault(op, e.line, "there is no section [%s]; there are %s", e.section, strings.Join(confSections(), ", "))
			}
			sections[e.section] = true
			continue
		}
		if err := m.take(e); err != nil {
			return nil, err
		}
	}
	if !sections["Server"] {
		return nil, errs.E(op, errs.Invalid, name+": there is no section [Server]", nil)
	}
	for _, n := range confNeeded {
		if sections[n.section] && m.given[n.section+"/"+n.key] == nil {
			return nil, errs.E(op, errs.Invalid, fmt.Sprintf("%s: section [%s] needs the entry %s", name, n.section, n.key), nil)
		}
	}
	m.decide(entries)
	return &m.out, nil
}

func (m *importer) fault(op string, line int, format string, args ...any) error {
	return errs.E(op, errs.Invalid, fmt.Sprintf("%s:%d: ", m.name, line)+fmt.Sprintf(format, args...), nil)
}

// confSections gives the names of the sections, sorted.
func confSections() []string {
	var all []string
	for s := range confOptions {
		all = append(all, "["+s+"]")
	}
	slices.Sort(all)
	return all
}

// take reads one entry.
func (m *importer) take(e confEntry) error {
	const op = "role/mix.ImportConf"
	o, ok := confOptions[e.section][e.key]
	if !ok {
		var others []string
		for s, all := range confOptions {
			for k := range all {
				if strings.EqualFold(k, e.key) && (s != e.section || k != e.key) {
					others = append(others, fmt.Sprintf("%s in [%s]", k, s))
				}
			}
		}
		slices.Sort(others)
		hint := ""
		if len(others) > 0 {
			hint = "; there is " + strings.Join(others, ", ")
		}
		return m.fault(op, e.line, "[%s] has no option %s%s", e.section, e.key, hint)
	}
	at := e.section + "/" + e.key
	if len(m.given[at]) > 0 && !o.many {
		return m.fault(op, e.line, "%s is there twice, first in line %d", e.key, m.given[at][0].line)
	}
	value, err := o.read(e.value)
	if err != nil {
		return m.fault(op, e.line, "%s: %v", e.key, err)
	}
	m.given[at] = append(m.given[at], e)
	m.values[at] = append(m.values[at], value)
	return nil
}

// value gives what an option was set to, "" if it was not.
func (m *importer) value(at string) string {
	if v := m.values[at]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// together are options of which several entries make one of ours.
var together = map[string]func(*importer) (value, note string, err error){
	"incoming.addresses": (*importer).addresses,
	"incoming.listen":    (*importer).listen,
}

// decide sets our options and writes the report.
func (m *importer) decide(entries []confEntry) {
	set := map[string]ImportedOption{} // by our option, for those of several entries
	n := map[string]int{}
	for _, e := range entries {
		if e.key == "" {
			continue
		}
		at, o := e.section+"/"+e.key, confOptions[e.section][e.key]
		r := ImportedOption{Line: e.line, Section: e.section, Key: e.key}
		value := m.values[at][n[at]]
		n[at]++
		switch why := m.refuses(at, o, value); {
		case why != "":
			r.Verdict, r.Note = Refused, why
		case o.always != "":
			r.Verdict, r.Note = Mapped, o.always
		case o.to == "":
			r.Verdict, r.Note = Replaced, o.replaced
		case at == "Server/Homedir" && m.given["Server/BaseDir"] != nil:
			r.Verdict, r.Note = Replaced, "BaseDir, its newer name, is there too"
		default:
			r.To = o.to
			if before, done := set[o.to]; done {
				r.Verdict, r.Value, r.Note = before.Verdict, before.Value, before.Note
			} else {
				m.assign(&r, at, o)
				set[o.to] = r
			}
			if note := m.note(e); note != "" {
				r.Note = strings.TrimPrefix(r.Note+"; "+note, "; ")
			}
		}
		m.out.Options = append(m.out.Options, r)
	}
	m.mode()
	m.defaults()
	m.whole()
}

// refuses says why a file with this value cannot be used, "" where it can.
func (m *importer) refuses(at string, o confOption, value string) string {
	switch {
	case o.refused != "":
		return o.refused
	case at == "Delivery/SMTP/Enabled" && value == "true":
		return noSMTP + "; set it to no"
	case at == "Delivery/SMTP-Via-Mixmaster/Enabled" && value == "true":
		return noMixmaster + "; set it to no"
	}
	return ""
}

// assign sets one of our options.
func (m *importer) assign(r *ImportedOption, at string, o confOption) {
	value, note := strings.Join(m.values[at], ","), ""
	if make := together[o.to]; make != nil {
		var err error
		if value, note, err = make(m); err != nil {
			r.Verdict, r.Note = Refused, err.Error()
			return
		}
	}
	if err := config.Apply(&m.out.Config, []string{o.to + "=" + value}); err != nil {
		r.Verdict, r.Note = Refused, strings.TrimPrefix(errs.Public(err), "--set "+o.to+": ")
		return
	}
	m.out.Given[o.to] = true
	r.Verdict, r.Value, r.Note = Mapped, value, note
}

// note is what must be said of an entry beside that it was mapped.
func (m *importer) note(e confEntry) string {
	if e.key != "Allow" && e.key != "Deny" {
		return ""
	}
	if r, err := parseRule(e.value); err == nil && r.ports != "" {
		return "the ports " + r.ports + " are not looked at: a rule here is about networks"
	}
	return ""
}

// addresses is where others reach the node: Hostname, or else IP, with Port.
func (m *importer) addresses() (value, note string, err error) {
	const section = "Incoming/MMTP/"
	host, port := m.value(section+"Hostname"), m.value(section+"Port")
	if host == "" {
		if host = m.value(section + "IP"); host == "0.0.0.0" {
			host = ""
		}
	}
	if port == "" {
		port = defaultPort
	}
	if host != "" {
		return net.JoinHostPort(host, port), "", nil
	}
	if listen := m.value(section + "ListenPort"); listen != "" && listen != "0" && listen != port {
		return "", "", fmt.Errorf("the node listens on port %s and is reached on port %s, and neither Hostname nor IP says where: give Hostname", listen, port)
	}
	return "", "the address is that of the machine", nil
}

// listen is where the node listens.
func (m *importer) listen() (value, note string, err error) {
	const section = "Incoming/MMTP/"
	port := m.value(section + "ListenPort")
	if port == "" {
		port = m.value(section + "Port")
	}
	if port == "" {
		port = defaultPort
	}
	var all []string
	ip, ip6 := m.value(section+"ListenIP"), m.value(section+"ListenIP6")
	if ip == "0.0.0.0" && ip6 == "" || ip == "" && ip6 == "" {
		ip = ""
	}
	if ip != "" || ip6 == "" {
		all = append(all, net.JoinHostPort(ip, port))
	}
	if ip6 != "" {
		all = append(all, net.JoinHostPort(ip6, port))
	}
	return strings.Join(all, ","), "", nil
}

// mode follows from what the node delivers, and the port from what it is told by.
func (m *importer) mode() {
	if port := m.value("Incoming/MMTP/Port"); port != "" && !m.out.Given["incoming.listen"] {
		value, _, _ := m.listen()
		if err := config.Apply(&m.out.Config, []string{"incoming.listen=" + value}); err == nil {
			m.out.Given["incoming.listen"] = true
		}
	}
	if m.out.Config.MBOX.Enabled {
		m.out.Config.Mode = []string{"exit"}
		m.out.Given["mode"] = true
		m.noPool()
		m.out.Options = append(m.out.Options, ImportedOption{Section: "Server", Key: "Mode", Verdict: Default, To: "mode", Value: "exit",
			Note: "a node that gives mail out is the end of its routes and mixes for nobody; run a second one to mix"})
	}
}

// noPool takes back what was said of a pool: an end has none.
func (m *importer) noPool() {
	var fresh Config
	config.Defaults(&fresh)
	m.out.Config.Mixing = fresh.Mixing
	for i := range m.out.Options {
		o := &m.out.Options[i]
		if strings.HasPrefix(o.To, "mixing.") && o.Verdict == Mapped {
			delete(m.out.Given, o.To)
			o.Verdict, o.To, o.Value, o.Note = Replaced, "", "", "a node that gives mail out has no pool"
		}
	}
}

// whole looks at all options together.
func (m *importer) whole() {
	if len(m.out.Refused()) > 0 {
		return
	}
	if err := m.out.Config.Check(); err != nil {
		m.out.Options = append(m.out.Options, ImportedOption{Section: "Server", Key: "all options together", Verdict: Refused, Note: errs.Public(err)})
	}
}

// otherDefaults are options whose default is another here.
var otherDefaults = []struct{ section, key, theirs, to, note string }{
	{"Server", "BaseDir", "/var/spool/minion", "server.base_dir", ""},
	{"Server", "MixAlgorithm", "Timed", "mixing.algorithm", "senders draw the delays"},
	{"Server", "PublicKeyLifetime", "30 days", "keys.lifetime", "a stolen key opens fewer packets"},
	{"Server", "Timeout", "5 min", "server.timeout", "padding keeps connections alive"},
}

func (m *importer) defaults() {
	values := config.Values(&m.out.Config)
	for _, d := range otherDefaults {
		if !m.out.Given[d.to] && m.given[d.section+"/"+d.key] == nil {
			note := "there it is " + d.theirs
			if d.note != "" {
				note += "; " + d.note
			}
			m.out.Options = append(m.out.Options, ImportedOption{Section: d.section, Key: d.key, Verdict: Default, To: d.to, Value: values[d.to], Note: note})
		}
	}
}
