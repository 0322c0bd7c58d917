package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Verdict says what became of an option of another program's configuration.
type Verdict string

// Verdicts.
const (
	Mapped   Verdict = "mapped"   // one of our options has its meaning and its value, or it is so anyway
	Replaced Verdict = "replaced" // it has no effect here; Note says what does instead
	Refused  Verdict = "refused"  // the file cannot be used with it
	Default  Verdict = "default"  // it is not in the file, and our default is another
)

// ImportedOption is what became of one entry.
type ImportedOption struct {
	Line    int     `json:"line,omitempty"`
	Section string  `json:"section"`
	Key     string  `json:"key"`
	Verdict Verdict `json:"verdict"`
	To      string  `json:"to,omitempty"`    // our option
	Value   string  `json:"value,omitempty"` // and its value
	Note    string  `json:"note,omitempty"`
}

func (o ImportedOption) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] %s: %s", o.Section, o.Key, o.Verdict)
	if o.To != "" {
		fmt.Fprintf(&b, " to %s", o.To)
	}
	if o.Value != "" {
		fmt.Fprintf(&b, " = %s", o.Value)
	}
	if o.Note != "" {
		fmt.Fprintf(&b, ": %s", o.Note)
	}
	return b.String()
}

// RefusedOf gives the options for which a file cannot be used.
func RefusedOf(all []ImportedOption) []ImportedOption {
	return slices.DeleteFunc(slices.Clone(all), func(o ImportedOption) bool { return o.Verdict != Refused })
}

// Entry is a key of a TOML file that gets a value.
type Entry struct {
	Line  int
	Table []string // the line above it: ["Account"], ["NonvotingAuthority", "label"]; of the N-th [[Account]] as well
	N     int      // of tables that may be repeated: the how manyth, from 1
	Key   string
	Value string // as TOML, on one line
}

// Entries lists the keys of a (valid) TOML text in their order.
func Entries(text []byte) []Entry {
	var out []Entry
	from := -1 // where the last key begins
	end := func(at int) {
		if from >= 0 {
			out[len(out)-1].Value = oneLine(text[from:at])
		}
		from = -1
	}
	walk(text, func(e Entry, at int) {
		end(1 + bytes.LastIndexByte(text[:at], '\n'))
		if e.Key != "" {
			from = at
			out = append(out, e)
		}
	})
	end(len(text))
	return out
}

// walk calls fn with each table and each key of a (valid) TOML text, and with where it stands: as entries
// without their values, and those of tables without keys.
func walk(text []byte, fn func(e Entry, at int)) {
	var p unstable.Parser
	p.Reset(text)
	var table []string
	n := map[string]int{}
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.ArrayTable && e.Kind != unstable.KeyValue {
			continue
		}
		var key []string
		at := -1
		for it := e.Key(); it.Next(); {
			key = append(key, string(it.Node().Data))
			if at < 0 {
				at = int(it.Node().Raw.Offset)
			}
		}
		name := ""
		switch e.Kind {
		case unstable.KeyValue:
			name = strings.Join(key, ".")
		case unstable.ArrayTable:
			n[strings.Join(key, ".")]++
			fallthrough
		default:
			table = key
		}
		fn(Entry{Line: 1 + bytes.Count(text[:at], []byte("\n")), Table: table, N: n[strings.Join(table, ".")], Key: name}, at)
	}
}

// oneLine gives the value of a text that sets one key.
func oneLine(text []byte) string {
	var v any
	if err := toml.Unmarshal(text, &v); err != nil {
		return ""
	}
	for m, ok := v.(map[string]any); ok && len(m) == 1; m, ok = v.(map[string]any) {
		for _, v = range m {
		}
	}
	b, err := toml.Marshal(map[string]any{"v": v})
	if err != nil {
		return ""
	}
	_, value, _ := strings.Cut(strings.TrimSpace(string(b)), "= ")
	return value
}
