// Package management speaks the management protocol of mailproxy, over a Unix socket: commands of
// one line about recipients' keys, and replies that begin with a number, as in SMTP.
//
//	GET_RECIPIENT user           250 <key> | 554
//	SET_RECIPIENT user key       250 | 501 | 554
//	REMOVE_RECIPIENT user        250 | 554
//	LIST_RECIPIENTS              250, then lines "user key", then a dot
//	QUERY_RECIPIENT sender user  250 | 554: have the key of user looked up for the account sender
//	SHUTDOWN                     250: the proxy stops
//	QUIT                         250
//
// Words are separated by one space; commands are taken in any case. Mailproxy's list had no line
// 250 in front. Behind the words of 554 there may be a colon and a reason.
package management

import "context"

// Limits.
const (
	MaxLine  = 8192 // octets of a line, without its end; a key of ours has 4,367
	MaxConns = 16   // connections at one time
	maxList  = 64 << 20
)

// Service is the name in the greeting.
const Service = "Postern Mailproxy Management Interface"

// The replies.
const (
	codeReady   = "220"
	codeOK      = "250"
	codeUnknown = "500"
	codeSyntax  = "501"
	codeFailed  = "554"

	textOK      = "Requested action ok, completed"
	textUnknown = "Syntax error, command unrecognised"
	textSyntax  = "Syntax error in parameters or arguments"
	textFailed  = "Transaction failed"
)

// The commands.
const (
	cmdGet      = "GET_RECIPIENT"
	cmdSet      = "SET_RECIPIENT"
	cmdRemove   = "REMOVE_RECIPIENT"
	cmdList     = "LIST_RECIPIENTS"
	cmdQuery    = "QUERY_RECIPIENT"
	cmdShutdown = "SHUTDOWN"
	cmdQuit     = "QUIT"
)

// arguments are how many words stand behind each.
var arguments = map[string]int{cmdGet: 1, cmdSet: 2, cmdRemove: 1, cmdList: 0, cmdQuery: 2, cmdShutdown: 0, cmdQuit: 0}

// Recipient is a line of a list.
type Recipient struct {
	User string `json:"user"` // address
	Key  string `json:"key"`
}

// Backend does what is asked. Its methods may be called by many goroutines. An error becomes 554,
// with its public text where it has one of its own; errs.NotFound has none.
type Backend interface {
	Get(ctx context.Context, user string) (key string, err error)
	Set(ctx context.Context, user, key string) error // errs.Invalid: the key is none (501)
	Remove(ctx context.Context, user string) error
	List(ctx context.Context) ([]Recipient, error)
	Query(ctx context.Context, sender, user string) error
	Shutdown() // begins it and returns
}
