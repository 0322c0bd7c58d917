package imap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// threadOf threads messages, each given as "id refs subject" separated by "|"; sent dates
// ascend unless a fourth part gives the second.
func threadOf(t testing.TB, algorithm string, messages ...string) string {
	t.Helper()
	th := &threader{ctx: t.Context(), subjects: map[string]int32{"": 0}}
	if algorithm == "REFERENCES" {
		th.ids = map[string]int32{}
	}
	for i, m := range messages {
		f := strings.Split(m, "|")
		n := threadNode{num: uint32(i + 1), parent: noNode, date: int64(i)}
		if len(f) > 3 {
			n.date, _ = strconv.ParseInt(f[3], 10, 64)
		}
		base, reply := baseSubject(f[2])
		n.reply = reply
		var err error
		if n.subject, err = th.subject(fold(base)); err != nil {
			t.Fatal(err)
		}
		if th.ids == nil {
			th.nodes = append(th.nodes, n)
			continue
		}
		raw := ""
		if f[0] != "" {
			raw += "Message-ID: " + f[0] + "\r\n"
		}
		if rest, ok := strings.CutPrefix(f[1], "in-reply-to "); ok {
			raw += "In-Reply-To: " + rest + "\r\n"
		} else if f[1] != "" {
			raw += "References: " + f[1] + "\r\n"
		}
		h, _, _ := mail.ParseHeader([]byte(raw + "\r\n"))
		if err := th.link(n, h); err != nil {
			t.Fatal(err)
		}
	}
	if th.ids == nil {
		th.orderedSubject()
	} else {
		th.references()
	}
	var out bytes.Buffer
	c := &memConn{}
	w := &writer{dst: &out, conn: c, timeout: 1 << 40}
	th.write(w)
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestThreadReferences: each rule of RFC 5256 §3, REFERENCES.
func TestThreadReferences(t *testing.T) {
	for _, c := range []struct {
		rule, want string
		in         []string
	}{
		{"nothing", "", nil},
		{"a reply is a child", "(1 2)", []string{"<a>||x", "<b>|<a>|Re: x"}},
		{"In-Reply-To stands in for References, its first id only", "(1 3)(2)", []string{"<a>||x", "<b>||y", "<c>|in-reply-to <a> of <b>|z"}},
		{"References without an id: In-Reply-To is not looked for in the same field", "(1)(2)", []string{"<a>||x", "<b>|nothing|y"}},
		{"a chain of references", "(1 2 3)", []string{"<a>||x", "<b>|<a>|y", "<c>|<a> <b>|z"}},
		{"siblings", "(1 (2)(3))", []string{"<a>||x", "<b>|<a>|y", "<c>|<a>|z"}},
		{"an example of RFC 5256 §4", "(2)(3 6 (4 23)(44 7 96))", nil},
		{"a missing parent with two children stays as a group", "((1)(2))", []string{"<b>|<a>|y", "<c>|<a>|z"}},
		{"a missing parent with one child goes", "(1)", []string{"<b>|<a>|y"}},
		{"missing in the middle: children move up", "(1 (2)(3))", []string{"<a>||x", "<c>|<a> <b>|y", "<d>|<a> <b>|z"}},
		{"the child came before the parent", "(2 1)", []string{"<b>|<a>|y", "<a>||x"}},
		{"quoting makes no difference", "(1 2)", []string{`<"01KF8JCEOCBS0045PS"@xxx.yyy.com>||x`, `<b>|<01KF8JCEOCBS0045PS@xxx.yyy.com>|y`}},
		{"ids differ by case", "(1)(2)", []string{"<a>||x", "<b>|<A>|y"}},
		{"the second of one id has none", "(1 3)(2)", []string{"<a>||x", "<a>||y", "<b>|<a>|z"}},
		{"no loop of two", "(2 1)", []string{"<a>|<b>|x", "<b>|<a>|y"}},
		{"no loop with itself", "(1)", []string{"<a>|<a>|x"}},
		{"a link that is there stays", "(1 2 3 4)", []string{"<a>||x", "<b>|<a>|y", "<c>|<b>|z", "<d>|<a> <c>|w"}},
		{"the message's own reference counts more than what others said", "(1 2 4 3)", []string{"<a>||x", "<b>|<a>|y", "<d>|<a> <c>|z", "<c>|<b>|w"}},
		{"one subject: the reply under the other", "(1 2)", []string{"<a>||x", "<b>||Re: x"}},
		{"one subject: the reply came first", "(2 1)", []string{"<a>||Re: x", "<b>||x"}},
		{"one subject, no reply: both under a dummy", "((1)(2))", []string{"<a>||x", "<b>||X"}},
		{"one subject three times", "((1)(2)(3))", []string{"<a>||x", "<b>||x", "<c>||x"}},
		{"two replies without the first", "((1)(2))", []string{"<a>||Re: x", "<b>||Fwd: x"}},
		{"a group takes the message of its subject in", "((1)(2)(3))", []string{"<b>|<a>|x", "<c>|<a>|y", "<d>||x"}},
		{"two groups of one subject are one", "((1)(2)(3)(4))", []string{"<b>|<a>|x", "<c>|<a>|y", "<e>|<d>|Re: x", "<f>|<d>|z"}},
		{"empty subjects are not one subject", "(1)(2)(3)", []string{"<a>||", "<b>||", "<c>||Re:"}},
		{"siblings by sent date", "(1 (3)(2))", []string{"<a>||x|0", "<b>|<a>|y|9", "<c>|<a>|z|5"}},
		{"threads by the date of their first message", "(2)(1 3)", []string{"<a>||x|5", "<b>||y|1", "<c>|<a>|z|0"}},
		{"a group by its first child", "(3)((2)(1))", []string{"<b>|<a>|y|9", "<c>|<a>|z|5", "<d>||w|2"}},
	} {
		if c.in == nil && c.want != "" {
			c.in = make([]string, 96)
			for i := range c.in {
				c.in[i] = fmt.Sprintf("<m%d>||s%d", i+1, i+1)
			}
			for child, parent := range map[int]int{6: 3, 4: 6, 23: 4, 44: 6, 7: 44, 96: 7} {
				c.in[child-1] = fmt.Sprintf("<m%d>|<m%d>|s%d", child, parent, child)
			}
			got := threadOf(t, "REFERENCES", c.in...)
			for _, part := range []string{"(2)", "(3 6 (4 23)(44 7 96))"} {
				if !strings.Contains(got, part) {
					t.Errorf("%s: %s", c.rule, got)
				}
			}
			continue
		}
		if got := threadOf(t, "REFERENCES", c.in...); got != c.want {
			t.Errorf("%s: got %s, want %s", c.rule, got, c.want)
		}
	}
}

// TestThreadOrderedSubject: RFC 5256 §3, ORDEREDSUBJECT.
func TestThreadOrderedSubject(t *testing.T) {
	for _, c := range []struct {
		want string
		in   []string
	}{
		{"", nil},
		{"(1)(2)", []string{"||x", "||y"}},
		{"(1 2)", []string{"||x", "||Re: X"}},
		{"(1 (2)(4))(3)", []string{"||x", "||x", "||y", "||Fwd: x"}},
		{"(3 1)(2)", []string{"||x|7", "||y|5", "||x|1"}},
		{"(1 2)", []string{"||", "||Re:"}},
	} {
		if got := threadOf(t, "ORDEREDSUBJECT", c.in...); got != c.want {
			t.Errorf("%q: got %s, want %s", c.in, got, c.want)
		}
	}
}

// TestReplySubject: what makes a subject that of a reply or forward (RFC 5256 §3).
func TestReplySubject(t *testing.T) {
	for in, want := range map[string]bool{"x": false, "Re: x": true, "[a] x": false, "[a] fw[b]: x": true, "x (fwd)": true,
		"[fwd: x]": true, "Reply: x": false, "": false, "re :": true, "x (fwd) y": false} {
		if _, got := baseSubject(in); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

// TestNextMsgID reads identifiers as programs write them.
func TestNextMsgID(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, "<>": nil, "<": nil, "<a@b": nil, "a@b": nil,
		"<a@b>": {"a@b"}, "<a@b><c@d>": {"a@b", "c@d"}, "<a@b> (text) <c@d>": {"a@b", "c@d"},
		"<a@b\t >": {"a@b"}, `<"a b"@c>`: {"a b@c"}, `<"a\"b"@c>`: {`a"b@c`}, `<"a>b"@c>`: {"a>b@c"},
		"<<a@b>": {"a@b"}, "<x <a@b>": {"a@b"}, `<"x <a@b>`: {"a@b"}, "of <a>, I said": {"a"},
		"<" + strings.Repeat("x", maxMsgID+1) + "> <a@b>": {"a@b"},
	} {
		var got []string
		for id, rest, ok := nextMsgID(in); ok; id, rest, ok = nextMsgID(rest) {
			got = append(got, id)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestThreadLimits: memory and steps are bounded, and the client may go.
func TestThreadLimits(t *testing.T) {
	th := &threader{ctx: t.Context(), subjects: map[string]int32{}, ids: map[string]int32{}, memory: maxThreadMemory - 10}
	h, _, _ := mail.ParseHeader([]byte("Message-ID: <a>\r\n\r\n"))
	if st := answer(th.link(threadNode{num: 1, parent: noNode}, h), false); st.code != "LIMIT" {
		t.Errorf("memory: %+v", st)
	}
	deep := func(ctx context.Context, steps int) error {
		th := &threader{ctx: ctx, steps: steps}
		for i := range int32(1 << 17) {
			th.nodes = append(th.nodes, threadNode{num: uint32(i + 1), parent: i - 1, children: true})
		}
		th.nodes = append(th.nodes, threadNode{parent: noNode, children: true})
		return th.setParent(1<<17, 1<<17-1)
	}
	if err := deep(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if st := answer(deep(t.Context(), maxThreadSteps), false); st.code != "LIMIT" {
		t.Errorf("steps: %+v", st)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := deep(ctx, 0); errs.KindOf(err) != errs.Canceled || !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// FuzzThread: whatever headers say, every message is in the answer exactly once, and the
// answer is what RFC 5256 §5 allows.
func FuzzThread(f *testing.F) {
	f.Add([]byte("a||x\nb|a|Re: x\nc|a b|x\n"))
	f.Add([]byte("a|b|x\nb|a|x\na|c|y\n|a|\nd|d d|x\n"))
	f.Add([]byte("b|a|x\nc|a|y\nd||x\nf|e|x\ng|e|z\na|d|x\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var messages []string
		for _, l := range strings.Split(string(in), "\n") {
			part := strings.Split(l+"||", "|")
			id := ""
			if part[0] != "" {
				id = "<" + part[0] + ">"
			}
			refs := "<" + strings.Join(strings.Fields(part[1]), "> <") + ">"
			messages = append(messages, id+"|"+refs+"|"+strings.Map(func(r rune) rune {
				if r == '\r' {
					return ' '
				}
				return r
			}, part[2]))
		}
		for _, algorithm := range []string{"REFERENCES", "ORDEREDSUBJECT"} {
			got := threadOf(t, algorithm, messages...)
			seen := make([]bool, len(messages)+1)
			rest := got
			for rest != "" {
				rest = readThread(t, rest, seen)
			}
			for i, ok := range seen[1:] {
				if !ok {
					t.Fatalf("%s: message %d of %q is missing in %s", algorithm, i+1, messages, got)
				}
			}
		}
	})
}

// readThread reads one thread-list of RFC 5256 §5 and gives what follows it.
func readThread(t *testing.T, s string, seen []bool) string {
	t.Helper()
	all := s
	if !strings.HasPrefix(s, "(") {
		t.Fatalf("no list: %s", all)
	}
	s = s[1:]
	members := 0
	for {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		if digits == 0 {
			break
		}
		n, err := strconv.Atoi(s[:digits])
		if err != nil || n == 0 || n >= len(seen) || seen[n] {
			t.Fatalf("number %q twice or wrong in %s", s[:digits], all)
		}
		seen[n] = true
		members++
		s = s[digits:]
		if !strings.HasPrefix(s, " ") {
			break
		}
		s = s[1:]
	}
	lists := 0
	for strings.HasPrefix(s, "(") {
		s = readThread(t, s, seen)
		lists++
	}
	if lists == 1 || members+lists == 0 || !strings.HasPrefix(s, ")") {
		t.Fatalf("%d members, %d lists: %s", members, lists, all)
	}
	return s[1:]
}

// BenchmarkThread threads 100,000 messages without the store: answers in threads of ten,
// answers in one chain, and headers that make looking for loops expensive.
func BenchmarkThread(b *testing.B) {
	const n = 100_000
	kinds := map[string]func(i int) string{
		"tens": func(i int) string {
			refs := ""
			for k := i / 10 * 10; k < i; k++ {
				refs += fmt.Sprintf("<%d@x> ", k)
			}
			return fmt.Sprintf("<%d@x>|%s|Re: subject %d", i, refs, i/10)
		},
		"chain":    func(i int) string { return fmt.Sprintf("<%d@x>|<%d@x>|Re: one", i, i-1) },
		"backward": func(i int) string { return fmt.Sprintf("<%d@x>|<%d@x>|Re: one", n-i, n-i-1) },
		"one":      func(int) string { return "||same" },
	}
	for name, kind := range kinds {
		b.Run(name, func(b *testing.B) {
			messages := make([]string, n)
			for i := range messages {
				messages[i] = kind(i)
			}
			for b.Loop() {
				threadOf(b, "REFERENCES", messages...)
			}
		})
	}
}
