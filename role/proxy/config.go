package proxy

import (
	"postern.email/kit/config"
)

// Config is the configuration of a mail proxy: mailproxy's file, section by section, with some
// options more. Every field is documented by its tags: docs/proxy-config.md and `postern proxy
// config` come from there. A field has an effect, and a test that shows it (effects_test.go lists
// them all).
type Config struct {
	Proxy struct {
		POP3Address       string       `toml:"POP3Address" default:"127.0.0.1:2524" doc:"Where mail programs read mail by POP3, IP address and port; port 0 takes a free one. Empty: the default."`
		SMTPAddress       string       `toml:"SMTPAddress" default:"127.0.0.1:2525" doc:"Where mail programs hand in mail by SMTP. Empty: the default."`
		IMAPAddress       string       `toml:"IMAPAddress" default:"127.0.0.1:2526" doc:"Where mail programs read mail by IMAP; off: nowhere. Empty: the default."`
		PageAddress       string       `toml:"PageAddress" default:"127.0.0.1:2527" doc:"Where a browser sees how the proxy stands; off: nowhere. The page has a secret in its address, which postern proxy status tells. Empty: the default."`
		DataDir           string       `toml:"DataDir" default:"" doc:"The directory of everything that is kept: keys, mail, what waits. An absolute path. Needed. One proxy at a time holds it."`
		RecipientDir      string       `toml:"RecipientDir" default:"" doc:"The directory of recipients' keys, a file ADDRESS.pem for each. It is read again on SIGHUP. Empty: recipients in DataDir."`
		NoLaunchListeners bool         `toml:"NoLaunchListeners" default:"false" doc:"Open no socket for mail programs and browsers. The proxy still sends what waits and receives."`
		SMTPAuth          bool         `toml:"SMTPAuth" default:"true" doc:"Mail programs log in before they send, and send as who they logged in as. false: any program that reaches SMTPAddress, which must then be on this machine, sends as any account of the proxy, as mailproxy had it."`
		AllowRemote       bool         `toml:"AllowRemote" default:"false" doc:"Let POP3Address, SMTPAddress, IMAPAddress and PageAddress be other than loopback addresses. Passwords and mail then cross that network as they are: only for ways on which nobody listens."`
		KeyFile           string       `toml:"KeyFile" default:"" doc:"The file of the key that seals names and what waits; mail is sealed to the account's password beside. Empty: node.key in DataDir. Put it on another disk, and a seized one shows less."`
		TrustedCAs        []string     `toml:"TrustedCAs" default:"" max:"64" doc:"PEM files of certificates that are believed, beside the system's, when an account is registered over HTTPS and when keys are looked up (WebKeyDirectory)."`
		MaxMailboxSize    config.Bytes `toml:"MaxMailboxSize" default:"8G" min:"1M" doc:"What an account may hold, as stored. What comes to a full one waits in the relay."`
		MinFreeSpace      config.Bytes `toml:"MinFreeSpace" default:"64M" doc:"No mail is taken while less disk is free (452 4.3.1); reading goes on. 0: not looked at."`

		AllowClassicalRecipients bool `toml:"AllowClassicalRecipients" default:"false" doc:"Take bare X25519 keys of recipients, as mailproxy had them (SET_RECIPIENT, [Recipients], PEM files). Mail to them is sealed without the part that withstands quantum computers."`
		AllowCleartext           bool `toml:"AllowCleartext" default:"false" doc:"Hand mail that is not end-to-end encrypted to exits of the mix network for recipients outside of it, where the exit's policy takes it. Everybody from the exit on can read it. And let such mail go to reply addresses, whose relay can read it before it seals it. false: such mail is refused (523)."`
		WebKeyDirectory          bool `toml:"WebKeyDirectory" default:"false" doc:"Ask the domain of a recipient outside of the mix network, or in an ordinary mailbox, for an OpenPGP key (Web Key Directory), when mail must be encrypted and no mail from there has brought a key. This tells that domain, and whoever watches this machine's line, that somebody here wants to write to the address; with UpstreamProxy it is asked through that alone, the name of its host included. For anonymous mail nobody is asked."`
	} `toml:"Proxy"`

	Logging struct {
		Disable bool   `toml:"Disable" default:"false" doc:"Write no log at all."`
		File    string `toml:"File" default:"" doc:"The log file; a relative name is one in DataDir. Empty: standard output, or standard error with --json."`
		Level   string `toml:"Level" default:"NOTICE" doc:"How much is logged: ERROR, WARNING, NOTICE, INFO or DEBUG. DEBUG shows addresses and is unsafe for production use. Empty: the default."`
	} `toml:"Logging"`

	NonvotingAuthority map[string]struct {
		Address   string `toml:"Address" doc:"IP address and port of the authority. It is not connected to: the directory comes over the line to the relay, signed."`
		PublicKey string `toml:"PublicKey" doc:"The fingerprint of the authority: SHA-256 of its hybrid key, 32 bytes in Base64 or Base16, as in the network file. An account that names the label trusts a network of this authority alone."`
	} `toml:"NonvotingAuthority" name:"LABEL"`

	VotingAuthority map[string]struct {
		Peers []struct {
			Addresses         []string `toml:"Addresses" doc:"IP addresses and ports of the authority, which are not connected to, as with NonvotingAuthority."`
			IdentityPublicKey string   `toml:"IdentityPublicKey" doc:"The fingerprint of the authority, 32 bytes in Base64 or Base16. An account that names the label trusts a network of exactly the authorities that are its peers."`
			LinkPublicKey     string   `toml:"LinkPublicKey" doc:"The name of the authority's link key, 32 bytes in Base64 or Base16. Empty: not compared with the network file."`
		} `toml:"Peers"`
	} `toml:"VotingAuthority" name:"LABEL"`

	Account []struct {
		User                 string `toml:"User" doc:"The name of the account at its relay. Needed."`
		Provider             string `toml:"Provider" doc:"The mail domain of the account's relay. User@Provider is the address. Needed."`
		ProviderKeyPin       string `toml:"ProviderKeyPin" doc:"The relay's identity in the mix network (its node ID), 32 bytes in Base64 or Base16. The proxy never connects to another. Empty: the one that answered at registration."`
		Authority            string `toml:"Authority" doc:"The label of a NonvotingAuthority or VotingAuthority that the account's network must consist of. Empty: the network that the relay named at registration."`
		NonvotingAuthority   string `toml:"NonvotingAuthority" doc:"As Authority, for a NonvotingAuthority."`
		VotingAuthority      string `toml:"VotingAuthority" doc:"As Authority, for a VotingAuthority."`
		InsecureKeyDiscovery bool   `toml:"InsecureKeyDiscovery" doc:"Ask the recipient's relay, through the mix network, for keys that are not known. The first answer is used and marked as unverified; a later change holds the mail until you decide."`
		RelayURL             string `toml:"RelayURL" check:"url" doc:"The web page of the relay, for registration. Empty: https:// and Provider."`
		Unpublished          bool   `toml:"Unpublished" doc:"The relay does not give the account's key to those who ask for it; whom you want mail from gets it from you."`
	} `toml:"Account"`

	Management struct {
		Enable bool   `toml:"Enable" default:"false" doc:"Answer the management commands (GET_RECIPIENT and the like), which postern proxy recipients uses."`
		Path   string `toml:"Path" default:"" doc:"The socket for them, an absolute path. Only its owner may use it. Empty: management_sock in DataDir."`
	} `toml:"Management"`

	UpstreamProxy struct {
		Type               string   `toml:"Type" default:"none" doc:"How the relay is reached: none (directly), socks5, or tor+socks5 (each account gets a circuit of its own). Empty: none."`
		Network            string   `toml:"Network" default:"tcp" doc:"What Address is: tcp or unix. Empty: tcp."`
		Address            string   `toml:"Address" default:"" doc:"Where the SOCKS proxy listens: IP address and port, or the path of a socket."`
		User               string   `toml:"User" default:"" doc:"Name for the SOCKS proxy, at most 255 bytes. Only with a Password, and not with tor+socks5, where names choose circuits."`
		Password           string   `toml:"Password" default:"" doc:"Password for the SOCKS proxy, at most 255 bytes."`
		PreferedTransports []string `toml:"PreferedTransports" default:"" max:"8" doc:"Which addresses of the relay are used, the best first: tcp4, tcp6, onion, or tcp for all. Empty: all, in the relay's order."`
	} `toml:"UpstreamProxy"`

	Recipients map[string]string `toml:"Recipients" name:"ADDRESS" doc:"The key of a recipient: pk: and what postern proxy verify prints, or a bare X25519 key with AllowClassicalRecipients."`

	Debug struct {
		ReceiveTimeout               int  `toml:"ReceiveTimeout" default:"0" unit:"seconds" max:"31536000" doc:"How long the parts of a mail are kept of which others do not come. 0 or less: 30 days."`
		BounceQueueLifetime          int  `toml:"BounceQueueLifetime" default:"432000" unit:"seconds" max:"31536000" doc:"How long a mail is tried before its sender is told that it was not delivered; never less than four times what it should take. 0 or less: the default."`
		UrgentQueueLifetime          int  `toml:"UrgentQueueLifetime" default:"3600" unit:"seconds" max:"31536000" doc:"How long a question for a recipient's key waits for its answer, before the mail that waits for it is given back. 0 or less: the default."`
		PollingInterval              int  `toml:"PollingInterval" default:"30" unit:"seconds" doc:"Has no effect, and a value other than the default is said to have none: what waits comes at a constant rate that the network's directory sets, so that nobody sees when there is mail."`
		RetransmitSlack              int  `toml:"RetransmitSlack" default:"300" unit:"seconds" max:"86400" doc:"How long after its time an acknowledgement is still waited for before a packet is sent again. 0 or less: the default."`
		CaseSensitiveUserIdentifiers bool `toml:"CaseSensitiveUserIdentifiers" default:"false" doc:"User keeps its capital letters, and logins must have them."`
		SendDecoyTraffic             bool `toml:"SendDecoyTraffic" default:"true" doc:"Has no effect, and false is said to have none: a client without cover traffic could be told apart and would show when it has mail."`
		GenerateOnly                 bool `toml:"GenerateOnly" default:"false" doc:"Make the keys and end, as -g."`
	} `toml:"Debug"`
}
