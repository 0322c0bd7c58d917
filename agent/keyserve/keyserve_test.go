package keyserve

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/content"
)

// book has one address.
func book(_ context.Context, a mail.Address) ([]byte, error) {
	switch a.String() {
	case "anna@example.org":
		return []byte("certificate of anna"), nil
	case "broken@example.org":
		return nil, errs.E("test", errs.Corrupt, "", nil)
	case "large@example.org":
		return make([]byte, content.MaxAnswer+1), nil
	}
	return nil, errs.E("test", errs.NotFound, "", nil)
}

func lookup(t *testing.T, a string) []byte {
	t.Helper()
	b, err := content.AppendLookup(nil, a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestServe: one answer for each thing that can be asked, and nothing about who was asked for in the log.
func TestServe(t *testing.T) {
	var logged bytes.Buffer
	s := New(Options{Certificate: book, Logger: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for _, c := range []struct {
		service uint8
		request []byte
		status  uint8
		answer  string
	}{
		{content.ServiceCertificate, lookup(t, "anna@example.org"), content.AnswerOK, "certificate of anna"},
		{content.ServiceCertificate, lookup(t, "ben@example.org"), content.AnswerUnknown, ""},
		{content.ServiceCertificate, lookup(t, "broken@example.org"), content.AnswerLater, ""},
		{content.ServiceCertificate, lookup(t, "large@example.org"), content.AnswerLater, ""},
		{content.ServiceCertificate, lookup(t, "Anna@example.org"), content.AnswerRefused, ""},
		{content.ServiceCertificate, lookup(t, "anna"), content.AnswerRefused, ""},
		{content.ServiceCertificate, lookup(t, "anna@example.org")[:5], content.AnswerRefused, ""},
		{content.ServiceCertificate, nil, content.AnswerRefused, ""},
		{99, lookup(t, "anna@example.org"), content.AnswerRefused, ""},
	} {
		status, answer := s.Serve(t.Context(), c.service, c.request)
		if status != c.status || string(answer) != c.answer {
			t.Errorf("%d %q: %d %q, want %d %q", c.service, c.request, status, answer, c.status, c.answer)
		}
	}
	if text := logged.String(); text == "" || strings.Contains(text, "@") {
		t.Errorf("the log: %s", text)
	}
	if status, _ := New(Options{}).Serve(t.Context(), content.ServiceCertificate, lookup(t, "anna@example.org")); status != content.AnswerRefused {
		t.Error("a service that is not given answered", status)
	}
}

// FuzzServe: whatever is asked, the answer can be sent.
func FuzzServe(f *testing.F) {
	f.Add(uint8(1), []byte("\x00\x10anna@example.org"))
	f.Add(uint8(0), []byte{})
	s := New(Options{Certificate: book})
	f.Fuzz(func(t *testing.T, service uint8, request []byte) {
		status, answer := s.Serve(t.Context(), service, request)
		if _, err := content.NewAnswer(status, answer); err != nil {
			t.Error(err)
		}
		if status == content.AnswerOK && string(request) != "\x00\x10anna@example.org" {
			t.Errorf("%q was answered", request)
		}
	})
}
