package access

import "postern.email/wire/imap"

func (s *imapSession) WatchFolders() imap.Watch { return imapWatch{s.m.WatchFolders()} }

func (s *imapSession) WatchMetadata() imap.Watch { return imapWatch{s.m.WatchMetadata()} }
