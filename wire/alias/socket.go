package alias

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
)

// Times of one WebSocket.
const (
	receiveTime = 10 * time.Second // from the handshake to the end of the frame
	answerTime  = 30 * time.Second // from there until the answer is sent
)

// What the WebSocket says. IncognitoMail's clients know these texts; a frame that begins with
// "error " is one. The one for a frame that cannot be read never had the word twice.
const (
	saidEmpty      = "empty command received"
	saidUnknown    = "unknown command received"
	saidUsage      = "wrong command usage"
	saidPermission = "invalid permission to do this"
	saidNoAccount  = "account not found"
	saidBusy       = "too many requests, try again later"
	errorWord      = "error "
	saidReceiving  = "error receiving command"
)

// socket is IncognitoMail's WebSocket: one text frame in, one out, then it is closed.
func (s *Server) socket(w http.ResponseWriter, r *http.Request) {
	if !s.originAllowed(r) {
		http.Error(w, "this origin may not ask here", http.StatusForbidden)
		return
	}
	peer := s.o.PeerOf(r)
	release, ok := s.o.Sockets.Acquire(peer)
	if !ok {
		w.Header().Set("Retry-After", retrySeconds)
		http.Error(w, "too many connections, try again later", http.StatusServiceUnavailable)
		return
	}
	defer release()
	// The origin was looked at above, by the one rule for all calls.
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{OriginPatterns: []string{"*"}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // it has answered
	}
	defer c.CloseNow()
	text, ok, err := receive(r.Context(), c)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	answer, status := saidReceiving, websocket.StatusUnsupportedData
	if ok {
		answer, status = s.command(ctx, peer, text), websocket.StatusNormalClosure
	}
	if c.Write(ctx, websocket.MessageText, []byte(answer)) == nil {
		c.Close(status, "")
	}
}

// receive reads the one frame. When not ok it is no text, or too long.
func receive(ctx context.Context, c *websocket.Conn) (text string, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, receiveTime)
	defer cancel()
	c.SetReadLimit(-1) // the library would close without an answer
	kind, r, err := c.Reader(ctx)
	if err != nil {
		return "", false, err
	}
	b, err := io.ReadAll(io.LimitReader(r, MaxFrame+1))
	if err != nil {
		return "", false, err
	}
	return string(b), kind == websocket.MessageText && len(b) <= MaxFrame, nil
}

// command does what a frame asks for and gives the answer.
func (s *Server) command(ctx context.Context, peer limits.Peer, text string) string {
	token, said := parseCommand(text)
	if said != "" {
		return errorWord + said
	}
	// The seed's handles have no form of their own, so the owner's usual one counts.
	v, err := s.o.Backend.Create(ctx, Who{Token: token, Peer: peer}, CreateRequest{})
	if err != nil {
		return errorWord + socketText(err)
	}
	return v.Address
}

// parseCommand gives the secret of "new handle SECRET", else what is said instead. The words are
// those between white space, so that a secret is never empty.
func parseCommand(text string) (secret, said string) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return "", saidEmpty
	}
	args := words[1:]
	switch words[0] {
	case "new":
		switch {
		case len(args) != 2:
			return "", saidUsage
		case args[0] == "account":
			return "", saidPermission
		case args[0] == "handle":
			return args[1], ""
		}
		return "", saidUsage
	case "delete": // each of its forms is answered: in the original, one was not
		switch {
		case len(args) == 3 && args[0] == "handle", len(args) == 2 && args[0] == "account":
			return "", saidPermission
		}
		return "", saidUsage
	}
	return "", saidUnknown
}

// socketText says an error in the words of the WebSocket.
func socketText(err error) string {
	switch errs.KindOf(err) {
	case errs.Auth:
		return saidNoAccount
	case errs.Denied:
		return saidPermission
	case errs.Busy:
		return saidBusy
	}
	return errs.Public(err)
}
