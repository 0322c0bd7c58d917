package road

import (
	"strings"
	"testing"
)

// TestProbe: a host that is ready for mail is named, and gets none; why there is none is
// said as it is for a mail.
func TestProbe(t *testing.T) {
	w := newWorld(t, "null.example 60 MX 0 .")
	good, plain := w.newHost("good.example"), w.newHost("plain.example")
	plain.noTLS = true
	w.at("good.example", good)
	w.at("plain.example", plain)
	w.at("silent.example", w.newHost("silent.example"))
	w.serveSMTP(good)
	w.serveSMTP(plain)
	routes, err := ParseRoutes([]string{"webonly.example host=good.example smtp=off"})
	if err != nil {
		t.Fatal(err)
	}
	r := w.roads(func(o *Options) { o.Routes = routes })
	if host, why := r.Probe(t.Context(), "good.example"); host != "good.example" || why != nil || len(good.mails()) != 0 {
		t.Errorf("%s, %v, %v", host, why, good.mails())
	}
	for domain, want := range map[string]string{"plain.example": "451 4.7.4 plain.example does not offer TLS", "null.example": "556 5.1.10", "none.example": "512 5.1.2",
		"silent.example": "421 4.4.1 Failed to connect", "webonly.example": "421 4.4.1 No mail server takes mail by SMTP"} {
		if host, why := r.Probe(t.Context(), domain); host != "" || why == nil || !strings.HasPrefix(why.String(), want) {
			t.Errorf("%s: %s, %v", domain, host, why)
		}
	}
}
