package relay

import (
	"postern.email/kit/config"
)

// Config is the configuration of a relay. Every field is documented by its tags:
// docs/config.md and `postern config describe` come from there. A field has an
// effect, and a test that shows it (config_test.go lists them all).
type Config struct {
	Domain string `toml:"domain" default:"postern.localhost" check:"domain" doc:"The mail domain: what stands behind the @ of every address here. An IP address is one too: addresses then end in @[192.0.2.1]."`
	Dir    string `toml:"dir" default:"/var/lib/postern" doc:"The data directory. One server at a time holds it; everything that is kept lies there."`

	Listen struct {
		HTTP              string `toml:"http" default:":80" check:"listen" doc:"Plain HTTP: answers a certificate authority's challenges and leads everything else to the web pages under TLS."`
		HTTPS             string `toml:"https" default:":443" check:"listen" doc:"Web pages, and by ALPN also IMAP (\"imap\") and submission (\"smtp\"), under TLS."`
		HTTPSAlt          string `toml:"https_alt" default:":8443" check:"listen" doc:"A second door to what https serves, for networks in which port 443 is closed or taken."`
		IMAPS             string `toml:"imaps" default:":993" check:"listen" doc:"IMAP under TLS."`
		IMAP              string `toml:"imap" default:":143" check:"listen" doc:"IMAP with STARTTLS."`
		SMTP              string `toml:"smtp" default:":25" check:"listen" doc:"Mail from other servers, with STARTTLS."`
		Submissions       string `toml:"submissions" default:":465" check:"listen" doc:"Submission under TLS."`
		Submission        string `toml:"submission" default:":587" check:"listen" doc:"Submission with STARTTLS."`
		POP3S             string `toml:"pop3s" default:":995" check:"listen" doc:"POP3 under TLS."`
		POP3              string `toml:"pop3" default:":110" check:"listen" doc:"POP3 with STLS."`
		PrivateIMAP       string `toml:"private_imap" default:"off" check:"listen" doc:"IMAP without TLS on a way that nobody can listen on (behind an onion service, an I2P tunnel or a proxy on this machine): passwords may cross it."`
		PrivateSubmission string `toml:"private_submission" default:"off" check:"listen" doc:"Submission without TLS on a private way, as private_imap."`
		PrivatePOP3       string `toml:"private_pop3" default:"off" check:"listen" doc:"POP3 without TLS on a private way, as private_imap."`
	} `toml:"listen"`

	TLS struct {
		Mode       string          `toml:"mode" default:"auto" oneof:"auto acme files self-signed" doc:"Where certificates come from. acme: from a certificate authority (RFC 8555), which looks for this server on port 80 or 443 of the domain; what it gives is renewed in time. files: tls.cert and tls.key. self-signed: made here; clients must be told to accept it. auto: files when they are given; self-signed for a domain that begins with _ or is an IP address, and for names that no authority vouches for (localhost, local, test, onion, i2p and the like); acme for all others."`
		Cert       string          `toml:"cert" default:"" doc:"PEM file of the certificate with its chain; read again when it changes."`
		Key        string          `toml:"key" default:"" doc:"PEM file of the certificate's key."`
		ACMEDir    string          `toml:"acme_directory" default:"https://acme-v02.api.letsencrypt.org/directory" check:"url" doc:"The certificate authority, by the URL of its directory. Its terms of service, which the log names, are agreed to by using it."`
		ACMEEmail  string          `toml:"acme_email" default:"" check:"email" doc:"Where the certificate authority may write to the operator. Empty: nowhere."`
		ACMENames  []string        `toml:"acme_names" default:"" check:"domain" max:"16" doc:"Names that get a certificate from the authority beside the domain; mta-sts., www. and autoconfig. of the domain get one without being named here, as long as they lead to the same address."`
		MinVersion string          `toml:"min_version" default:"1.3" oneof:"1.2 1.3" doc:"Lowest TLS version for users' mail programs and browsers. Other mail servers may always use 1.2."`
		Poll       config.Duration `toml:"poll" default:"1m" min:"1ms" max:"1d" doc:"How often the certificate files, and the ends of certificates, are looked at."`
		TrustedCAs []string        `toml:"trusted_cas" default:"" max:"64" doc:"PEM files of certificates that are believed, beside the system's, when this relay connects to others."`
	} `toml:"tls"`

	Network struct {
		Addresses      []string `toml:"addresses" default:"" check:"address" max:"16" doc:"The addresses under which others reach this relay, for a machine behind address translation. Empty: the public ones of this machine, as far as it has any. postern dns and postern doctor compare them with what the DNS says."`
		TrustedProxies []string `toml:"trusted_proxies" default:"" check:"network" max:"64" doc:"Networks of reverse proxies. A connection from there may begin with a PROXY header (version 1 or 2), which is believed; one without it is free of every per-network limit, because it stands for many people."`
		Resolver       string   `toml:"resolver" default:"" check:"resolver" doc:"DNS server that is asked for names when this relay checks signatures of incoming mail or looks at itself from outside (postern doctor), host:port. Empty: the system's (/etc/resolv.conf)."`
		ResolverDNSSEC string   `toml:"resolver_dnssec" default:"auto" oneof:"auto yes no" doc:"Whether the resolver is believed when it says that DNSSEC vouches for an answer. auto: a resolver on this machine is, and those of /etc/resolv.conf when it says \"options trust-ad\". yes is for a resolver that validates and is reached on a way that nobody can change anything on."`
	} `toml:"network"`

	Connections struct {
		IMAP           int `toml:"imap" default:"10000" unit:"connections" min:"1" max:"1000000" doc:"IMAP connections at one time."`
		IMAPPerNetwork int `toml:"imap_per_network" default:"1000" unit:"connections" min:"0" doc:"Of them from one address (IPv6: one /64). 0: no such limit."`
		SMTP           int `toml:"smtp" default:"1000" unit:"connections" min:"1" max:"1000000" doc:"SMTP and submission connections at one time."`
		SMTPPerNetwork int `toml:"smtp_per_network" default:"200" unit:"connections" min:"0" doc:"Of them from one address (IPv6: one /64). 0: no such limit."`
		POP3           int `toml:"pop3" default:"1000" unit:"connections" min:"1" max:"1000000" doc:"POP3 connections at one time."`
		POP3PerNetwork int `toml:"pop3_per_network" default:"200" unit:"connections" min:"0" doc:"Of them from one address (IPv6: one /64). 0: no such limit."`
		Web            int `toml:"web" default:"1000" unit:"connections" min:"1" max:"1000000" doc:"Connections to the web ports (http, https, https_alt) at one time, before it is known what they speak."`
		WebPerNetwork  int `toml:"web_per_network" default:"100" unit:"connections" min:"0" doc:"Of them from one address (IPv6: one /64). 0: no such limit."`
	} `toml:"connections"`

	Accounts struct {
		UsernameMinLength   int             `toml:"username_min_length" default:"3" unit:"characters" min:"1" max:"64" doc:"Shortest name that a new address may have."`
		UsernameMaxLength   int             `toml:"username_max_length" default:"64" unit:"characters" min:"1" max:"64" doc:"Longest name that a new address may have."`
		PasswordMinLength   int             `toml:"password_min_length" default:"9" unit:"bytes" min:"1" max:"1024" doc:"Shortest password of a new address, and of a changed one."`
		NoCreateFile        string          `toml:"nocreate_file" default:"/etc/postern-nocreate" doc:"While this file exists no new addresses are made. Old logins go on. Empty: never looked at."`
		MaxLoad             float64         `toml:"max_load" default:"5" min:"0" doc:"No new addresses while the load average of the last minute is higher. 0: not looked at."`
		MinAvailableMemory  config.Bytes    `toml:"min_available_memory" default:"200M" doc:"No new addresses while less memory is available. 0: not looked at."`
		MinFreeDiskSpace    config.Bytes    `toml:"min_free_disk_space" default:"1G" doc:"No new addresses while less disk is free. 0: not looked at."`
		Reuse               string          `toml:"reuse" default:"never" check:"reuse" doc:"Whether the name of a deleted account is given out again: never, or \"after N days\"."`
		CreatePerMinute     int             `toml:"create_per_minute" default:"600" unit:"a minute" min:"0" doc:"New addresses made by logins; a minute's worth may come at once. 0: no limit."`
		CreatePerNetwork    int             `toml:"create_per_network" default:"20" unit:"a minute" min:"0" doc:"New addresses made by logins from one address (IPv6: one /64); five minutes' worth may come at once. 0: no limit."`
		DeleteInactiveAfter config.Duration `toml:"delete_inactive_after" default:"90d" doc:"Accounts without login for so long are removed with their mail, in whole days. 0: never."`
		LoginGrace          config.Duration `toml:"login_grace" default:"15m" max:"7d" doc:"How long an opened key stays in memory after the last session of its account has ended. 0: not at all."`
		MaxIdleKeys         int             `toml:"max_idle_keys" default:"10000" unit:"keys" min:"1" max:"10000000" doc:"Opened keys without session in memory; beyond, the one unused for longest is closed."`
	} `toml:"accounts"`

	Password struct {
		Time    int             `toml:"time" default:"2" unit:"passes" min:"1" max:"16" doc:"Argon2id passes over the memory for new passwords."`
		Memory  config.Bytes    `toml:"memory" default:"19M" min:"8K" max:"256M" doc:"Argon2id memory for new passwords."`
		Threads int             `toml:"threads" default:"1" unit:"threads" min:"1" max:"4" doc:"Argon2id lanes for new passwords."`
		Queue   int             `toml:"queue" default:"4096" unit:"logins" min:"1" max:"1000000" doc:"Logins that may wait for their turn to have a password checked; more are told to try later."`
		Wait    config.Duration `toml:"wait" default:"20s" min:"1ms" max:"5m" doc:"Longest wait of a login for its turn."`
	} `toml:"password"`

	Mail struct {
		MaxMessageSize   config.Bytes    `toml:"max_message_size" default:"31457280" min:"1K" max:"31457280" doc:"Largest mail."`
		MaxMailboxSize   config.Bytes    `toml:"max_mailbox_size" default:"500M" min:"1M" doc:"What an account may hold, as stored, when it has no quota of its own."`
		DeleteAfter      config.Duration `toml:"delete_mails_after" default:"20d" doc:"Mails older than this are deleted, seen or not, in every folder. 0: never."`
		DeleteLargeAfter config.Duration `toml:"delete_large_after" default:"7d" doc:"Mails over 200000 bytes that were seen are deleted after this. 0: never."`
		MinFreeSpace     config.Bytes    `toml:"min_free_space" default:"64M" doc:"No mail is taken while less disk is free (452 4.3.1); reading goes on. 0: not looked at."`
		PurgeEvery       config.Duration `toml:"purge_every" default:"5m" min:"1ms" max:"8m" doc:"How soon the bytes of deleted mails leave the files on the disk."`
		ExpireEvery      config.Duration `toml:"expire_every" default:"1h" min:"1ms" max:"1d" doc:"How often old mails and full accounts are looked for."`
	} `toml:"mail"`

	Submission struct {
		MaxUserSendPerMinute int  `toml:"max_user_send_per_minute" default:"60" unit:"mails a minute" min:"0" doc:"Mails that one sender may hand in, however many recipients each has. 0: no limit."`
		MaxUserSendBurst     int  `toml:"max_user_send_burst_size" default:"10" unit:"mails" min:"1" max:"100000" doc:"Of them at once."`
		MaxRecipients        int  `toml:"max_recipients" default:"1000" unit:"recipients" min:"1" max:"10000" doc:"Recipients of one mail; clients are told this number."`
		SecureJoin           bool `toml:"secure_join" default:"true" doc:"Take the unencrypted first step of a key exchange (Secure-Join vc-request, vg-request)."`
		SetupMessage         bool `toml:"setup_message" default:"true" doc:"Take an Autocrypt Setup Message that a sender sends to itself."`
	} `toml:"submission"`

	Exchange struct {
		MailsPerNetwork   int             `toml:"mails_per_network" default:"6000" unit:"a minute" min:"0" max:"1000000" doc:"Mails that other servers may begin, on port 25 or over HTTPS, from one address (IPv6: one /64); five minutes' worth may come at once. Beyond, they are told to come later (451 4.7.1), and their connections go on. 0: no limit."`
		BytesPerNetwork   config.Bytes    `toml:"bytes_per_network" default:"1G" max:"1T" doc:"What may come as mail from one address (IPv6: one /64) in a minute, as received, also when it is refused; five minutes' worth may come at once. Beyond, as mails_per_network. 0: no limit."`
		RefusedPerNetwork int             `toml:"refused_per_network" default:"300" unit:"a minute" min:"0" max:"1000000" doc:"Recipients that do not exist or are blocked, asked for from one address (IPv6: one /64); five minutes' worth may come at once. Beyond, recipients are not looked up for it for a while (451 4.7.1), so that nobody can try names out. 0: no limit."`
		Remember          config.Duration `toml:"remember" default:"3d" max:"30d" doc:"A mail that another server sends once more, byte for byte in its header and with the same valid signature, is acknowledged and not stored again for so long, in whole days: it did not hear our answer. 0: not remembered."`
	} `toml:"exchange"`

	Delivery struct {
		Remote         bool            `toml:"remote" default:"true" doc:"Take mail for other hosts. false: it is refused when a user hands it in."`
		Routes         []string        `toml:"routes" default:"" max:"1000" doc:"Ways to domains in place of what the DNS says, one entry a domain (* for all that have none): the domain, then any of host=NAME-or-ADDRESS, smtp=PORT or off, https=PORT or off, name=NAME (that the certificate must show), tls=verify, any (the certificate is not checked) or none (without TLS where the host has none). For example \"example.org host=10.0.0.7 smtp=2525 https=off\"."`
		HTTPS          bool            `toml:"https" default:"true" doc:"Offer mail to a host over HTTPS (POST /mxdeliv) before SMTP. false: never."`
		SelfSigned     bool            `toml:"accept_self_signed" default:"true" doc:"Deliver to domains that can have no certificate of an authority, IP addresses and names that begin with _, with whatever certificate they show. false: not at all. For all other domains the certificate is always checked, unless a route says otherwise."`
		MTASTS         bool            `toml:"mta_sts" default:"true" doc:"Look up the MTA-STS policy (RFC 8461) of the domains that mail goes to, and deliver only to the hosts that it names."`
		Lifetime       config.Duration `toml:"lifetime" default:"2d" min:"1m" max:"30d" doc:"How long a mail may wait for another host; then its sender is told that it was not delivered."`
		DelayReport    config.Duration `toml:"delay_report" default:"4h" max:"30d" doc:"How long a mail waits before its sender is told that it does, once, where his mail program has asked for that (NOTIFY=DELAY, RFC 3461). 0: nobody is told before delivery.lifetime is over."`
		FirstRetry     config.Duration `toml:"first_retry" default:"30s" min:"1ms" max:"1d" doc:"Pause after the first failure to deliver; each further one doubles it, a fifth more or less by chance."`
		LastRetry      config.Duration `toml:"last_retry" default:"1h" min:"1ms" max:"1d" doc:"Longest pause between two tries."`
		Destinations   int             `toml:"connections" default:"500" unit:"connections" min:"1" max:"100000" doc:"Connections to other hosts at one time. At most half of them are used for domains that could not be reached the last time, or that take longer than 15 seconds for a mail."`
		PerDestination int             `toml:"connections_per_domain" default:"4" unit:"connections" min:"1" max:"100" doc:"Of them to one domain, when there is enough mail for it."`
		ConnectTimeout config.Duration `toml:"connect_timeout" default:"15s" min:"1ms" max:"5m" doc:"Longest wait for a connection to one address."`
		ReachTimeout   config.Duration `toml:"reach_timeout" default:"3m" min:"1ms" max:"1h" doc:"Longest time for all tries to reach a domain, until one of its hosts is ready for mail."`
	} `toml:"delivery"`

	Queue struct {
		MaxMails int          `toml:"max_mails" default:"100000" unit:"mails" min:"1" max:"10000000" doc:"Mails that may wait for other hosts; more are refused for now (451)."`
		MaxSize  config.Bytes `toml:"max_size" default:"8G" min:"1M" doc:"What they may take on the disk."`
	} `toml:"queue"`

	DKIM struct {
		Overlap        config.Duration `toml:"rotate_overlap" default:"7d" min:"1m" max:"90d" doc:"How long the records of a key that signs no more must stay in the DNS (postern dkim rotate), because mail that it signed is still under way. Not shorter than delivery.lifetime."`
		PublishOldKeys bool            `toml:"publish_old_keys" default:"false" doc:"Publish the private halves of keys that went out of use, under https://DOMAIN/.well-known/dkim-keys/, once their records are gone from the DNS: then nobody can prove anything with an old signature. false: they are destroyed."`
	} `toml:"dkim"`

	IMAP struct {
		Compress bool `toml:"imap_compress" default:"false" doc:"Offer COMPRESS=DEFLATE. It costs memory for every connection, and lengths of compressed text tell an observer how alike two texts are."`
	} `toml:"imap"`

	Metadata struct {
		Admin   string `toml:"admin" default:"" doc:"Contact of the operator, a URI such as mailto:admin@example.org, told to clients (RFC 5464 /shared/admin) and on the web page."`
		Comment string `toml:"comment" default:"" doc:"A text for users, told to clients (RFC 5464 /shared/comment)."`
		Iroh    string `toml:"iroh_relay" default:"" doc:"URL of an iroh relay for peer-to-peer data between chat apps. Empty: none is told."`
	} `toml:"metadata"`

	Web struct {
		NameLength      int `toml:"name_length" default:"9" unit:"characters" min:"6" max:"32" doc:"Length of the names that the web page makes."`
		CreatePerSecond int `toml:"requests_per_second" default:"2" unit:"a second" min:"0" max:"1000" doc:"Credentials that the web page makes for one address (IPv6: one /64), five at once. 0: no limit."`
	} `toml:"web"`

	Aliases struct {
		Enabled            bool            `toml:"enabled" default:"true" doc:"Let accounts have aliases: further addresses, one for each site, that are made, paused and deleted on the pages under /aliases, over HTTP and with postern alias (docs/aliases.md). false: there are none, and mail to those that were made is refused."`
		Domains            []string        `toml:"domains" default:"" check:"domain" max:"64" doc:"The domains of aliases, the first one the default. Mail for each must come here; postern dns prints the records that each needs. Empty: that of the relay."`
		Style              string          `toml:"style" default:"words" oneof:"words random site" doc:"How the server makes the name of an alias when nobody says: two words and five digits, 18 letters and digits, or the name of the site with digits."`
		Cleartext          bool            `toml:"cleartext" default:"true" doc:"Aliases may be of class open-mail, and new ones are: they take ordinary mail of senders whose domain vouches for them (DKIM or SPF), sealed before it is written, and may answer it. false: aliases take and send end-to-end encrypted mail only."`
		Evidence           config.Duration `toml:"evidence" default:"90d" max:"3650d" doc:"How old the mails may be from which a file is made that shows who passed an alias on (postern alias evidence). 0: no such files, and nothing is kept in mail for an alias that would be needed for one."`
		Undo               config.Duration `toml:"undo" default:"30d" min:"1d" max:"3650d" doc:"How long a deleted alias can be restored, in whole days. Nobody else gets it in any case."`
		DeleteUnused       config.Duration `toml:"delete_unused_after" default:"0" max:"3650d" doc:"Aliases that never got or sent a mail are deleted after so long, in whole days. 0: never."`
		MaxPerAccount      int             `toml:"max_per_account" default:"10000" unit:"aliases" min:"1" max:"1000000" doc:"Aliases that an account may have; deleted ones do not count."`
		MaxDeleted         int             `toml:"max_deleted_per_account" default:"100000" unit:"aliases" min:"1" max:"10000000" doc:"Aliases that an account may delete; beyond, it makes none until it restores one. Each keeps its name for ever, so this bounds what one account can leave behind."`
		CreatePerMinute    int             `toml:"create_per_minute" default:"60" unit:"a minute" min:"0" max:"1000000" doc:"Aliases that one account makes; a minute's worth may come at once. 0: no limit."`
		CreatePerNetwork   int             `toml:"create_per_network" default:"120" unit:"a minute" min:"0" max:"1000000" doc:"Aliases that are made from one address (IPv6: one /64); a minute's worth may come at once. 0: no limit."`
		WrongPerNetwork    int             `toml:"wrong_per_network" default:"12" unit:"a minute" min:"0" max:"1000000" doc:"Wrong tokens and passwords for aliases from one address (IPv6: one /64); a minute's worth may come at once. Beyond, none from there is looked at for a while. 0: no limit."`
		TriesNetwork       int             `toml:"tries_network_per_second" default:"5" unit:"a second" min:"0" max:"100000" doc:"Addresses in the form of a derived alias (docs/aliases-derived.md), not known yet, that mail of one address (IPv6: one /64) is for; beyond, 451 4.7.1. 0: no limit."`
		Tries              int             `toml:"tries_per_second" default:"50" unit:"a second" min:"0" max:"100000" doc:"The same in all. 0: no limit."`
		WebSocketPath      string          `toml:"websocket_path" default:"/incognitomail" doc:"Where under https the WebSocket of IncognitoMail's protocol is."`
		Origins            []string        `toml:"origins" default:"" max:"64" doc:"The origins whose scripts may ask over HTTP, such as moz-extension://…; a * stands for any characters. Empty: all, since a browser gives each installed add-on an origin of its own. The server's own pages always may."`
		SenderNames        bool            `toml:"sender_names" default:"false" doc:"Let the name that stands beside the address in From leave with mail as an alias. false: only the address does, since mail programs write their user's name there whatever the address is."`
		SenderKeys         bool            `toml:"sender_keys" default:"false" doc:"Let keys and signatures that are attached leave with unencrypted mail as an alias. false: they are taken out, since they show whose they are."`
		Forward            bool            `toml:"forward" default:"false" doc:"Serve owners whose mailbox is elsewhere: mail for their aliases is sent on (docs/aliases-forward.md). Such owners are made by the operator (postern alias new account ADDRESS), and the mailbox is asked first whether it agrees."`
		ForwardUnsubscribe string          `toml:"forward_unsubscribe" default:"keep" oneof:"keep block drop" doc:"What becomes of List-Unsubscribe in mail that is sent on. keep: as the sender wrote it. block: one click refuses mail of this sender for this alias. drop: it is taken out."`
		ForwardKeys        bool            `toml:"forward_keys" default:"false" doc:"Let OpenPGP keys stay in what a mailbox elsewhere answers as an alias. false: they are taken out, since they show whose they are."`
		ForwardHard        int             `toml:"forward_hard_bounces" default:"3" unit:"mails" min:"1" max:"1000" doc:"So many mails that come back within 7 days because there is no such mailbox elsewhere, and mail is not sent on there for forward_long_pause."`
		ForwardSoftDay     int             `toml:"forward_bounces_per_day" default:"12" unit:"mails" min:"1" max:"100000" doc:"So many that come back in a day for whatever reason that is about the mailbox and not about the mail, and mail is put off for forward_short_pause."`
		ForwardSoftWeek    int             `toml:"forward_bounces_per_week" default:"40" unit:"mails" min:"1" max:"100000" doc:"The same within 7 days, with forward_long_pause."`
		ForwardBadDays     int             `toml:"forward_bad_days" default:"9" unit:"days" min:"1" max:"10" doc:"On so many of 10 days something came back, and mail is not sent on for forward_long_pause."`
		ForwardShortPause  config.Duration `toml:"forward_short_pause" default:"1d" min:"1h" max:"30d" doc:"How long mail for a mailbox elsewhere is put off (450 4.2.1) when much came back from it."`
		ForwardLongPause   config.Duration `toml:"forward_long_pause" default:"30d" min:"1d" max:"365d" doc:"How long mail for a mailbox elsewhere is refused when it is not there, or too much came back from it. postern alias elsewhere resume ends it earlier."`
	} `toml:"aliases"`

	Mixnet struct {
		Enabled   bool            `toml:"enabled" default:"false" doc:"Be the two ends of ways through a mix network, for the users of this relay: docs/mix-relay.md."`
		Network   string          `toml:"network" default:"" doc:"The network file: the name of the network, its period, and the keys and addresses of its authorities. Whoever runs an authority gives it out."`
		Nickname  string          `toml:"nickname" default:"" doc:"The name by which the operators of the network speak of this relay: 1 to 19 letters, digits, hyphens and underscores. The authorities give a name to one relay only."`
		Listen    string          `toml:"listen" default:":48099" check:"listen" doc:"Links of other nodes and of users' clients."`
		Addresses []string        `toml:"addresses" default:"" max:"4" doc:"host:port under which others reach listen, the best first. Empty: the domain with the port of listen."`
		Contact   string          `toml:"contact" default:"" check:"email" doc:"Where the operators of authorities reach you; it stands in the directory, for everybody to see. Empty: nothing does."`
		Family    string          `toml:"family" default:"" doc:"A name that all nodes of one operator share, so that no packet passes through two of them. Empty: this is the operator's only node."`
		Publish   bool            `toml:"publish" default:"true" doc:"Tell the authorities of this relay. It is in the network when their operators have approved it, once. false: they are not told."`
		Register  string          `toml:"registration" default:"open" oneof:"open invite off" doc:"Who may register a client or a mail proxy with address and password (POST /mix). open: every user. invite: who has a client already, or an invitation (postern account invite). off: nobody; clients that are registered stay, and you can register others (postern account mix)."`
		Keys      bool            `toml:"key_service" default:"true" doc:"Tell members of the mix network who know an address the public keys of its mail proxy, if its owner has published them. What is asked about, and by whom, is kept nowhere; an address that is not published looks like one that does not exist."`
		Replies   int             `toml:"reply_addresses" default:"2000" unit:"addresses" min:"0" max:"100000" doc:"How many reply addresses members of the mix network may have here at one time (docs/mix-relay.md §8). Mail for one goes back, through the network, to somebody whom this relay does not know. Each takes up to 330 KB. 0: none."`
		Mailboxes string          `toml:"mailboxes" default:"all" oneof:"all vouched off" doc:"Which mail from the mix network ordinary mailboxes take, by the same rules as mail of other hosts. all: also anonymous mail, which says that it is. vouched: mail of senders for whom a relay of the network vouches. off: none; mail for proxies is not concerned."`
		Cleartext bool            `toml:"accept_cleartext" default:"true" doc:"Accounts that are read with a mail proxy take mail of other hosts that is not end-to-end encrypted: it is sealed to the proxy before it is written, and marked. false: such mail is refused, as for all other accounts."`
		Tokens    int             `toml:"tokens_per_day" default:"20" unit:"tokens" min:"0" max:"64" doc:"Tokens that each user's mail proxy gets a day; exits of the network take one for a mail into the world, and cannot tell whose it is (docs/exit.md). 0: none."`
		Packets   int             `toml:"packets_per_account" default:"2000" unit:"packets" min:"1" max:"1000000" doc:"Packets that may wait for the clients of one account; more are dropped, and their senders not told that they arrived."`
		Keep      config.Duration `toml:"keep_packets" default:"30d" min:"1d" max:"365d" doc:"How long they wait, in whole days."`
		Clients   int             `toml:"connections" default:"1024" unit:"connections" min:"1" max:"100000" doc:"Connections of other nodes and of clients at one time."`
		Interval  config.Duration `toml:"stats_interval" default:"1d" min:"2h" max:"365d" doc:"Length of a period of the statistics that are kept of the mix network (mix/stats). A short one tells whoever reads them more about single packets."`
	} `toml:"mixnet"`
	Exit struct {
		Enabled       bool         `toml:"enabled" default:"false" doc:"Be an exit of the mix network: send mail of its members to everybody, by SMTP (docs/exit.md). Whoever turns it on answers to the world for mail of people whom nobody knows."`
		ReturnAddress string       `toml:"return_address" default:"" check:"email" doc:"The From address of anonymous mail, and the envelope sender of all mail that leaves through the exit; mail to it is counted and dropped. Empty: anonymous@ the domain."`
		Abuse         string       `toml:"x_abuse" default:"" doc:"Text of the field X-Abuse of all that leaves: whom to complain to. Empty: there is none."`
		Comments      string       `toml:"comments" default:"" doc:"Text of the field Comments. Empty: there is none."`
		Message       string       `toml:"message" default:"" doc:"A note at the head of each anonymous mail. Empty: one that says where the mail comes from."`
		SubjectLine   string       `toml:"subject_line" default:"Type III Anonymous Message" doc:"Subject of an anonymous mail without one."`
		FromTag       string       `toml:"from_tag" default:"[Anon]" doc:"Stands before the name that an anonymous sender chose."`
		AllowFrom     bool         `toml:"allow_from_address" default:"true" doc:"Anonymous senders may choose the name in From; the address is return_address always."`
		Blacklist     string       `toml:"blacklist_file" default:"" doc:"Who gets no mail from here, in the form of mixminiond's list. Empty: there is no list."`
		Cleartext     bool         `toml:"cleartext" default:"false" doc:"Let mail leave that is not end-to-end encrypted."`
		Anonymous     bool         `toml:"anonymous" default:"true" doc:"Send anonymous mail. false: only mail for whose sender a relay vouches."`
		OtherDomains  bool         `toml:"other_domains" default:"false" doc:"Send mail of users of other relays too. Many hosts refuse it, since it cannot carry a signature of the sender's domain."`
		MaxSize       config.Bytes `toml:"maximum_size" default:"100K" min:"32K" max:"16M" doc:"Largest mail, rounded up to whole KiB."`
		MaxRecipients int          `toml:"max_recipients" default:"5" unit:"recipients" min:"1" max:"100" doc:"Recipients of one mail, which costs one token."`
		PerRecipient  int          `toml:"per_recipient" default:"5" unit:"mails a day" min:"1" max:"1000000" doc:"Mails to one recipient."`
		PerDomain     int          `toml:"per_domain" default:"200" unit:"mails a day" min:"1" max:"1000000" doc:"Mails to one domain."`
		PerDay        int          `toml:"per_day" default:"2000" unit:"mails a day" min:"1" max:"1000000" doc:"Mails in all."`
	} `toml:"exit"`

	NodeKey struct {
		Source string `toml:"source" default:"file" oneof:"file credential passphrase" doc:"Where the node key comes from: a file, a systemd credential, or a passphrase that is asked for at each start."`
		File   string `toml:"file" default:"" doc:"The file of the node key. Empty: node.key in the data directory. Put it on another disk, and a seized one shows nothing."`
	} `toml:"node_key"`

	Log struct {
		Level  string `toml:"level" default:"info" oneof:"debug info warn error" doc:"How much is logged. Only debug shows addresses. Read again on SIGHUP."`
		Format string `toml:"format" default:"text" oneof:"text json" doc:"Form of the log lines on standard error."`
	} `toml:"log"`
}
