package mix

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/mixnet/pool"
)

// least is the smallest file that mixminiond takes.
const least = "[Server]\nNickname: x\nContact-Email: a@example.org\nMode: relay\n"

func conf(t *testing.T, text string) *Import {
	t.Helper()
	i, err := ImportConf("m.conf", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestConfGrammar: the ways in which an entry may be written, and what is none.
func TestConfGrammar(t *testing.T) {
	text := "# c\r\n\r\n[ A ] # c\rKey1 value one\nKey2: value: two\n  goes  on\n\t# no\n\tand on\nKey3 = value=3\nKey4=value4\nKey5:\n \t \n[B/C]\nKey1 : x\n"
	got, err := readConf("m.conf", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range got {
		fmt.Fprintf(&b, "%d %s %q %q\n", e.line, e.section, e.key, e.value)
	}
	const want = "3 A \"\" \"\"\n4 A \"Key1\" \"value one\"\n5 A \"Key2\" \"value: two goes  on and on\"\n9 A \"Key3\" \"value=3\"\n10 A \"Key4\" \"value4\"\n" +
		"11 A \"Key5\" \"\"\n13 B/C \"\" \"\"\n14 B/C \"Key1\" \"x\"\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	for text, want := range map[string]string{
		"Key: x\n":                            "m.conf:1: the entry Key stands before the first section",
		"[A]\n  x\n":                          "m.conf:2: the line is indented",
		"[A]\nK: x\n[B]\n y\n":                "m.conf:4: the line is indented",
		"[A]\nKey\n":                          "m.conf:2: this is no entry",
		"[A]\n: x\n":                          "m.conf:2: this is no entry",
		"[A\n":                                "m.conf:1: a section is written [Name]",
		"[]\n":                                "m.conf:1: a section is written [Name]",
		"[A B]\n":                             "m.conf:1: a section is written [Name]",
		"[A] b\n":                             "m.conf:1: nothing may stand behind",
		"[A]\n[B]\n[A]\n":                     "m.conf:3: section [A] is there twice, first in line 1",
		"[A]\nK: \u00fcber\n":                 "m.conf:2: only printable ASCII",
		"[A]\nK: \x00\n":                      "m.conf:2: only printable ASCII",
		strings.Repeat("#", config.MaxFile+1): "m.conf is larger than",
	} {
		if _, err := readConf("m.conf", []byte(text)); err == nil || !strings.HasPrefix(errs.Public(err), want) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// TestConfOrTOML: the two forms are told apart by what is in them.
func TestConfOrTOML(t *testing.T) {
	for text, want := range map[string]bool{
		least: true, "# x\n [Server]\n[Outgoing/MMTP]\n": true, "[Host]\n": true,
		"nickname = \"x\"\n[server]\nbase_dir = \"/x\"\n": false, "": false, "[log]\nfile = \"[Server]\"\n": false, "nickname = 1\n": false,
		"mode = [\n\"mix\",\n]\n": false,
	} {
		if IsConf([]byte(text)) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

// TestConfFull: every option of mixminiond is in the sample file and in its report, each has a
// verdict, and our options have the values that it gives them.
func TestConfFull(t *testing.T) {
	text, err := os.ReadFile("testdata/conf/full.conf")
	if err != nil {
		t.Fatal(err)
	}
	i := conf(t, string(text))
	seen := map[string]bool{}
	for _, o := range i.Options {
		seen[o.Section+"/"+o.Key] = true
		if o.Verdict == Replaced && o.Note == "" || o.Verdict == Mapped && (o.To == "" || o.Value == "") && o.Note == "" || o.Verdict == Refused {
			t.Errorf("%s", o)
		}
	}
	for s, all := range confOptions {
		for k := range all {
			switch s + "/" + k {
			case "Server/Homedir", "Server/PublicKeySloppiness", "Server/Module", "Delivery/MBOX/SMTPServer", "Delivery/SMTP/SendmailCommand":
				continue // stand for others, or against them
			}
			if !seen[s+"/"+k] {
				t.Errorf("[%s] %s has no verdict", s, k)
			}
		}
	}
	if err := i.Config.Check(); err != nil {
		t.Error(err)
	}
	values := config.Values(&i.Config)
	for key, want := range map[string]string{
		"host.file_paranoia": "true", "host.trusted_users": "root,0", "server.base_dir": "/srv/mixminion", "server.key_dir": "keys", "server.work_dir": "work",
		"server.queue_dir": "/srv/spool/mixminion", "server.pid_file": "/run/mixminion.pid", "log.file": "/var/log/mixminion/log", "server.stats_file": "/var/log/mixminion/stats",
		"log.level": "warn", "log.echo": "false", "server.daemon": "true", "server.stats": "true", "server.stats_interval": "1d",
		"keys.encrypt": "false", "keys.encrypt_all": "false", "keys.lifetime": "21d", "keys.overlap": "36h", "mode": "exit", "nickname": "Aurora-Borealis",
		"contact_email": "keeper@example.org", "contact_fingerprint": "0123 4567 89AB CDEF", "comments": "A remailer in the north, kept by people who like long nights.",
		"mixing.algorithm": "Poisson", "mixing.pool_min_size": "5",
		"server.timeout": "6m", "server.max_bandwidth": "32K", "server.max_bandwidth_spike": "1536K", "directory.publish": "true",
		"incoming.addresses": "mix.example.org:48100", "incoming.listen": "10.0.0.7:48099,[2001:db8::7]:48099",
		"incoming.allow": "0.0.0.0/0", "incoming.deny": "192.0.2.0/24,203.0.113.9/32",
		"outgoing.retry": "1 hour, 2 hours, every 4 hours for 1 week", "outgoing.allow": "0.0.0.0/0", "outgoing.deny": "192.0.2.0/24",
		"mbox.enabled": "true", "mbox.address_file": "addresses", "mbox.return_address": "nobody@example.org", "mbox.remove_contact": "abuse@example.org",
		"mbox.sendmail_command": "sendmail -i -t", "mbox.retry": "every 7 hours for 6 days", "mbox.advertise": "false", "mbox.maximum_size": "98K",
		"mbox.allow_from_address": "false", "mbox.subject_line": "Anonymous mail", "mbox.from_tag": "[Nobody]", "mbox.x_abuse": "abuse@example.org",
		"mbox.comments": "This mail is from nobody.", "mbox.message": "You get this because you asked for it.",
		"smtp.enabled": "false", "fragmented.enabled": "true", "fragmented.maximum_size": "200K", "fragmented.maximum_interval": "2d",
	} {
		if values[key] != want {
			t.Errorf("%s = %q, want %q", key, values[key], want)
		}
	}
	// A mix has a pool; an end has none, and the report says so.
	mix := conf(t, strings.NewReplacer("[Delivery/MBOX]\nEnabled: yes", "[Delivery/MBOX]\nEnabled: no", "[Delivery/Fragmented]\nEnabled: yes", "[Delivery/Fragmented]\nEnabled: no").Replace(string(text)))
	if err := mix.Config.Check(); err != nil || len(mix.Refused()) > 0 {
		t.Error(err, mix.Refused())
	}
	if got, want := mix.Config.pool(), (pool.Config{Algorithm: pool.DynamicPool, Interval: 45 * time.Minute, Rate: 5500, MinSize: 8}); got != want {
		t.Errorf("%+v", got)
	}
	if !slices.ContainsFunc(i.Options, func(o ImportedOption) bool { return o.Key == "MixPoolRate" && o.Verdict == Replaced && o.To == "" }) || i.Given["mixing.algorithm"] {
		t.Error("an end keeps a pool")
	}
	notes := map[string]string{"Incoming/MMTP/Deny": "the ports 1-65535 are not looked at", "Outgoing/MMTP/Allow": "the ports 48099 are not looked at"}
	for _, o := range i.Options {
		at := o.Section + "/" + o.Key
		if strings.HasPrefix(o.Note, notes[at]) && notes[at] != "" {
			delete(notes, at)
		}
	}
	if len(notes) > 0 {
		t.Errorf("the report does not say: %v", notes)
	}
}

// TestConfFaults: what mixminiond would not start with is an error that names the line.
func TestConfFaults(t *testing.T) {
	for text, want := range map[string]string{
		"[Host]\n":                                              "m.conf: there is no section [Server]",
		"[Server]\nNickname: x\n":                               "m.conf: section [Server] needs the entry Contact-Email",
		least + "[Incoming/MMTP]\nPort: 1\n":                    "m.conf: section [Incoming/MMTP] needs the entry Enabled",
		least + "[Delivery/Fragmented]\nEnabled: no\n":          "m.conf: section [Delivery/Fragmented] needs the entry MaximumSize",
		least + "[Nonsense]\n":                                  "m.conf:5: there is no section [Nonsense]; there are [Delivery/Fragmented]",
		least + "nickname: y\n":                                 "m.conf:5: [Server] has no option nickname; there is Nickname in [Server]",
		least + "Publish: yes\n":                                "m.conf:5: [Server] has no option Publish; there is Publish in [DirectoryServers]",
		least + "Nickname: y\n":                                 "m.conf:5: Nickname is there twice, first in line 2",
		least + "LogLevel: LOUD\n":                              "m.conf:5: LogLevel: \"LOUD\" is no level",
		least + "Daemon: perhaps\n":                             "m.conf:5: Daemon: \"perhaps\" is neither yes nor no",
		least + "MixInterval: soon\n":                           "m.conf:5: MixInterval: \"soon\" is not a length of time",
		least + "MixPoolRate: 101%\n":                           "m.conf:5: MixPoolRate: \"101%\" is not a part",
		least + "MixAlgorithm: Magic\n":                         "m.conf:5: MixAlgorithm: \"Magic\" is no mix algorithm",
		least + "MaxBandwidth: much\n":                          "m.conf:5: MaxBandwidth: \"much\" is not a size",
		least + "KeyDir: \"x\n":                                 "m.conf:5: KeyDir: \"\\\"x\" has one quote only",
		least + "KeyDir:\n":                                     "m.conf:5: KeyDir: a file name is needed",
		least + "KeyDir: ~other/x\n":                            "m.conf:5: KeyDir: write the home directory",
		least + "IdentityKeyBits: many\n":                       "m.conf:5: IdentityKeyBits: \"many\" is not a whole number",
		"[Server]\nMode: both\n":                                "m.conf:2: Mode: \"both\" is neither relay nor local",
		"[Server]\nNickname: 1x\n":                              "m.conf:2: Nickname: \"1x\" is no nickname",
		"[Server]\nNickname: " + strings.Repeat("a", 20) + "\n": "m.conf:2: Nickname: the nickname has 20 characters",
		"[Server]\nContact-Email: nobody\n":                     "m.conf:2: Contact-Email: \"nobody\" is no mail address",
		"[Incoming/MMTP]\nEnabled: no\n":                        "m.conf:2: Enabled: it cannot be turned off",
		"[Incoming/MMTP]\nIP: 1.2.3\n":                          "m.conf:2: IP: \"1.2.3\" is no IPv4 address",
		"[Incoming/MMTP]\nListenIP6: 1.2.3.4\n":                 "m.conf:2: ListenIP6: \"1.2.3.4\" is no IPv6 address",
		"[Incoming/MMTP]\nHostname: a b\n":                      "m.conf:2: Hostname: \"a b\" is no host name",
		"[Incoming/MMTP]\nPort: 0\n":                            "m.conf:2: Port: \"0\" is no port",
		"[Incoming/MMTP]\nAllow: *\nAllow: */255.0.0.0\n":       "m.conf:3: Allow: \"*/255.0.0.0\" is no rule",
		"[Incoming/MMTP]\nDeny: 1.2.3.4/255.0.255.0\n":          "m.conf:2: Deny: the mask 255.0.255.0 is no whole network",
		"[Incoming/MMTP]\nDeny: 1.2.3.4/255.0.0.999\n":          "m.conf:2: Deny: \"255.0.0.999\" is no mask",
		"[Incoming/MMTP]\nDeny: 1.2.3.400\n":                    "m.conf:2: Deny: \"1.2.3.400\" is no IPv4 address",
		"[Incoming/MMTP]\nDeny: 1.2.3.4 9-8\n":                  "m.conf:2: Deny: \"9-8\" is no port",
		"[Outgoing/MMTP]\nRetry: often\n":                       "m.conf:2: Retry: \"often\" is not a list of times",
		"[Delivery/MBOX]\nMaximumSize: 10K\n":                   "m.conf:2: MaximumSize: \"10K\" is too small",
		"[Delivery/MBOX]\nMaximumSize: 9999999999 MB\n":         "m.conf:2: MaximumSize: \"9999999999 MB\" is too large",
	} {
		if _, err := ImportConf("m.conf", []byte(text)); errs.KindOf(err) != errs.Invalid || !strings.HasPrefix(errs.Public(err), want) {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
}

// TestConfRefused: what is understood and cannot be done is refused with the reason, and its
// option stays as it was.
func TestConfRefused(t *testing.T) {
	for text, want := range map[string]string{
		"Module: mixminion.Custom\n":                                  "[Server] Module: refused: modules in Python cannot be loaded",
		"PublicKeyLifetime: 3 months\n":                               "[Server] PublicKeyLifetime: refused to keys.lifetime: 90d is outside its limits: 1s to 30d",
		"[Delivery/SMTP]\nEnabled: yes\n":                             "[Delivery/SMTP] Enabled: refused: an exit to all addresses is at a relay",
		"[Delivery/SMTP-Via-Mixmaster]\nEnabled: yes\n":               "[Delivery/SMTP-Via-Mixmaster] Enabled: refused: there is no way through Mixmaster; Delivery/MBOX can hand mail to any program with SendmailCommand",
		"[Delivery/Fragmented]\nEnabled: yes\nMaximumSize: 100K\n":    "[Server] all options together: refused: fragmented.enabled needs mbox.enabled",
		"[Incoming/MMTP]\nEnabled: yes\nPort: 80\nListenPort: 8080\n": "[Incoming/MMTP] Port: refused to incoming.addresses: the node listens on port 8080 and is reached on port 80",
	} {
		i := conf(t, least+text)
		r := i.Refused()
		if len(r) != 1 || !strings.HasPrefix(r[0].String(), want) {
			t.Errorf("%q: %v", text, r)
		}
	}
}

// TestConfAddresses: one listener and one address out of six options.
func TestConfAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                         ":48099 ",
		"Port: 99\n":                               ":99 ",
		"ListenPort: 99\nHostname: a.example\n":    ":99 a.example:48099",
		"IP: 0.0.0.0\nPort: 48100\n":               ":48100 ",
		"IP: 192.0.2.1\n":                          ":48099 192.0.2.1:48099",
		"ListenIP: 127.0.0.1\nListenIP6: ::1\n":    "127.0.0.1:48099,[::1]:48099 ",
		"ListenIP6: ::1\nPort: 5\n":                "[::1]:5 ",
		"ListenIP: 0.0.0.0\nHostname: 192.0.2.1\n": ":48099 192.0.2.1:48099",
	} {
		v := config.Values(&conf(t, least+"[Incoming/MMTP]\nEnabled: yes\n"+text).Config)
		if got := v["incoming.listen"] + " " + v["incoming.addresses"]; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestConfDefaults: where our default is another, the report says both.
func TestConfDefaults(t *testing.T) {
	i := conf(t, least+"Timeout: 5 min\n")
	var got []string
	for _, o := range i.Options {
		if o.Verdict == Default {
			got = append(got, o.Key+" "+o.Value)
			if !strings.HasPrefix(o.Note, "there it is ") {
				t.Errorf("%s", o)
			}
		}
	}
	if want := "BaseDir /var/lib/postern-mix, MixAlgorithm Poisson, PublicKeyLifetime 3d"; strings.Join(got, ", ") != want {
		t.Errorf("got %s", strings.Join(got, ", "))
	}
}

// FuzzConf: no file makes the reader fail otherwise than with an error that names the file, and
// what it takes keeps within the limits of our options.
func FuzzConf(f *testing.F) {
	full, err := os.ReadFile("testdata/conf/full.conf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte(least))
	f.Add([]byte("[Server]\nNickname x\n y\n[Incoming/MMTP]\nAllow: 1.2.3.4/255.255.255.0 1-2\n"))
	f.Add([]byte("[A]\r[B]\r\n\tx"))
	f.Fuzz(func(t *testing.T, text []byte) {
		IsConf(text)
		i, err := ImportConf("m.conf", text)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.TooLarge || !strings.HasPrefix(errs.Public(err), "m.conf") {
				t.Fatalf("%v", err)
			}
			return
		}
		entries, err := readConf("m.conf", text)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range entries {
			if e.key != "" {
				n++
			}
		}
		for _, o := range i.Options {
			if o.Line > 0 {
				n--
			}
		}
		if n != 0 {
			t.Fatalf("%d entries have no verdict", n)
		}
		var words []string
		for key, v := range config.Values(&i.Config) {
			if v != "" {
				words = append(words, key+"="+v)
			}
		}
		if err := config.Apply(&Config{}, words); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSampleConf: the sample in docs works as it is, and with all that is proposed in it.
func TestSampleConf(t *testing.T) {
	text, err := os.ReadFile("../../docs/mixminiond.conf")
	if err != nil {
		t.Fatal(err)
	}
	check := func(text string) *Import {
		t.Helper()
		i := conf(t, text)
		if r := i.Refused(); len(r) > 0 {
			t.Errorf("refused: %v", r)
		}
		if err := i.Config.Check(); err != nil {
			t.Errorf("%v", err)
		}
		return i
	}
	if i := check(string(text)); i.Config.Nickname != "aurora" || i.Config.Mixing.Algorithm != "Poisson" || len(i.Config.Insecurities()) > 0 {
		t.Errorf("%+v", i.Config)
	}
	proposal := regexp.MustCompile(`^# (\[.*\]|[A-Z][A-Za-z-]*: .*)\n$`)
	var taken strings.Builder
	for line := range strings.Lines(string(text)) {
		// Of the pool only one can be taken; a rule for addresses is an example.
		if m := proposal.FindStringSubmatch(line); m != nil && !strings.HasPrefix(m[1], "Mix") && !strings.HasPrefix(m[1], "Deny") {
			line = m[1] + "\n"
		}
		taken.WriteString(line)
	}
	if i := check(taken.String()); !i.Config.MBOX.Enabled || !i.Config.Fragmented.Enabled || !i.Config.Directory.Publish || i.Config.Server.MaxBandwidth != 2<<20 {
		t.Errorf("%+v in\n%s", i.Config, taken.String())
	}
}
