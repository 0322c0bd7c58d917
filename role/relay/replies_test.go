package relay

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail/anon"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// feedFor is a request to s with one reply block, from the owner of a reply address with a name.
func feedFor(t *testing.T, s *Server, who string, serial uint64) (name string, request []byte) {
	t.Helper()
	seed := sha256.Sum256([]byte(who))
	key := ed25519.NewKeyFromSeed(seed[:])
	owner := key.Public().(ed25519.PublicKey)
	f := content.Feed{Owner: owner, Serial: serial}
	to, err := letter.ReplyKey((*packet.Seed)(&seed), f.Hint)
	if err != nil {
		t.Fatal(err)
	}
	f.Key = [content.FeedKeyLen]byte(to.Public().Bytes())
	hops := make([]packet.Hop, 4)
	for i := range hops {
		k, err := packet.GeneratePrivateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		hops[i] = packet.Hop{Node: packet.ID{byte(i + 1)}, Key: k.Public()}
	}
	b, _, err := packet.NewSURB(hops, packet.ID{9}, (*packet.Seed)(&seed), time.Now().Add(48*time.Hour), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f.Blocks = []*packet.SURB{b}
	if request, err = f.Sign(s.mix.node.ID(), key); err != nil {
		t.Fatal(err)
	}
	return content.ReplyName(owner), request
}

// effectOfReplyAddresses: so many are taken, and fed again while there is no room for others; with none,
// there is only a refusal, and mail for one finds nobody.
func effectOfReplyAddresses(t *testing.T) {
	for option, want := range map[string][3]uint8{"1": {content.AnswerOK, content.AnswerLater, content.AnswerOK}, "0": {content.AnswerRefused, content.AnswerRefused, content.AnswerRefused}} {
		_, s, _ := relayIn(t, "mixnet.reply_addresses="+option)
		name, first := feedFor(t, s, "fox", 1)
		_, second := feedFor(t, s, "owl", 1)
		_, again := feedFor(t, s, "fox", 2)
		for i, request := range [][]byte{first, second, again} {
			if status, _ := s.mix.services().Serve(t.Context(), content.ServiceReply, request); status != want[i] {
				t.Errorf("%s, request %d: status %d", option, i, status)
			}
		}
		replies := s.replies()
		if option == "0" {
			if replies != nil {
				t.Error("there are reply addresses")
			}
			continue
		}
		if err := replies.Room(t.Context(), anon.ReplyAddress(name, s.c.Domain)); err != nil {
			t.Error(err)
		}
		if err := replies.Room(t.Context(), anon.ReplyAddress(strings.Repeat("a", 26), s.c.Domain)); errs.KindOf(err) != errs.NotFound {
			t.Error(err)
		}
		var found []string
		if err := s.Reveal(t.Context(), func(r Revealed) {
			if r.Kind == "mix-reply" {
				found = append(found, r.Text)
			}
		}); err != nil || len(found) != 1 || strings.Contains(found[0], name) {
			t.Error(found, err)
		}
	}
}
