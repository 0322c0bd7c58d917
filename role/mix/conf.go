package mix

import (
	"bytes"
	"fmt"
	"strings"

	"postern.email/kit/config"
	"postern.email/kit/errs"
)

// confEntry is one option of a file in the form of mixminiond.conf.
type confEntry struct {
	section, key, value string
	line                int // where it begins
}

// IsConf reports whether a configuration is one of mixminiond and not one of ours: it has a
// section with one of mixminiond's names. TOML cannot have a slash in such a name, and ours
// are in lower case.
func IsConf(text []byte) bool {
	for line := range bytes.Lines(unified(text)) {
		name, ok, err := confSection(string(bytes.TrimRight(line, "\n")))
		if err != nil || !ok {
			continue
		}
		if _, known := confOptions[name]; known || strings.Contains(name, "/") {
			return true
		}
	}
	return false
}

// unified gives the text with line ends of one kind, as mixminiond reads it.
func unified(text []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
}

// confSection reads a line "[ NAME ]", behind which only a comment may stand.
func confSection(line string) (name string, ok bool, err error) {
	if !strings.HasPrefix(line, "[") {
		return "", false, nil
	}
	name, rest, closed := strings.Cut(line[1:], "]")
	name, rest = strings.TrimSpace(name), strings.TrimSpace(rest)
	switch {
	case !closed || name == "" || strings.ContainsAny(name, " \t"):
		return "", false, fmt.Errorf("a section is written [Name]")
	case rest != "" && rest[0] != '#':
		return "", false, fmt.Errorf("nothing may stand behind the name of a section")
	}
	return name, true, nil
}

// confEntryLine reads the first line of an entry: a key without blanks, then a colon, an
// equals sign or a blank, then the value.
func confEntryLine(line string) (key, value string, ok bool) {
	end := strings.IndexAny(line, ":= \t")
	if end <= 0 {
		return "", "", false
	}
	key, rest := line[:end], strings.TrimLeft(line[end:], " \t")
	if rest != "" && (rest[0] == ':' || rest[0] == '=') {
		rest = rest[1:]
	}
	return key, strings.Trim(rest, " \t"), true
}

// readConf reads the form of mixminiond.conf: sections in brackets; entries "Key: value",
// "Key = value" or "Key value"; a line that begins with a blank continues the value before
// it; lines that begin with # are comments, empty ones are nothing. Names are taken as they
// are written, and the text is printable ASCII. name stands in error texts. errs.Invalid with the
// line, errs.TooLarge beyond config.MaxFile.
func readConf(name string, text []byte) ([]confEntry, error) {
	const op = "role/mix.readConf"
	if len(text) > config.MaxFile {
		return nil, errs.E(op, errs.TooLarge, fmt.Sprintf("%s is larger than %d bytes", name, config.MaxFile), nil)
	}
	var all []confEntry
	section, inSection, number := "", false, 0
	seen := map[string]int{}
	fault := func(format string, args ...any) error {
		return errs.E(op, errs.Invalid, fmt.Sprintf("%s:%d: ", name, number)+fmt.Sprintf(format, args...), nil)
	}
	fresh := false // the section has no entry yet
	for raw := range bytes.Lines(unified(text)) {
		number++
		line := strings.TrimRight(string(raw), "\n")
		if i := strings.IndexFunc(line, func(r rune) bool { return r != '\t' && (r < ' ' || r > '~') }); i >= 0 {
			return nil, fault("only printable ASCII may stand in this file")
		}
		trimmed := strings.Trim(line, " \t")
		switch {
		case trimmed == "" || trimmed[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if !inSection || fresh {
				return nil, fault("the line is indented, and there is no entry that it could continue")
			}
			last := &all[len(all)-1]
			last.value += " " + trimmed
		case line[0] == '[':
			got, _, err := confSection(trimmed)
			if err != nil {
				return nil, fault("%v", err)
			}
			if before, twice := seen[got]; twice {
				return nil, fault("section [%s] is there twice, first in line %d", got, before)
			}
			section, inSection, fresh, seen[got] = got, true, true, number
			all = append(all, confEntry{section: got, line: number})
		default:
			key, value, ok := confEntryLine(trimmed)
			switch {
			case !ok:
				return nil, fault("this is no entry; write Key: value")
			case !inSection:
				return nil, fault("the entry %s stands before the first section", key)
			}
			all = append(all, confEntry{section: section, key: key, value: value, line: number})
			fresh = false
		}
	}
	return all, nil
}
