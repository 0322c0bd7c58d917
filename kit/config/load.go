package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"postern.email/kit/errs"
)

// MaxFile is the greatest size of a configuration file in bytes.
const MaxFile = 1 << 20

// Defaults sets every option of the struct that v points to.
func Defaults(v any) {
	root := reflect.ValueOf(v).Elem()
	for _, o := range Options(v) {
		if !o.once() {
			continue
		}
		f := root.FieldByIndex(o.index)
		if err := setText(f, o.Default); err != nil {
			panic("config: default of " + o.Key + ": " + err.Error())
		}
		if why := o.check(f); why != "" && o.Default != "" {
			panic("config: default of " + o.Key + ": " + why)
		}
	}
}

// Load sets v to its defaults, then to what the file says (path "" = no file),
// then to what the --set words say, each "section.key=value", and checks the
// limits. A fault is errs.Invalid; its public text names the place.
func Load(v any, path string, set []string) error {
	if path == "" {
		Defaults(v)
		return Apply(v, set)
	}
	text, err := ReadFile(path)
	if err != nil {
		return err
	}
	return LoadText(v, path, text, set)
}

// LoadText is Load for a file that was read already; name is its name in error texts.
func LoadText(v any, name string, text []byte, set []string) error {
	Defaults(v)
	if err := parse(v, name, text); err != nil {
		return err
	}
	return Apply(v, set)
}

// ReadFile reads a configuration file of at most MaxFile bytes. errs.NotFound,
// errs.TooLarge, errs.Unavailable.
func ReadFile(path string) ([]byte, error) {
	const op = "kit/config.Load"
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, errs.E(op, errs.NotFound, "there is no configuration file "+path, err)
	case err != nil:
		return nil, errs.E(op, errs.Unavailable, "cannot read the configuration file "+path, err)
	case st.Size() > MaxFile:
		return nil, errs.E(op, errs.TooLarge, fmt.Sprintf("%s is larger than %d bytes", path, MaxFile), nil)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot read the configuration file "+path, err)
	}
	return text, nil
}

// parse is Load's part for the file's text; name stands in error texts.
func parse(v any, name string, text []byte) error {
	const op = "kit/config.Load"
	d := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		var strict *toml.StrictMissingError
		var syntax *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			e := strict.Errors[0]
			line, _ := e.Position()
			return errs.E(op, errs.Invalid, fmt.Sprintf("%s:%d: %s", name, line, unknown(v, strings.Join(e.Key(), "."))), nil)
		case errors.As(err, &syntax):
			line, _ := syntax.Position()
			where := ""
			if k := strings.Join(syntax.Key(), "."); k != "" {
				where = k + ": "
			}
			return errs.E(op, errs.Invalid, fmt.Sprintf("%s:%d: %s%s", name, line, where,
				strings.TrimPrefix(syntax.Error(), "toml: ")), nil)
		}
		return errs.E(op, errs.Invalid, name+": "+strings.TrimPrefix(err.Error(), "toml: "), nil)
	}
	lines := keyLines(text)
	root := reflect.ValueOf(v).Elem()
	for _, o := range Options(v) {
		var bad error
		o.fields(root, func(f reflect.Value, n int) {
			place := name
			line, given := lines[spot{strings.ToLower(o.Key), n}]
			if given {
				place = fmt.Sprintf("%s:%d", name, line)
			}
			// What stands once and is not given has its default; what may be repeated, its zero value.
			if bad != nil || o.once() && !given || !o.once() && f.IsZero() {
				return
			}
			if why := o.check(f); why != "" {
				bad = errs.E(op, errs.Invalid, fmt.Sprintf("%s: %s: %s", place, o.Key, why), nil)
			}
		})
		if bad != nil {
			return bad
		}
	}
	return nil
}

// Apply sets options from "section.key=value" words, as --set does.
func Apply(v any, set []string) error {
	const op = "kit/config.Apply"
	root := reflect.ValueOf(v).Elem()
	options := Options(v)
	for _, word := range set {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return errs.E(op, errs.Invalid, fmt.Sprintf("--set %s: write --set section.key=value", word), nil)
		}
		o, ok := find(options, strings.TrimSpace(key))
		if !ok {
			return errs.E(op, errs.Invalid, "--set: "+unknown(v, key), nil)
		}
		if !o.once() {
			return errs.E(op, errs.Invalid, fmt.Sprintf("--set %s: what a file may repeat can be set in the file only", o.Key), nil)
		}
		f := root.FieldByIndex(o.index)
		if err := setText(f, strings.TrimSpace(value)); err != nil {
			return errs.E(op, errs.Invalid, fmt.Sprintf("--set %s: %v", o.Key, err), nil)
		}
		if why := o.check(f); why != "" {
			return errs.E(op, errs.Invalid, fmt.Sprintf("--set %s: %s", o.Key, why), nil)
		}
	}
	return nil
}

// Values gives the value of every option that stands once as text, keyed by option, for
// `config check`.
func Values(v any) map[string]string {
	root := reflect.ValueOf(v).Elem()
	all := make(map[string]string)
	for _, o := range Options(v) {
		if o.once() {
			all[o.Key] = getText(root.FieldByIndex(o.index))
		}
	}
	return all
}

func find(options []Option, key string) (Option, bool) {
	for _, o := range options {
		if o.Key == key {
			return o, true
		}
	}
	return Option{}, false
}

// Find gives the option with this key, or errs.NotFound naming the nearest one.
func Find(v any, key string) (Option, error) {
	o, ok := find(Options(v), key)
	if !ok {
		return o, errs.E("kit/config.Find", errs.NotFound, unknown(v, key), nil)
	}
	return o, nil
}

func unknown(v any, key string) string {
	best, nearest := 1<<30, ""
	for _, o := range Options(v) {
		d := distance(key, o.Key)
		if !o.once() && strings.EqualFold(head(key), head(o.Key)) { // the names of its tables are the user's own
			d = min(d, distance(o.Key[:strings.LastIndexByte(o.Key, '.')+1]+key[strings.LastIndexByte(key, '.')+1:], o.Key))
		}
		// A key in the wrong section, or without one, is as near as a typing slip.
		if key[strings.LastIndexByte(key, '.')+1:] == o.Key[strings.LastIndexByte(o.Key, '.')+1:] {
			d = min(d, 2)
		}
		if d < best {
			best, nearest = d, o.Key
		}
		// The unknown thing may be a whole section.
		if section, _, ok := strings.Cut(o.Key, "."); ok {
			if d := distance(key, section); d < best {
				best, nearest = d, section
			}
		}
	}
	return fmt.Sprintf("unknown key %q; the nearest known key is %q", key, nearest)
}

// head is the section of a key.
func head(key string) string { s, _, _ := strings.Cut(key, "."); return s }

// distance is the number of one-letter changes between a and b (Levenshtein).
func distance(a, b string) int {
	if len(a) > 200 {
		a = a[:200]
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diag, row[j] = row[j], min(row[j]+1, row[j-1]+1, diag+cost)
		}
	}
	return row[len(b)]
}

// spot is a key of a file: all of it in lower case, and of the how manyth [[table]] it is.
type spot struct {
	key string
	n   int
}

// keyLines finds the line of each key that the (valid) text gives a value to.
func keyLines(text []byte) map[spot]int {
	lines := make(map[spot]int)
	walk(text, func(e Entry, _ int) {
		if e.Key != "" {
			lines[spot{strings.ToLower(strings.Join(append(slices.Clone(e.Table), e.Key), ".")), e.N}] = e.Line
		}
	})
	return lines
}
