package imap

import (
	"context"
	"strings"
)

// oneName reads " mailbox" and the end of the command.
func (p *parser) oneName() (string, error) {
	if err := p.sp(); err != nil {
		return "", err
	}
	name, err := p.mailbox()
	if err != nil {
		return "", err
	}
	return name, p.end()
}

// maxName bounds a mailbox name in bytes of UTF-8.
const maxName = 500

// checkNewName refuses names that no client could show or list (RFC 9051 §5.1).
func checkNewName(name string) error {
	if name == "" || len(name) > maxName || strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") ||
		strings.Contains(name, "//") {
		return no("CANNOT", "This mailbox name is not possible")
	}
	for _, r := range name {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == '*' || r == '%' || r == 0x2028 || r == 0x2029 {
			return no("CANNOT", "This mailbox name is not possible")
		}
	}
	return nil
}

// cmdCreate is RFC 9051 §6.3.4 with CREATE-SPECIAL-USE (RFC 6154 §3).
func cmdCreate(c *conn, ctx context.Context, p *parser) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	name, err := p.mailbox()
	if err != nil {
		return reply{}, err
	}
	use := ""
	if p.take(' ') {
		err := p.list(true, func() error {
			if !p.word("USE") {
				return syntaxf("unknown parameter")
			}
			if err := p.sp(); err != nil {
				return err
			}
			return p.list(true, func() error {
				f, err := p.flag()
				if err != nil {
					return err
				}
				if use != "" {
					return no("USEATTR", "Only one special use for a mailbox")
				}
				if use = specialUse(f); use == "" {
					return no("USEATTR", "This special use is not known")
				}
				return nil
			})
		})
		if err != nil {
			return reply{}, err
		}
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	// A final delimiter only says that children will follow.
	name = strings.TrimSuffix(name, "/")
	if err := checkNewName(name); err != nil {
		return reply{}, err
	}
	folders, err := c.session.Folders(ctx)
	if err != nil {
		return reply{}, err
	}
	for _, f := range folders {
		if use != "" && f.Use == use {
			return reply{}, no("USEATTR", "Another mailbox has this special use")
		}
	}
	folder, err := c.session.CreateFolder(ctx, name, use)
	if err != nil {
		return reply{}, err
	}
	c.renamed(name)
	return reply{"MAILBOXID (" + mailboxID(folder) + ")", "Mailbox created"}, nil
}

// specialUses are the attributes of RFC 6154 §2 that a mailbox can have here.
var specialUses = []string{`\Archive`, `\Drafts`, `\Junk`, `\Sent`, `\Trash`}

func specialUse(flag string) string {
	for _, u := range specialUses {
		if strings.EqualFold(u, flag) {
			return u
		}
	}
	return ""
}

// cmdDelete is RFC 9051 §6.3.5.
func cmdDelete(c *conn, ctx context.Context, p *parser) (reply, error) {
	name, err := p.oneName()
	if err != nil {
		return reply{}, err
	}
	if name == "INBOX" {
		return reply{}, no("CANNOT", "INBOX cannot be deleted")
	}
	folder, err := c.folder(ctx, name, false)
	if err != nil {
		return reply{}, err
	}
	if err := c.session.DeleteFolder(ctx, name); err != nil {
		return reply{}, err
	}
	if c.sel != nil && folder.Box == c.sel.box {
		c.unselect()
	}
	c.renamed(name)
	return reply{"", "Mailbox deleted"}, nil
}

// cmdRename is RFC 9051 §6.3.6. Renaming INBOX moves its messages into a new
// mailbox and leaves INBOX empty.
func cmdRename(c *conn, ctx context.Context, p *parser) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	from, err := p.mailbox()
	if err != nil {
		return reply{}, err
	}
	to, err := p.oneName()
	if err != nil {
		return reply{}, err
	}
	to = strings.TrimSuffix(to, "/")
	if err := checkNewName(to); err != nil {
		return reply{}, err
	}
	if strings.HasPrefix(to, from+"/") && from != "INBOX" {
		return reply{}, no("CANNOT", "A mailbox cannot be moved into itself")
	}
	if err := c.session.RenameFolder(ctx, from, to); err != nil {
		return reply{}, err
	}
	c.renamed(from, to)
	return reply{"", "Mailbox renamed"}, nil
}

func cmdSubscribe(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.subscribe(ctx, p, true)
}

func cmdUnsubscribe(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.subscribe(ctx, p, false)
}

// subscribe is RFC 9051 §6.3.7 and §6.3.8.
func (c *conn) subscribe(ctx context.Context, p *parser, on bool) (reply, error) {
	name, err := p.oneName()
	if err != nil {
		return reply{}, err
	}
	if err := c.session.Subscribe(ctx, name, on); err != nil {
		return reply{}, err
	}
	c.renamed(name)
	return reply{"", "Subscription changed"}, nil
}
