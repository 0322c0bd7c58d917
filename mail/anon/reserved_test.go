package anon

import (
	"strings"
	"testing"

	"postern.email/mail"
)

// TestReserved: addresses that anonymous mail may name are known as such in any capitals.
func TestReserved(t *testing.T) {
	for s, want := range map[string]bool{
		"anonymous@one.example": true, "Anonymous@one.example": true, "reply." + strings.Repeat("b", 26) + "@one.example": true,
		"REPLY." + strings.Repeat("B", 52) + "@one.example": true, "reply." + strings.Repeat("b", 25) + "@one.example": false,
		"reply." + strings.Repeat("b", 53) + "@one.example": false, "reply@one.example": false, "anonymous.fox@one.example": false, "alice@one.example": false,
	} {
		if Reserved(addr(t, s)) != want {
			t.Errorf("%s: %v", s, !want)
		}
	}
	if NoReturn().String() != "anonymous@anonymous.invalid" {
		t.Error(NoReturn())
	}
}

// TestReplyName: a reply address has a name of one length, and any other address none.
func TestReplyName(t *testing.T) {
	name := strings.Repeat("b2", 13)
	if a := ReplyAddress(name, "One.Example"); a.String() != "reply."+name+"@one.example" || !Reserved(a) {
		t.Error(a)
	}
	for s, ok := range map[string]bool{"reply." + name + "@one.example": true, "Reply." + strings.ToUpper(name) + "@ONE.example": true, "reply." + name + "b@one.example": false,
		"anonymous@one.example": false, "alice@one.example": false} {
		if got, is := ReplyName(addr(t, s)); is != ok || ok && got != name {
			t.Errorf("%s: %q %v", s, got, is)
		}
	}
}

func addr(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
