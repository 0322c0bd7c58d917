package interop

// The options that tests set by name, in one place.
var (
	// noSendLimit takes away the rate of one sender.
	noSendLimit = []string{}
	// manyAccounts lets a test make thousands of addresses from one network
	// without waiting for the limits that are there against strangers.
	manyAccounts = []string{}
	// smallDiskOptions keep enough free for a file system of 256 MB.
	smallDiskOptions = []string{}
)
