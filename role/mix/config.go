package mix

import (
	"postern.email/kit/config"
)

// Config is the configuration of a node of the mix network that has no post office: a mix,
// or a bare end. Every field is documented by its tags: docs/mix-config.md and `postern mix
// config` come from there. mixminiond.conf is read into the same fields
// (conf.go); what both have has the meaning that mixminiond gave it. A field has an effect,
// and a test that shows it (effects_test.go lists them all).
type Config struct {
	Nickname           string   `toml:"nickname" default:"" doc:"The name by which others speak of this node: 1 to 19 letters, digits, hyphens and underscores. Its identity is its key, and the authorities give a name to one key only. Needed."`
	Mode               []string `toml:"mode" default:"mix" max:"3" doc:"What this node does: mix, or any of relay (takes packets of the clients in clients.file), mailbox (keeps packets for them) and exit (gives mail out, see mbox). A mix is nothing else."`
	Network            string   `toml:"network" default:"network" doc:"The network file: the name of the network, its period, and the keys and addresses of its authorities. Whoever runs an authority gives it out. Relative to server.base_dir, like all file names here."`
	Family             string   `toml:"family" default:"" doc:"A name that all nodes of one operator share, so that no packet passes through two of them. Empty: this is the operator's only node."`
	ContactEmail       string   `toml:"contact_email" default:"" check:"email" doc:"Where the operators of authorities reach you; it stands in the descriptor, for everybody to see. Best on another machine. Needed where publish is on."`
	ContactFingerprint string   `toml:"contact_fingerprint" default:"" doc:"Fingerprint of the OpenPGP key of contact_email, for the descriptor."`
	Comments           string   `toml:"comments" default:"" doc:"Anything that users of this node should know, at most 1024 characters, for the descriptor."`

	Server struct {
		BaseDir           string          `toml:"base_dir" default:"/var/lib/postern-mix" doc:"The directory of everything that this node keeps. Other file names are relative to it."`
		KeyDir            string          `toml:"key_dir" default:"keys" doc:"Private keys: identity.key, link.key, where mail can end letter.key, and a directory key_NNNN for each set of packet keys."`
		WorkDir           string          `toml:"work_dir" default:"work" doc:"What can be made again: the directory of the network (dir/) and the statistics of the present period (stats.tmp)."`
		QueueDir          string          `toml:"queue_dir" default:"" doc:"Packets that wait (packets/) and mail that waits (deliver/). Empty: queues in work_dir."`
		PidFile           string          `toml:"pid_file" default:"pid" doc:"The number of the running process. It is locked as long as that runs, so that one configuration runs once."`
		StatsFile         string          `toml:"stats_file" default:"stats" doc:"The statistics of periods that are over."`
		Stats             bool            `toml:"stats" default:"true" doc:"Count packets, connections and deliveries, and write the counts of each period to stats_file. false: nothing is counted."`
		StatsInterval     config.Duration `toml:"stats_interval" default:"1d" min:"1s" max:"365d" doc:"Length of a period. A short one tells whoever reads the counts more about single packets: less than 2 hours is an insecurity."`
		Daemon            bool            `toml:"daemon" default:"false" doc:"postern mix start goes to the background. --daemon and --nodaemon say otherwise for one start."`
		Timeout           config.Duration `toml:"timeout" default:"15m" min:"1s" max:"1d" doc:"A connection from which nothing comes for so long is closed."`
		StopTime          config.Duration `toml:"stop_time" default:"20s" min:"1s" max:"5m" doc:"Longest time for a clean stop; what is not done then is cut. Nothing acknowledged is lost by that."`
		Connections       int             `toml:"connections" default:"1024" unit:"connections" min:"1" max:"100000" doc:"Connections from others at one time."`
		MaxBandwidth      config.Bytes    `toml:"max_bandwidth" default:"0" doc:"What this node reads and writes in a second, on average. 0: no bound."`
		MaxBandwidthSpike config.Bytes    `toml:"max_bandwidth_spike" default:"0" doc:"What it may read and write at once after a quiet time. 0: one second's worth."`
	} `toml:"server"`

	Log struct {
		File   string `toml:"file" default:"log" doc:"The log. It is opened anew on reload, so that it can be moved away. Empty: none is written."`
		Level  string `toml:"level" default:"warn" oneof:"trace debug info warn error fatal never" doc:"How much is logged. trace and debug show addresses and are insecurities."`
		Echo   bool   `toml:"echo" default:"false" doc:"Log to standard error too."`
		Format string `toml:"format" default:"text" oneof:"text json" doc:"Form of the log lines."`
	} `toml:"log"`

	Keys struct {
		Lifetime       config.Duration `toml:"lifetime" default:"3d" min:"1s" max:"30d" doc:"How long a packet key may be used, not less than 24 epochs of the network. Reply blocks live no longer than the keys that they are made for."`
		Overlap        config.Duration `toml:"overlap" default:"1d" min:"1s" max:"3d" doc:"How long packets for a key are still taken after that, not less than 6 epochs. Then it is shredded, with the memory of its packets."`
		Rotation       config.Duration `toml:"rotation" default:"0" max:"30d" doc:"How often there is a new key. 0: a third of lifetime. It is published a day before its first use."`
		Encrypt        bool            `toml:"encrypt" default:"false" doc:"Seal the identity key under a passphrase, which each start asks for or finds in passphrase_file."`
		EncryptAll     bool            `toml:"encrypt_all" default:"false" doc:"Seal the packet keys and the link key too, under a key that follows from the identity. Needs encrypt."`
		PassphraseFile string          `toml:"passphrase_file" default:"" doc:"The first line of this file is the passphrase. Empty: the systemd credential postern-mix-passphrase if there is one, else the terminal is asked."`
	} `toml:"keys"`

	Host struct {
		FileParanoia bool     `toml:"file_paranoia" default:"true" doc:"Refuse to start when others may read the private files or could replace the directories above them. POSTERN_NO_FILE_PARANOIA (or MM_NO_FILE_PARANOIA) in the environment turns it off."`
		TrustedUsers []string `toml:"trusted_users" default:"" max:"16" doc:"Users, by name or number, who may own the directories above server.base_dir, beside root and the user of this process."`
	} `toml:"host"`

	Mixing struct {
		Algorithm   string          `toml:"algorithm" default:"Poisson" oneof:"Poisson Timed DynamicPool BinomialDynamicPool" doc:"Which packets leave when. Poisson: each when the delay that its sender drew has passed. Timed: all, every interval. DynamicPool: every interval, with N above pool_min_size, the smaller of N − pool_min_size and N · pool_rate (at least one). BinomialDynamicPool: each with the probability that gives that number. A network whose parameter pools is 0 takes Poisson only."`
		Interval    config.Duration `toml:"interval" default:"30m" min:"1ms" max:"1d" doc:"Time between two rounds of a pool. Less than 30 minutes is an insecurity. Poisson has no rounds."`
		PoolRate    float64         `toml:"pool_rate" default:"60" unit:"percent" min:"0.01" max:"100" doc:"What may leave a DynamicPool or BinomialDynamicPool in a round."`
		PoolMinSize int             `toml:"pool_min_size" default:"5" unit:"packets" min:"0" max:"100000" doc:"What stays in it. Less than 5 is an insecurity."`
		Memory      config.Bytes    `toml:"memory" default:"64M" min:"1M" max:"64G" doc:"Packets are kept in memory up to this, beside the disk; beyond, they are read back when they leave."`
	} `toml:"mixing"`

	Directory struct {
		Publish bool     `toml:"publish" default:"false" doc:"Tell the authorities of this node, so that others use it. A new node waits until their operators approve it. false: only the file that current-desc names is written."`
		URLs    []string `toml:"urls" default:"" max:"16" doc:"Where the directory can also be fetched by HTTP, such as https://directory.example.org/postern/consensus, through the proxy of http_proxy or HTTPS_PROXY. It is signed: who gives it out need not be trusted."`
		Extra   []string `toml:"extra_descriptors" default:"" max:"64" doc:"Descriptors of nodes that this one gets on with though no authority lists them, so that a node can be tried before it is published: files, files that name one (current-desc), or directories of them. They are checked by signature, network and date, and read again on reload and four times in an epoch. No way leads through such a node but one that names its file."`
		Layer   int      `toml:"layer" default:"0" unit:"layer" max:"3" doc:"Where a mix works that no authority lists, for trying it out; its descriptor says so. 0: nowhere. Not together with publish: the authorities give a published mix its layer."`
	} `toml:"directory"`

	Incoming struct {
		Listen    []string `toml:"listen" default:":48099" check:"listen" max:"4" doc:"Where this node listens for others."`
		Addresses []string `toml:"addresses" default:"" max:"4" doc:"host:port under which others reach it, the best first. Empty: the addresses of listen, or the public ones of this machine."`
		Allow     []string `toml:"allow" default:"" check:"network" max:"1000" doc:"Networks that may connect. Empty: all. An address is held against the longest network of allow and deny that it is in."`
		Deny      []string `toml:"deny" default:"" check:"network" max:"1000" doc:"Networks that may not connect."`
	} `toml:"incoming"`

	Outgoing struct {
		Retry string   `toml:"retry" default:"every 1 hour for 1 day, 7 hours for 5 days" doc:"When a packet is offered again to a node that could not be reached: lengths of time after one another, \"every A for B\" standing for as many A as fill B. All packets for one node go at the same time."`
		Allow []string `toml:"allow" default:"" check:"network" max:"1000" doc:"Networks that this node connects to. Empty: all. As incoming.allow."`
		Deny  []string `toml:"deny" default:"" check:"network" max:"1000" doc:"Networks that it does not connect to."`
	} `toml:"outgoing"`

	Clients struct {
		File string `toml:"file" default:"clients" doc:"Mode relay: who may use this node as their relay. One link key a line, 64 digits of hex (postern mix address prints it), and behind it what you like. Read again on reload."`
	} `toml:"clients"`

	Mailbox struct {
		Packets   int             `toml:"packets" default:"2000" unit:"packets" min:"1" max:"1000000" doc:"Mode mailbox: what is kept for one client."`
		Retention config.Duration `toml:"retention" default:"30d" min:"1d" max:"365d" doc:"How long it is kept, in whole days."`
	} `toml:"mailbox"`

	MBOX struct {
		Enabled          bool         `toml:"enabled" default:"false" doc:"Mode exit: take mail for the people in address_file."`
		AddressFile      string       `toml:"address_file" default:"" doc:"Who they are: a line \"name: address\" each. Mail for name@NICKNAME goes to the address. Read again on reload."`
		ReturnAddress    string       `toml:"return_address" default:"" check:"email" doc:"The From address of that mail, and where what cannot be delivered goes."`
		RemoveContact    string       `toml:"remove_contact" default:"" check:"email" doc:"Whom to ask, in each of these mails, to be taken out of address_file."`
		SMTPServer       string       `toml:"smtp_server" default:"" doc:"The mail server that sends it, host or host:port. Either this or sendmail_command."`
		SendmailCommand  string       `toml:"sendmail_command" default:"" doc:"A program that reads the mail, with its header, from standard input until its end, such as \"/usr/sbin/sendmail -i -t\"."`
		Retry            string       `toml:"retry" default:"every 7 hours for 6 days" doc:"When a mail that could not be handed on is tried again, as outgoing.retry."`
		Advertise        bool         `toml:"advertise" default:"true" doc:"Say in the descriptor that this node does it, and up to which size."`
		MaximumSize      config.Bytes `toml:"maximum_size" default:"100K" min:"32K" max:"16M" doc:"Largest mail, before it is encoded, rounded up to whole KiB."`
		AllowFromAddress bool         `toml:"allow_from_address" default:"true" doc:"Senders may choose the name in From; the address is return_address always."`
		SubjectLine      string       `toml:"subject_line" default:"Type III Anonymous Message" doc:"Subject of a mail without one."`
		FromTag          string       `toml:"from_tag" default:"[Anon]" doc:"Stands before the name that a sender chose."`
		XAbuse           string       `toml:"x_abuse" default:"" doc:"Text of the field X-Abuse. Empty: there is none."`
		Comments         string       `toml:"comments" default:"" doc:"Text of the field Comments. Empty: there is none."`
		Message          string       `toml:"message" default:"" doc:"A note at the head of each mail. Empty: one that says where the mail comes from and names remove_contact."`
	} `toml:"mbox"`

	Fragmented struct {
		Enabled         bool            `toml:"enabled" default:"false" doc:"Mode exit: put mail together that came in several packets."`
		MaximumSize     config.Bytes    `toml:"maximum_size" default:"100K" min:"32K" max:"64M" doc:"Largest mail that is put together, before it is unpacked."`
		MaximumInterval config.Duration `toml:"maximum_interval" default:"2d" min:"1s" max:"30d" doc:"How long the rest of a mail is waited for; then what is there is dropped."`
	} `toml:"fragmented"`

	SMTP struct {
		Enabled bool `toml:"enabled" default:"false" doc:"Mode exit: mail to everybody. A bare node cannot: such an exit is at a relay (exit.enabled of its configuration), which signs mail and has a page where recipients block themselves. true is refused."`
	} `toml:"smtp"`

	Experiment struct {
		Lose float64 `toml:"lose" default:"0" unit:"percent" min:"0" max:"50" doc:"Lose this part of the packets that come to be sent on, to try out what others do about it. Only where incoming.listen and incoming.addresses are of this machine alone (127.0.0.0/8, ::1), as in a lab. How many came and were lost stands in the file lost of work_dir, which also a killed node has written."`
	} `toml:"experiment"`
}
