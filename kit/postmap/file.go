package postmap

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"postern.email/kit/errs"
)

// Line is an entry of a table: what is looked up, and what it gives.
type Line struct{ Key, Value string }

// The marks around our lines. A mark stands alone on its line. What is between them is replaced.
const (
	beginMark = "# BEGIN postern: the lines down to END are written by the program; write yours elsewhere"
	endMark   = "# END postern"
	beginWord = "# BEGIN postern"
)

// file is the text of a table.
type file struct {
	before, after []byte // foreign
	block         []byte // ours, with the marks
	ours          []Line
	foreign       []entry
}

// entry is a logical line of somebody else's: in postmap(1)'s words, a line that begins with text, and
// those that go on with it.
type entry struct {
	Line
	number int      // of its first line in the file, from 1
	at     [][2]int // the lines that make it, as offsets in before, or behind len(before) in after
}

// parse reads a text. errs.Corrupt when the marks do not fit.
func parse(text []byte) (*file, error) {
	f := &file{before: text}
	var begin, end int // offsets: where the block begins, where it ends
	number, have, open := 0, false, false
	for at := 0; at < len(text); {
		next := lineEnd(text, at)
		line := strings.TrimRight(string(text[at:next]), "\r\n")
		number++
		switch {
		case strings.HasPrefix(line, beginWord) && have:
			return nil, corrupt(number, "a second block of ours begins")
		case strings.HasPrefix(line, beginWord):
			begin, have, open = at, true, true
		case line == endMark && !open:
			return nil, corrupt(number, "a block of ours ends that does not begin")
		case line == endMark:
			end, open = next, false
		case open:
			if key, value := cutKey(line); key != "" {
				f.ours = append(f.ours, Line{key, value})
			}
		}
		at = next
	}
	if open {
		return nil, corrupt(1+bytes.Count(text[:begin], []byte("\n")), "the block of ours that begins here has no end")
	}
	if have {
		f.before, f.block, f.after = text[:begin], text[begin:end], text[end:]
	}
	f.entries(f.before, 0, 0)
	f.entries(f.after, len(f.before), bytes.Count(text[:end], []byte("\n")))
	return f, nil
}

func corrupt(number int, why string) error {
	return errs.E("kit/postmap.parse", errs.Corrupt, fmt.Sprintf("line %d of the map: %s; put the marks right, or remove them and what is between them", number, why), nil)
}

// lineEnd gives the offset behind the line that begins at an offset.
func lineEnd(text []byte, at int) int {
	if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(text)
}

// entries finds the logical lines of a part of the text: an empty line, or one whose first letter is
// a number sign, is none and ends none; a line that begins with a blank goes on with the one before.
func (f *file) entries(text []byte, offset, number int) {
	open := false
	for at := 0; at < len(text); {
		next := lineEnd(text, at)
		line := string(text[at:next])
		number++
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || trimmed[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if open {
				last := &f.foreign[len(f.foreign)-1]
				last.Value = strings.TrimSpace(last.Value + " " + trimmed)
				last.at = append(last.at, [2]int{offset + at, offset + next})
			}
		default:
			open = true
			key, value := cutKey(trimmed)
			f.foreign = append(f.foreign, entry{Line: Line{key, value}, number: number, at: [][2]int{{offset + at, offset + next}}})
		}
		at = next
	}
}

// cutKey cuts the key off a logical line; a comment has none. In double quotes a key may have blanks.
func cutKey(line string) (key, value string) {
	if line == "" || line[0] == '#' {
		return "", ""
	}
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t'):
			return line[:i], strings.TrimSpace(line[i:])
		}
	}
	return line, ""
}

// fold is how Postfix compares keys.
func fold(key string) string { return strings.ToLower(key) }

// with gives the text with these lines as ours. A foreign line that says the same as one of them is
// taken over into the block; where one says something else of the same key, it stays, and ours is
// left out and given as a conflict: also where that line stands behind one that says the same, and would
// count without it. lines are sorted by key.
func (f *file) with(lines []Line) (text []byte, conflicts []Conflict) {
	foreign := make(map[string]entry, len(f.foreign))
	for _, e := range f.foreign {
		first, twice := foreign[fold(e.Key)]
		if !twice || !strings.EqualFold(first.Value, e.Value) {
			if twice {
				e.Value = ambiguous
			}
			foreign[fold(e.Key)] = e
		}
	}
	var block bytes.Buffer
	taken := map[string]bool{}
	n := 0
	for _, l := range lines {
		if e, ok := foreign[fold(l.Key)]; ok {
			if !strings.EqualFold(e.Value, l.Value) {
				conflicts = append(conflicts, Conflict{Key: l.Key, Line: e.number})
				continue
			}
			taken[fold(l.Key)] = true
		}
		fmt.Fprintf(&block, "%s %s\n", l.Key, l.Value)
		n++
	}
	before, after := f.before, f.after
	if len(taken) > 0 {
		before, after = f.without(taken)
	}
	out := bytes.NewBuffer(make([]byte, 0, len(before)+len(after)+block.Len()+256))
	out.Write(before)
	if n > 0 {
		if len(before) > 0 && before[len(before)-1] != '\n' {
			out.WriteByte('\n')
		}
		out.WriteString(beginMark + "\n")
		out.Write(block.Bytes())
		out.WriteString(endMark + "\n")
	}
	out.Write(after)
	return out.Bytes(), conflicts
}

// ambiguous stands for the values of lines that say different things of one key. No value has a blank.
const ambiguous = "two values"

// without gives the foreign text without the lines of these keys.
func (f *file) without(keys map[string]bool) (before, after []byte) {
	return f.cut(func(e entry) bool { return keys[fold(e.Key)] })
}

// disown gives the text without the foreign lines that say exactly what one of these says.
func (f *file) disown(lines []Line) []byte {
	say := make(map[Line]bool, len(lines))
	for _, l := range lines {
		say[Line{fold(l.Key), fold(l.Value)}] = true
	}
	before, after := f.cut(func(e entry) bool { return say[Line{fold(e.Key), fold(e.Value)}] })
	return slices.Concat(before, f.block, after)
}

// cut gives the foreign text without some of the entries.
func (f *file) cut(gone func(entry) bool) (before, after []byte) {
	var cut [][2]int
	for _, e := range f.foreign {
		if gone(e) {
			cut = append(cut, e.at...)
		}
	}
	slices.SortFunc(cut, func(a, b [2]int) int { return a[0] - b[0] })
	whole := slices.Concat(f.before, f.after)
	take := func(from, to int) (out []byte) {
		for _, c := range cut {
			if c[0] >= from && c[0] < to {
				out = append(out, whole[from:c[0]]...)
				from = c[1]
			}
		}
		return append(out, whole[from:to]...)
	}
	return take(0, len(f.before)), take(len(f.before), len(whole))
}
