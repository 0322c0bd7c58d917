package account

import (
	"context"
	"testing"

	"postern.email/kit/errs"
)

func TestLoginMakesAndOpens(t *testing.T) {
	a := office(t)
	s := login(t, a, "Alice@Example.org", "correct horse", "192.0.2.1")
	if got := s.Address.String(); got != "alice@example.org" {
		t.Fatalf("address %q is not canonical", got)
	}
	again := login(t, a, "alice@EXAMPLE.ORG", "correct horse", "192.0.2.2")
	if again.ID != s.ID || again.Key != s.Key {
		t.Fatal("the second login opened another account or key")
	}
	_, err := a.Login(context.Background(), LoginRequest{Name: "alice@example.org", Password: "another one", Peer: peer("192.0.2.3")})
	wantKind(t, err, errs.Auth, textAuth)
	acc, err := a.Resolve(context.Background(), addr(t, "alice+tag@example.org"))
	if err != nil || acc.ID != s.ID {
		t.Fatalf("resolve: %v %v", acc, err)
	}
	if _, err := a.Resolve(context.Background(), addr(t, "bob@example.org")); errs.KindOf(err) != errs.NotFound {
		t.Fatalf("resolve of an unknown name: %v", err)
	}
}
