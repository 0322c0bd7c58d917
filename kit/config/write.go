package config

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2"

	"postern.email/kit/errs"
)

// Assignment gives the line of a file that sets an option to the value that it has in v,
// without its section: `imaps = ":8993"`. errs.NotFound for an unknown key.
func Assignment(v any, key string) (string, error) {
	const op = "kit/config.Assignment"
	o, err := Find(v, key)
	if err != nil {
		return "", err
	}
	if !o.once() {
		return "", errs.E(op, errs.Invalid, key+" has no single value", nil)
	}
	name := key[strings.LastIndexByte(key, '.')+1:]
	field := reflect.ValueOf(v).Elem().FieldByIndex(o.index)
	switch x := field.Interface().(type) {
	case []string:
		texts := make([]string, len(x))
		for i, s := range x {
			texts[i] = Literal(s)
		}
		return fmt.Sprintf("%s = [%s]", name, strings.Join(texts, ", ")), nil
	case string:
		return name + " = " + Literal(x), nil
	case fmt.Stringer: // sizes and lengths of time
		return name + " = " + Literal(x.String()), nil
	}
	b, err := toml.Marshal(map[string]any{name: field.Interface()})
	if err != nil {
		return "", errs.E(op, errs.Internal, "", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Literal gives a text as TOML writes it (a basic string).
func Literal(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsControl(r):
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
