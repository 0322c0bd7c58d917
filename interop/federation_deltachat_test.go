package interop

import (
	"fmt"
	"testing"
	"time"
)

// TestDeltaChatFederation: two people with the real app, each on a relay of its own: secure-join
// across them, messages each way with a padlock, and the read receipts come back.
func TestDeltaChatFederation(t *testing.T) {
	t.Parallel() // it waits for the core most of the time
	deltachatBinary(t)
	const messages = 20
	w := newWorld(t)
	a, b := w.relay(t, "a.example", noSendLimit...), w.relay(t, "b.example", noSendLimit...)
	r := startRPC(t)
	alice, bob := r.newProfile("Alice"), r.newProfile("Bob")
	// A bot sends no read receipts; a person's app sends three mails at once, then one a second.
	for _, id := range []int{alice, bob} {
		r.must(nil, "set_config", id, "bot", "0")
		r.must(nil, "set_config", id, "mdns_enabled", "1")
	}
	r.must(nil, "add_or_update_transport", alice, a.credentials(t, a.newUser(), "ssl"))
	r.must(nil, "add_or_update_transport", bob, b.credentials(t, b.newUser(), "ssl"))
	r.must(nil, "start_io_for_all_accounts")
	idle := map[int]bool{}
	r.await(patience, "both inboxes idle", func(e rpcEvent) bool {
		idle[e.Account] = idle[e.Account] || e.kind() == "ImapInboxIdle"
		return idle[alice] && idle[bob]
	})

	began := time.Now()
	var qr string
	r.must(&qr, "get_chat_securejoin_qr_code", alice, nil)
	var bobChat, aliceChat int
	r.must(&bobChat, "secure_join", bob, qr)
	joined := map[string]bool{}
	var aliceContact int
	r.await(patience, "both ends of secure-join", func(e rpcEvent) bool {
		if e.number("progress") == 1000 {
			joined[e.kind()] = true
			if e.kind() == "SecurejoinInviterProgress" {
				aliceContact = e.number("contactId")
			}
		}
		return joined["SecurejoinInviterProgress"] && joined["SecurejoinJoinerProgress"]
	})
	t.Logf("secure-join across two relays: %v", time.Since(began).Round(time.Millisecond))
	r.must(&aliceChat, "create_chat_by_contact_id", alice, aliceContact)

	for _, way := range []struct {
		name           string
		from, chat, to int
	}{{"Alice to Bob", alice, aliceChat, bob}, {"Bob to Alice", bob, bobChat, alice}} {
		receipts, sent := map[int]bool{}, map[int]bool{}
		read := func(e rpcEvent) {
			if e.kind() == "MsgRead" && e.Account == way.from {
				receipts[e.number("msgId")] = true
			}
		}
		for i := range messages {
			text := fmt.Sprintf("%s: message %d of %d, with ümläuts", way.name, i+1, messages)
			var id int
			r.must(&id, "misc_send_text_message", way.from, way.chat, text)
			sent[id] = true
			var got struct {
				Text        string `json:"text"`
				ShowPadlock bool   `json:"showPadlock"`
				ChatID      int    `json:"chatId"`
			}
			e := r.await(patience, "message "+text, func(e rpcEvent) bool {
				read(e)
				return e.kind() == "IncomingMsg" && e.Account == way.to
			})
			r.must(&got, "get_message", way.to, e.number("msgId"))
			if got.Text != text || !got.ShowPadlock {
				t.Fatalf("got %q (padlock %v), want %q", got.Text, got.ShowPadlock, text)
			}
			if i == 0 {
				r.must(nil, "accept_chat", way.to, got.ChatID)
			}
			r.must(nil, "markseen_msgs", way.to, []int{e.number("msgId")})
		}
		for len(receipts) < messages {
			r.await(patience, fmt.Sprintf("read receipts: %d of %d", len(receipts), messages), func(e rpcEvent) bool {
				read(e)
				return e.kind() == "MsgRead" && e.Account == way.from
			})
		}
		for id := range sent {
			if !receipts[id] {
				t.Errorf("%s: no read receipt for message %d", way.name, id)
			}
		}
	}
	a.emptyQueue(t)
	b.emptyQueue(t)
}
