package mailbox

import (
	"time"

	"postern.email/post/blob"
)

// Fixed bounds. The first group is part of what clients see, the second of the format.
const (
	MaxFolders         = 1000 // names of one account, subscriptions included
	MaxFolderName      = 1000 // bytes of a whole folder name
	MaxKeywords        = 64   // keywords of one mail
	MaxKeyword         = 128  // bytes of one keyword
	MaxBoxKeywords     = 256  // different keywords ever used in one mailbox
	MaxMetadataEntries = 100  // per mailbox
	MaxMetadataBytes   = 64 << 10

	MaxHeader     = 256 << 10      // larger headers are read from the body
	maxStructure  = 256 << 10      // larger ones are made again from the body
	maxRemakes    = 2              // at the same time
	MaxInline     = blob.MaxInline // larger bodies go into a file of their own
	pageEntries   = 128
	batchMails    = 1000   // mails changed by one transaction
	maxTombstones = 10_000 // expunged UIDs remembered per mailbox
	maxDirty      = 24     // changed pages remembered in the state record
)

// Defaults of Options.
const (
	DefaultQuota       = 500 << 20
	DefaultMaxMessage  = 31_457_280
	DefaultViewBytes   = 64 << 20
	DefaultMailAge     = 20 * 24 * time.Hour
	DefaultLargeAge    = 7 * 24 * time.Hour
	trimYoung          = 24 * time.Hour
	DefaultExpireEvery = time.Hour
	DefaultPurgeEvery  = 5 * time.Minute
	DefaultSweepEvery  = 6 * time.Hour
)
