package interop

// The options that tests set by name, in one place.
var (
	// quiet lifts the limits that most tests are not about: how fast addresses
	// are made, from how many networks, and on how busy a machine.
	quiet = []string{"accounts.create_per_minute=0", "accounts.create_per_network=0", "accounts.max_load=0",
		"accounts.min_available_memory=0", "accounts.min_free_disk_space=0"}
	// noSendLimit takes away the rate of one sender.
	noSendLimit = []string{"submission.max_user_send_per_minute=0"}
)
