package stats

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
)

// preface begins a new file of statistics. Lines that begin with # are comments.
const preface = `# Statistics of a Postern mix, by period.
#
# A period is here when it has ended and was observed for most of its time. To see the one
# that has not ended, type: postern mix stats
`

const (
	cacheTitle = "postern-stats-cache 1"
	cacheTime  = "2006-01-02T15:04:05Z"
	shownTime  = "2006-01-02 15:04:05"
	unknown    = "{Unknown}" // shown for an event without argument among others with one
	minColumn  = 10          // width of the column of arguments
)

func validEvent(s string) bool {
	return s != "" && len(s) <= 32 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
}

// validArgument takes printable ASCII without spaces at its ends; the empty one too.
func validArgument(s string) bool {
	return len(s) <= MaxArgument && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// events gives the names in the order in which they are written: mixminiond's all, the others
// as far as they occurred.
func events(counts map[string]map[string]uint64) []string {
	list := order()
	known := len(list)
	for e := range counts {
		if !slices.Contains(list[:known], e) {
			list = append(list, e)
		}
	}
	slices.Sort(list[known:])
	return list
}

// appendPeriod writes a period in mixminiond's layout, but with times in UTC.
func appendPeriod(b []byte, from, to time.Time, counts map[string]map[string]uint64) []byte {
	b = fmt.Appendf(b, "========== From %s to %s:\n", from.UTC().Format(shownTime), to.UTC().Format(shownTime))
	for _, e := range events(counts) {
		args := counts[e]
		if n, bare := args[""]; len(args) == 0 || bare && len(args) == 1 {
			b = fmt.Appendf(b, "  %s: %d\n", e, n)
			continue
		}
		b = fmt.Appendf(b, "  %s:\n", e)
		names := slices.Sorted(maps.Keys(args))
		width := minColumn
		for _, a := range names {
			width = max(width, len(a))
		}
		var total uint64
		for _, a := range names {
			total += args[a]
			if a == "" {
				b = fmt.Appendf(b, "    %*s: %d\n", width, unknown, args[a])
			} else {
				b = fmt.Appendf(b, "    %*s: %d\n", width, a, args[a])
			}
		}
		b = fmt.Appendf(b, "    %*s: %d\n", width, "Total", total)
	}
	return b
}

// appendCache writes the cache: a title, then lines of a keyword and values. "end" is the last
// one.
func appendCache(b []byte, p *period, counts map[string]map[string]uint64) []byte {
	b = fmt.Appendf(b, "%s\nbegan %s\nobserved %d\n", cacheTitle, p.began.Format(cacheTime), p.observed.Milliseconds())
	if p.ending != nil {
		b = fmt.Appendf(b, "ending %s %d\n", p.ending.at.Format(cacheTime), p.ending.offset)
	}
	for _, e := range slices.Sorted(maps.Keys(counts)) {
		for _, a := range slices.Sorted(maps.Keys(counts[e])) {
			b = fmt.Appendf(b, "count %s %d %s\n", e, counts[e][a], a)
		}
	}
	return append(b, "end\n"...)
}

// cacheReader reads a cache line by line; the first that is not what was expected makes it bad.
type cacheReader struct {
	rest []byte
	bad  bool
}

// next gives the words behind a keyword; the last one is all that is left of the line.
func (r *cacheReader) next(key string, words int) []string {
	line, rest, ok := bytes.Cut(r.rest, []byte("\n"))
	v, found := strings.CutPrefix(string(line), key)
	f := strings.SplitN(v, " ", words+1)
	if !ok || !found || len(f) != words+1 || f[0] != "" {
		r.bad = true
		return make([]string, words)
	}
	r.rest = rest
	return f[1:]
}

func (r *cacheReader) time(s string) time.Time {
	t, err := time.Parse(cacheTime, s)
	if err != nil || t.Format(cacheTime) != s {
		r.bad = true
	}
	return t
}

func (r *cacheReader) number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != s {
		r.bad = true
	}
	return n
}

// maxObserved bounds what a cache may say was observed; more is nonsense.
const maxObserved = 100 * 365 * 24 * time.Hour

// parseCache reads what appendCache wrote. errs.Corrupt for anything else.
func parseCache(b []byte) (p period, counts map[string]map[string]uint64, err error) {
	r := &cacheReader{rest: b}
	title, version, _ := strings.Cut(cacheTitle, " ")
	if r.next(title, 1)[0] != version {
		r.bad = true
	}
	p.began = r.time(r.next("began", 1)[0])
	ms := r.number(r.next("observed", 1)[0])
	if ms > uint64(maxObserved/time.Millisecond) {
		r.bad = true
		ms = 0
	}
	p.observed = time.Duration(ms) * time.Millisecond
	if bytes.HasPrefix(r.rest, []byte("ending ")) {
		v := r.next("ending", 2)
		p.ending = &ending{at: r.time(v[0]), offset: int64(r.number(v[1]))}
	}
	counts = make(map[string]map[string]uint64)
	for !r.bad && bytes.HasPrefix(r.rest, []byte("count ")) {
		v := r.next("count", 3)
		e, n, a := v[0], r.number(v[1]), v[2]
		if counts[e] == nil {
			counts[e] = make(map[string]uint64)
		}
		if _, twice := counts[e][a]; twice || n == 0 || !validEvent(e) || !validArgument(a) || len(counts) > MaxEvents || len(counts[e]) > MaxArguments {
			r.bad = true
		}
		counts[e][a] = n
	}
	if r.bad || string(r.rest) != "end\n" {
		return period{}, nil, errs.E("mixnet/stats.parseCache", errs.Corrupt, "", nil)
	}
	return p, counts, nil
}
