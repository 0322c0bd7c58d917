// Package mailbox holds the mails of a post office: folders, UIDs, flags, sealed
// mails, quota and their end.
//
// Everything of an account lies in its shard behind its prefix ('a' and the account's
// number), then one letter. All records begin with a version byte. Numbers in keys are
// big-endian; box is a folder's number (INBOX is 1), series the number under which the
// contents of a mailbox lie, mid the number of a message record.
//
//	letter  key             value                                              readable
//	c       –               next mid, box, series, UIDVALIDITY; folders; used   all
//	                        bytes; last known quota
//	v       –               counter: the folder list changed (WatchFolders)     all
//	f       box             name, special use, subscription, kind               nothing
//	s       box             series, UIDVALIDITY, UIDNEXT, modseq, counts, size,  all
//	                        the pages that changed last (Watch)
//	o       box (0: server) annotations                                         nothing
//	p       series, UID     page: up to 128 mails: UID, mid, modseq, flags,      all
//	                        size class, hour of arrival
//	w       series, UID     keywords of one mail, if it has any                 nothing
//	y       series, UID     save date of one mail that came by COPY or MOVE    nothing
//	l       series          all keywords ever used in the mailbox               nothing
//	x       series, modseq  UIDs that one transaction expunged                  all
//	d       series          the mailbox was deleted, its contents go next       all
//	m       mid             chain, index, stored bytes, name of the body file;   the head
//	                        then the sealed summary
//	b       mid             sealed body up to 64 KiB                            nothing
//	r       mid             how many mailbox entries share the mail, if > 1     all
//	g       name            mid of the mail with this body file                 all
//	e       chain           encapsulation that the mails of a chain need        all
//	n       chain           how many mails need it                              all
//
// What is not readable is sealed to the account: by its own key (f, o, w, y, l) or by the key of
// the mail (m, b, files). The node key opens none of it; that is why the package has
// no Reveal.
//
// Larger bodies lie in files of their own (post/blob). They are padded as a whole, sealed in
// chunks of 64 KiB that open alone, synced before the transaction that names
// them, and removed right after the one that forgets them. A sealed body shared
// by several recipients is one file with one name each.
//
// Changes of more than 1,000 mails go in several transactions. Each takes exactly one
// modseq, strictly higher than any before in its mailbox. Copy and AppendMany are
// one transaction always.
package mailbox
