package lab

// Info is where everything in a lab is, and how to log in to it: the line that `postern lab
// --json` prints.
type Info struct {
	Ready   bool   `json:"ready"`
	Dir     string `json:"dir"`
	Network string `json:"network"` // network file
	CA      string `json:"ca"`      // certificate authority of the relays and the world
	Page    string `json:"page"`    // URL of the live page
	Speed   int    `json:"speed"`
	Profile string `json:"profile"`
	Period  string `json:"period"` // of an epoch

	Relays      []RelayInfo     `json:"relays"`
	Mixes       []NodeInfo      `json:"mixes"`
	Authorities []AuthorityInfo `json:"authorities"`
	Proxies     []ProxyInfo     `json:"proxies"`
	World       WorldInfo       `json:"world"`
	Tor         string          `json:"tor,omitempty"` // SOCKS port of the private Tor network
}

// AuthorityInfo is a directory authority.
type AuthorityInfo struct {
	Name   string `json:"name"`
	ID     string `json:"id"`
	Link   string `json:"link"`
	Dir    string `json:"dir"`
	Config string `json:"config"`
	PID    int    `json:"pid"` // at the start; --kill changes it
}

// NodeInfo is a mix.
type NodeInfo struct {
	Name   string `json:"name"`
	ID     string `json:"id"`
	Link   string `json:"link"`
	Dir    string `json:"dir"`
	Config string `json:"config"`
	PID    int    `json:"pid"`
}

// RelayInfo is a relay, with an ordinary user.
type RelayInfo struct {
	Name   string `json:"name"`
	ID     string `json:"id"` // of its node
	Domain string `json:"domain"`
	Link   string `json:"link"`
	Dir    string `json:"dir"`
	Config string `json:"config"`
	PID    int    `json:"pid"`

	HTTPS       string `json:"https"`
	IMAPS       string `json:"imaps"`
	IMAP        string `json:"imap"`
	SMTP        string `json:"smtp"`
	Submissions string `json:"submissions"`
	Submission  string `json:"submission"`
	POP3S       string `json:"pop3s"`
	POP3        string `json:"pop3"`
	TLSCert     string `json:"tls_cert"`

	Account  string `json:"account"`
	Password string `json:"password"`
}

// ProxyInfo is a mail proxy with its account. The same password opens the account at its relay.
type ProxyInfo struct {
	Name     string `json:"name"`
	Account  string `json:"account"`
	Password string `json:"password"`
	Relay    string `json:"relay"` // domain
	SMTP     string `json:"smtp"`
	POP3     string `json:"pop3"`
	IMAP     string `json:"imap"`
	Page     string `json:"page,omitempty"`
	Dir      string `json:"dir"`
	Config   string `json:"config"`
	PID      int    `json:"pid"`
}

// WorldInfo is what stands for the rest of the Internet: a DNS server and an ordinary mail host
// with mailboxes.
type WorldInfo struct {
	DNS        string `json:"dns"`
	Domain     string `json:"domain"`
	SMTP       string `json:"smtp"`       // mail from other hosts
	Submission string `json:"submission"` // with login, without TLS
	POP3       string `json:"pop3"`       // without TLS
	Account    string `json:"account"`
	Password   string `json:"password"`
	Dir        string `json:"dir"` // a Maildir below it for each account
	PID        int    `json:"pid"`
}
