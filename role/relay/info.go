package relay

import (
	"postern.email/wire/certs"
)

// Info tells where a running relay is reached: DESIGN §7's line.
type Info struct {
	Ready       bool   `json:"ready"`
	Domain      string `json:"domain"`
	Dir         string `json:"dir"`
	HTTPS       string `json:"https,omitempty"`
	HTTPSAlt    string `json:"https_alt,omitempty"`
	HTTP        string `json:"http,omitempty"`
	IMAPS       string `json:"imaps,omitempty"`
	IMAP        string `json:"imap,omitempty"`
	SMTP        string `json:"smtp,omitempty"`
	Submissions string `json:"submissions,omitempty"`
	Submission  string `json:"submission,omitempty"`
	POP3S       string `json:"pop3s,omitempty"`
	POP3        string `json:"pop3,omitempty"`
	TLSCert     string `json:"tls_cert"`

	PrivateIMAP       string `json:"private_imap,omitempty"`
	PrivateSubmission string `json:"private_submission,omitempty"`
	PrivatePOP3       string `json:"private_pop3,omitempty"`

	Mix string `json:"mix,omitempty"` // links of the mix network
}

// Info tells where the relay is reached. Ready is set by who has tried.
func (s *Server) Info() Info {
	at := make(map[string]string)
	for _, p := range s.ports {
		if p.l != nil {
			at[p.name] = p.l.Addr().String()
		}
	}
	return Info{Domain: s.c.Domain, Dir: s.c.Dir, HTTPS: at["https"], HTTPSAlt: at["https_alt"], HTTP: at["http"], IMAPS: at["imaps"], IMAP: at["imap"], SMTP: at["smtp"],
		Submissions: at["submissions"], Submission: at["submission"], POP3S: at["pop3s"], POP3: at["pop3"], TLSCert: s.certs.File(),
		PrivateIMAP: at["private_imap"], PrivateSubmission: at["private_submission"], PrivatePOP3: at["private_pop3"], Mix: at["mix"]}
}

// Status is what `postern status` shows. No number in it tells about one user.
type Status struct {
	Info
	Version string `json:"version"`
	PID     int    `json:"pid"`
	Since   string `json:"since"`
	// Generation differs after a restart, in which the pid stays the same.
	Generation string `json:"generation"`
	// Health is "ok", or what is wrong and whether mail is safe.
	Health      string       `json:"health"`
	TLS         certs.Status `json:"tls"`
	Connections struct {
		IMAP int `json:"imap"`
		SMTP int `json:"smtp"`
		POP3 int `json:"pop3"`
		Web  int `json:"web"`
	} `json:"connections"`
	Passwords struct {
		Hashed  uint64 `json:"hashed"`  // password hashes since the start
		Running int    `json:"running"` // now
		Waiting int    `json:"waiting"`
	} `json:"passwords"`
	Keys struct {
		InUse      int `json:"in_use"`
		Idle       int `json:"idle"`
		TakenOver  int `json:"taken_over"` // from the predecessor of a restart
		LiveChains int `json:"live_chains"`
	} `json:"keys"`
	Queue struct { // mail for other hosts
		Mails      int   `json:"mails"`
		Recipients int   `json:"recipients"`
		Held       int   `json:"held"`
		Sending    int   `json:"sending"`
		Damaged    int   `json:"damaged"`
		Bytes      int64 `json:"bytes"`
	} `json:"queue"`
	Store struct {
		Transactions uint64 `json:"transactions"`
		Groups       uint64 `json:"groups"`
		Syncs        uint64 `json:"syncs"`
		Bytes        uint64 `json:"bytes_written"`
	} `json:"store"`
	Aliases *AliasStatus `json:"aliases,omitempty"` // nil: there are none
	Mixnet  *MixStatus   `json:"mixnet,omitempty"`  // nil: in no mix network
}
