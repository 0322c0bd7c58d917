package relay

import (
	"testing"

	"postern.email/kit/config"
)

// TestStock: a relay that was told its domain and nothing else opens the ports that mail programs and
// other servers look at, and has the limits of the relays that people know.
func TestStock(t *testing.T) {
	var c Config
	if err := config.Load(&c, "", []string{"domain=example.org"}); err != nil {
		t.Fatal(err)
	}
	have := config.Values(&c)
	for key, want := range map[string]string{
		"listen.smtp": ":25", "listen.submissions": ":465", "listen.submission": ":587", "listen.imap": ":143", "listen.imaps": ":993",
		"listen.pop3": ":110", "listen.pop3s": ":995", "listen.http": ":80", "listen.https": ":443", "listen.https_alt": ":8443",
		// A password crosses no wire in the clear, and nobody is believed who says for whom it speaks.
		"listen.private_imap": "off", "listen.private_submission": "off", "listen.private_pop3": "off", "network.trusted_proxies": "", "tls.min_version": "1.3",
		"submission.max_user_send_per_minute": "60", "submission.max_user_send_burst_size": "10", "submission.max_recipients": "1000",
		"mail.max_message_size": "30M", "mail.max_mailbox_size": "500M", "mail.delete_mails_after": "20d", "mail.delete_large_after": "7d",
		"accounts.delete_inactive_after": "90d", "accounts.password_min_length": "9", "accounts.max_load": "5", "accounts.min_available_memory": "200M",
		"accounts.min_free_disk_space": "1G", "accounts.reuse": "never", "connections.imap": "10000", "connections.smtp": "1000",
		// To others: certificates are verified, no route of an operator leads elsewhere, two days.
		"delivery.remote": "true", "delivery.routes": "", "delivery.mta_sts": "true", "delivery.lifetime": "2d", "tls.trusted_cas": "",
		// What is for those who ask for it.
		"dkim.publish_old_keys": "false", "imap.imap_compress": "false", "mixnet.enabled": "false", "exit.enabled": "false",
	} {
		if got, ok := have[key]; !ok || got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}
