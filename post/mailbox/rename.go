package mailbox

import (
	"context"
	"strings"

	"postern.email/kit/errs"
	"postern.email/post/seal"
)

// RenameFolder renames a folder and all below it (RFC 9051 §6.3.6); subscriptions go
// along. Renaming INBOX moves its mails to a new folder and leaves INBOX empty and what
// is below it alone. Errors: errs.NotFound, errs.Exists, errs.Invalid (name, or a
// folder into itself), errs.TooLarge.
func (a *Account) RenameFolder(ctx context.Context, from, to string) error {
	const op = "post/mailbox.RenameFolder"
	from, err := CleanName(from)
	if err != nil {
		return errs.Wrap(op, err)
	}
	if to, err = CleanName(to); err != nil {
		return errs.Wrap(op, err)
	}
	if from != "INBOX" && (to == from || strings.HasPrefix(to, from+"/")) {
		if to == from {
			return errs.E(op, errs.Exists, "the mailbox exists already", nil)
		}
		return errs.E(op, errs.Invalid, "a mailbox cannot move below itself", nil)
	}
	err = a.b.update(ctx, a.key.ID(), func(t *txn) error {
		list, err := folders(t.tx, a.key)
		if err != nil {
			return err
		}
		i := find(list, from)
		if i < 0 || list[i].kind == folderSubscription {
			return errs.E(op, errs.NotFound, "no such mailbox", nil)
		}
		if j := find(list, to); j >= 0 && list[j].kind != folderSubscription {
			return errs.E(op, errs.Exists, "the mailbox exists already", nil)
		}
		if from == "INBOX" {
			err = t.emptyInbox(a.key, list, to)
		} else {
			err = t.rename(a.key, list, from, to)
		}
		if err != nil {
			return err
		}
		return t.folderListChanged()
	})
	return errs.Wrap(op, err)
}

// rename gives from and all names below it their new names.
func (t *txn) rename(key *seal.Opened, list []folderRec, from, to string) error {
	if i := strings.LastIndexByte(to, '/'); i > 0 {
		if at := find(list, to[:i]); at < 0 || list[at].kind == folderSubscription {
			if _, err := t.create(key, list, to[:i], ""); err != nil {
				return err
			}
		}
	}
	for _, i := range append(children(list, from), find(list, from)) {
		f := &list[i]
		name := to + strings.TrimPrefix(f.name, from)
		if len(name) > MaxFolderName {
			return errs.E("post/mailbox.rename", errs.TooLarge, "folder name too long", nil)
		}
		if j := find(list, name); j >= 0 { // can only be a subscription
			f.subscribed = true
			if err := t.dropRecord(list[j].box); err != nil {
				return err
			}
			list[j].name = ""
		}
		f.name = name
		if err := t.putFolder(key, f); err != nil {
			return err
		}
	}
	return nil
}

// emptyInbox hands all that lies under INBOX's series to a new folder, with its UIDs,
// and gives INBOX an empty series. INBOX keeps its UIDVALIDITY: to its sessions all
// mails were expunged.
func (t *txn) emptyInbox(key *seal.Opened, list []folderRec, to string) error {
	made, err := t.create(key, list, to, "")
	if err != nil {
		return err
	}
	target, err := t.open(made.Box)
	if err != nil {
		return err
	}
	inbox, err := t.open(Inbox)
	if err != nil {
		return err
	}
	empty, uidValidity := target.st.series, target.st.uidValidity
	*target.st = *inbox.st
	target.st.uidValidity = uidValidity
	inbox.bump()
	st := newBoxState(empty, inbox.st.uidValidity)
	st.uidNext, st.recent = inbox.st.uidNext, inbox.st.uidNext
	st.highest = inbox.st.highest
	st.tombFloor, st.dirtyFloor = st.highest, st.highest
	inbox.st = st
	return nil
}
