package imap

import (
	"slices"
	"strings"
)

// events is a set of what a client may be told of (RFC 5465 §5).
type events uint8

const (
	evNew events = 1 << iota
	evExpunge
	evFlags
	evName
	evSubscription
	evMetadata
	evServer

	messageEvents = evNew | evExpunge | evFlags
)

// eventNames are the events that there are, as BADEVENT lists them.
var eventNames = []struct {
	name string
	bit  events
}{{"MessageNew", evNew}, {"MessageExpunge", evExpunge}, {"FlagChange", evFlags}, {"MailboxName", evName},
	{"SubscriptionChange", evSubscription}, {"MailboxMetadataChange", evMetadata}, {"ServerMetadataChange", evServer}}

// scope says which mailboxes an event group is about (RFC 5465 §6.2 to §6.6).
type scope uint8

const (
	scopeInboxes scope = iota
	scopePersonal
	scopeSubscribed
	scopeSubtree
	scopeMailboxes
)

var scopes = map[string]scope{"INBOXES": scopeInboxes, "PERSONAL": scopePersonal, "SUBSCRIBED": scopeSubscribed,
	"SUBTREE": scopeSubtree, "MAILBOXES": scopeMailboxes}

// eventGroup is one group of NOTIFY SET, without those of the selected mailbox.
type eventGroup struct {
	scope
	names  []string
	events events
}

// covers reports whether a group is about a mailbox. Mail is delivered to INBOX alone.
func (g *eventGroup) covers(f *Folder) bool {
	switch g.scope {
	case scopeInboxes:
		return f.Name == "INBOX"
	case scopeSubscribed:
		return f.Subscribed
	case scopeSubtree:
		return slices.ContainsFunc(g.names, func(n string) bool { return isBelow(f.Name, n) })
	case scopeMailboxes:
		return slices.Contains(g.names, f.Name)
	}
	return true
}

// isBelow reports whether name is top or below it.
func isBelow(name, top string) bool {
	return strings.HasPrefix(name, top) && (len(name) == len(top) || name[len(top)] == '/')
}

// Limits of one NOTIFY.
const (
	maxEventGroups = 50
	maxEventNames  = 200 // mailboxes named in all groups together
)

// notify reads the arguments of NOTIFY (RFC 5465 §8); nil with NONE.
func (p *parser) notify() (n *notify, status bool, err error) {
	n = &notify{}
	if err := p.sp(); err != nil {
		return nil, false, err
	}
	if p.word("NONE") {
		return nil, false, nil
	}
	if !p.word("SET") {
		return nil, false, syntaxf("NOTIFY has SET or NONE")
	}
	status = p.prefix(" STATUS")
	selected, count, names := false, 0, 0
	for count == 0 || !p.done() {
		if count++; count > maxEventGroups {
			return nil, false, no("NOTIFICATIONOVERFLOW", "Too many event groups")
		}
		if err := p.sp(); err != nil {
			return nil, false, err
		}
		if err := p.eventGroup(n, &selected); err != nil {
			return nil, false, err
		}
	}
	for i := range n.groups {
		if names += len(n.groups[i].names); names > maxEventNames {
			return nil, false, no("NOTIFICATIONOVERFLOW", "Too many mailboxes to watch")
		}
	}
	return n, status, nil
}

func (p *parser) eventGroup(n *notify, selected *bool) error {
	if err := p.expect('('); err != nil {
		return err
	}
	word, err := p.upperAtom()
	if err != nil {
		return err
	}
	if word == "SELECTED" || word == "SELECTED-DELAYED" {
		if *selected {
			return syntaxf("SELECTED only once")
		}
		*selected, n.delayed = true, word == "SELECTED-DELAYED"
		if n.selected, n.items, err = p.events(); err != nil {
			return err
		}
		if n.selected&^messageEvents != 0 {
			return syntaxf("only message events for the selected mailbox")
		}
		return p.expect(')')
	}
	g := eventGroup{}
	var ok bool
	if g.scope, ok = scopes[word]; !ok {
		return syntaxf("unknown mailbox filter")
	}
	if g.scope == scopeSubtree || g.scope == scopeMailboxes {
		if g.names, err = p.mailboxes(); err != nil {
			return err
		}
	}
	var items []fetchItem
	if g.events, items, err = p.events(); err != nil {
		return err
	}
	if items != nil {
		return syntaxf("FETCH items only for the selected mailbox")
	}
	if g.events != 0 {
		n.groups = append(n.groups, g)
	}
	return p.expect(')')
}

// mailboxes reads one mailbox name or a list of them, with a space before.
func (p *parser) mailboxes() (names []string, err error) {
	one := func() error {
		name, err := p.mailbox()
		names = append(names, name)
		return err
	}
	if err := p.sp(); err != nil {
		return nil, err
	}
	if p.peek() == '(' {
		return names, p.list(false, one)
	}
	err = one()
	return names, err
}

// events reads what a group wants to be told, with a space before.
func (p *parser) events() (ev events, items []fetchItem, err error) {
	if err := p.sp(); err != nil {
		return 0, nil, err
	}
	if p.word("NONE") {
		return 0, nil, nil
	}
	err = p.list(false, func() error {
		word, err := p.atom()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(eventNames, func(e struct {
			name string
			bit  events
		}) bool {
			return strings.EqualFold(e.name, word)
		})
		if i < 0 {
			return badEvent()
		}
		ev |= eventNames[i].bit
		if eventNames[i].bit != evNew || !p.prefix(" (") {
			return nil
		}
		p.i--
		items, err = p.fetchItems()
		for i := range items {
			items[i].peek = true // being told of a message is not having seen it
		}
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	// RFC 5465 §5.
	if both := ev & (evNew | evExpunge); both != 0 && both != evNew|evExpunge || both == 0 && ev&evFlags != 0 {
		return 0, nil, syntaxf("MessageNew and MessageExpunge go together, and FlagChange needs them")
	}
	return ev, items, nil
}

// badEvent names the events that can be asked for (RFC 5465 §3.1).
func badEvent() error {
	names := make([]string, len(eventNames))
	for i := range eventNames {
		names[i] = eventNames[i].name
	}
	return no("BADEVENT ("+strings.Join(names, " ")+")", "This event is not supported")
}
