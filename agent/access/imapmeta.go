package access

import (
	"context"
	"slices"
	"sort"
	"strings"

	"postern.email/kit/errs"
	"postern.email/post/mailbox"
	"postern.email/wire/imap"
)

// deviceToken is where Delta Chat leaves what a push service needs. Setting it
// adds to a set that post/account keeps; reading gives all, joined by spaces.
const deviceToken = "/private/devicetoken"

// maxOwnName and maxOwnEntries bound the annotations a user may set on one
// mailbox; the sizes of values are bounded by wire/imap and post/mailbox.
const (
	maxOwnName    = 200
	maxOwnEntries = 50
)

// Metadata gives the server's own entries, the device tokens of INBOX, and what
// the user has set.
func (s *imapSession) Metadata(ctx context.Context, box uint32) ([]imap.MetadataEntry, error) {
	own, err := s.m.Metadata(ctx, box)
	if err != nil {
		return nil, err
	}
	var out []imap.MetadataEntry
	for _, e := range own {
		if e.Name != deviceToken {
			out = append(out, imap.MetadataEntry(e))
		}
	}
	switch box {
	case 0:
		if s.a.o.Server != nil {
			for name, value := range s.a.o.Server(ctx) {
				if value != "" && strings.HasPrefix(name, "/shared/") {
					out = append(out, imap.MetadataEntry{Name: name, Value: []byte(value)})
				}
			}
		}
	case mailbox.Inbox:
		tokens, err := s.a.o.Accounts.Tokens(ctx, s.s.ID)
		if err != nil {
			return nil, err
		}
		if len(tokens) > 0 {
			out = append(out, imap.MetadataEntry{Name: deviceToken, Value: []byte(strings.Join(tokens, " "))})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// SetMetadata keeps private entries, sealed to the account. Shared entries would be
// seen by nobody else, as mailboxes have one user, and are refused.
func (s *imapSession) SetMetadata(ctx context.Context, box uint32, entries []imap.MetadataEntry) error {
	const op = "agent/access.SetMetadata"
	if _, err := s.s.Current(ctx); err != nil {
		return err
	}
	if err := s.guard(); err != nil {
		return err
	}
	var own []mailbox.MetadataEntry
	var tokens []string
	for _, e := range entries {
		switch {
		case !strings.HasPrefix(e.Name, "/private/"):
			return errs.E(op, errs.Denied, "Only private entries can be set", nil)
		case e.Name == deviceToken && box == mailbox.Inbox:
			if e.Value == nil {
				return errs.E(op, errs.Denied, "Device tokens end by themselves", nil)
			}
			tokens = append(tokens, string(e.Value))
		case len(e.Name) > maxOwnName:
			return errs.E(op, errs.TooLarge, "The entry name is too long", nil)
		default:
			own = append(own, mailbox.MetadataEntry(e))
		}
	}
	if len(own) > 0 {
		if err := s.setOwn(ctx, box, own); err != nil {
			return err
		}
	}
	return s.addTokens(ctx, tokens)
}

func (s *imapSession) addTokens(ctx context.Context, tokens []string) error {
	if len(tokens) == 0 {
		return nil
	}
	had, err := s.a.o.Accounts.Tokens(ctx, s.s.ID)
	if err != nil {
		return err
	}
	fresh := false
	for _, t := range tokens {
		if err := s.a.o.Accounts.AddToken(ctx, s.s.ID, t); err != nil {
			return err
		}
		fresh = fresh || !slices.Contains(had, t)
	}
	if !fresh {
		return nil
	}
	return s.m.Annotated(ctx, mailbox.Inbox)
}

func (s *imapSession) setOwn(ctx context.Context, box uint32, own []mailbox.MetadataEntry) error {
	have, err := s.m.Metadata(ctx, box)
	if err != nil {
		return err
	}
	names := make(map[string]struct{}, len(have)+len(own))
	for _, e := range have {
		names[e.Name] = struct{}{}
	}
	for _, e := range own {
		if e.Value == nil {
			delete(names, e.Name)
		} else {
			names[e.Name] = struct{}{}
		}
	}
	if len(names) > maxOwnEntries && len(names) > len(have) {
		return errs.E("agent/access.SetMetadata", errs.Full, "Too many entries", nil)
	}
	return s.m.SetMetadata(ctx, box, own)
}
