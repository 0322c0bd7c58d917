package mxdeliv

import (
	"mime"
	"net/http"
	"strings"

	"postern.email/wire/lineio"
)

// Fallback is the Outcome that only a Client gives: this host does not take this mail this
// way, and nothing of it is kept there.
const Fallback Outcome = 255

// judge says what an answer means. text holds up to maxAnswer bytes of it, or one more.
//
// A mail may count as taken only when a host that knows this protocol says so. Web servers that
// answer every request with a page, and say 200, are common; so 200 needs a short plain text
// that is no SMTP refusal. What is not understood is a Fallback: at worst the mail arrives twice.
func judge(status int, contentType string, text []byte) Answer {
	reply := lineio.Clean(string(text), maxReply)
	class := replyClass(reply)
	switch {
	case len(text) > maxAnswer || !plain(contentType):
	case status == http.StatusOK && (class == '2' || class == 0 && word(reply)):
		return Answer{Outcome: Accepted, Reply: reply}
	case (status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge) && (class == '4' || class == '5'):
		return Answer{Outcome: Refused, Reply: reply}
	case class == '4' || class == '5':
		return Answer{Outcome: Fallback, Reply: reply, Why: ErrNotNow}
	}
	return Answer{Outcome: Fallback, Why: ErrNotOffered}
}

// plain: hosts of the first make name no type at all.
func plain(contentType string) bool {
	if contentType == "" {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "text/plain" || t == "application/octet-stream")
}

// replyClass gives the first digit of an SMTP reply, or 0.
func replyClass(s string) byte {
	if len(s) < 3 || s[0] < '2' || s[0] > '5' || s[1] < '0' || s[1] > '9' || s[2] < '0' || s[2] > '9' || len(s) > 3 && s[3] != ' ' {
		return 0
	}
	return s[0]
}

// maxWord is the longest text that is taken for a plain yes without being an SMTP reply: some
// say just "OK".
const maxWord = 64

func word(s string) bool {
	return s != "" && len(s) <= maxWord && !strings.ContainsAny(s, "<{[")
}
