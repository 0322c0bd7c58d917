// Package control is the line between a running server and the commands of its
// operator: a unix socket in the data directory that only its owner may open, and
// one JSON object a line.
//
// A request names the version of this protocol, a command and its arguments; the
// answer is any number of progress lines and one last line with a result or an
// error. One connection carries one request.
package control

import (
	"encoding/json"

	"postern.email/kit/errs"
)

const (
	// Version is checked on both sides; a command and a server of different
	// versions say so instead of misunderstanding each other.
	Version = 1
	// SocketName is the socket's name in the data directory.
	SocketName = "control.sock"
	// MaxLine bounds one line in bytes, MaxConns the commands at one time.
	MaxLine  = 4 << 20
	MaxConns = 32
)

// request is what a client sends.
type request struct {
	Version int             `json:"v"`
	Command string          `json:"command"`
	Args    json.RawMessage `json:"args,omitempty"`
}

// answer is one line of a server.
type answer struct {
	Version  int             `json:"v"`
	Progress json.RawMessage `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *fault          `json:"error,omitempty"`
	Done     bool            `json:"done,omitempty"`
}

// fault carries an error's kind by name and its public text. Private causes stay
// in the server's log.
type fault struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
}

func faultOf(err error) *fault {
	return &fault{Kind: errs.KindOf(err).Error(), Text: errs.Public(err)}
}

// err turns a fault back into an error of the same kind.
func (f *fault) err(op string) error {
	for k := errs.Internal; k <= errs.Conflict; k++ {
		if k.Error() == f.Kind {
			return errs.E(op, k, f.Text, nil)
		}
	}
	return errs.E(op, errs.Internal, f.Text, nil)
}
