// Package config reads one strict TOML file into a Go struct. Every option is
// documented once, at its field, by struct tags; the reference page, the
// command `postern config describe` and the checks all come from there:
//
//	toml:"name"      the key
//	default:"text"   the value when the file does not name the key
//	doc:"sentence"   what it does; required
//	unit:"…"         what a bare number counts
//	min:"…" max:"…"  limits of numbers, sizes and lengths of time; for a list,
//	                 max is the number of entries
//	oneof:"a b c"    the only allowed words
//	check:"name"     a named check: listen, network, address, domain, resolver, reuse, url, email
//
// A field that is a map from names to structs, a list of structs, or a map from names to
// texts stands for tables or keys that a file may repeat; name:"LABEL" is the word for the name in
// texts, and doc of a map of texts describes its values. What is repeated has the zero value
// where the file is silent, and cannot be set by --set.
//
// An unknown key is an error that names its line and the nearest known key.
package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Option describes one option, as its field's tags do.
type Option struct {
	Key     string `json:"key"`     // "accounts.username_min_length"
	Type    string `json:"type"`    // "text", "number", "size", "duration", "yes/no", "list"
	Default string `json:"default"` // as it would be written after --set key=
	Unit    string `json:"unit,omitempty"`
	Limits  string `json:"limits,omitempty"`
	Doc     string `json:"doc"`
	Table   string `json:"table,omitempty"` // of an option that may be repeated: the line above it, "[[account]]"

	index []int   // of an option that stands once
	steps [][]int // of another: from one map or list to the next, the last to the option
	tag   reflect.StructTag
}

// checks are the named checks of the check tag. Each gets the text of a value
// (of every entry of a list) and says what is wrong, or "".
var checks = map[string]func(string) string{
	"listen": func(s string) string {
		if s == "off" {
			return ""
		}
		host, port, err := net.SplitHostPort(s)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || perr != nil || n > 65535 {
			return "write host:port (port 0 takes a free one), or off"
		}
		if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
			return "the host must be an IP address, localhost, or empty for all"
		}
		return ""
	},
	"domain": func(s string) string {
		if _, err := netip.ParseAddr(s); err != nil && !domain.MatchString(s) || len(s) > 253 {
			return "write a domain such as example.org, in lower case (xn-- for other scripts), or an IP address"
		}
		return ""
	},
	"url": func(s string) string {
		if s == "" {
			return ""
		}
		if u, err := url.Parse(s); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			return "write a URL that begins with https://"
		}
		return ""
	},
	"email": func(s string) string {
		if local, dom, ok := strings.Cut(s, "@"); s != "" && (!ok || local == "" || !domain.MatchString(dom) || strings.ContainsAny(local, " \t,;<>\"?&")) {
			return "write a mail address such as admin@example.org"
		}
		return ""
	},
	"resolver": func(s string) string {
		if s == "" {
			return ""
		}
		if a, err := netip.ParseAddrPort(s); err != nil || a.Port() == 0 {
			return "write the IP address and port of a DNS server, such as 127.0.0.1:53"
		}
		return ""
	},
	"reuse": func(s string) string {
		if _, err := AfterDays(s); err != nil {
			return "write never, or \"after N days\""
		}
		return ""
	},
	"address": func(s string) string {
		if a, err := netip.ParseAddr(s); err != nil || a.Zone() != "" {
			return "write an IP address such as 198.51.100.7"
		}
		return ""
	},
	"network": func(s string) string {
		if _, err := netip.ParsePrefix(s); err != nil {
			if _, err := netip.ParseAddr(s); err != nil {
				return "write a network such as 10.0.0.0/8 or a single IP address"
			}
		}
		return ""
	},
}

var domain = regexp.MustCompile(`^([a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// AfterDays reads "never" (0) or "after N days".
func AfterDays(s string) (days int, err error) {
	if s == "never" {
		return 0, nil
	}
	f := strings.Fields(s)
	if len(f) != 3 || f[0] != "after" || f[2] != "days" && f[2] != "day" {
		return 0, strconv.ErrSyntax
	}
	days, err = strconv.Atoi(f[1])
	if err != nil || days < 1 || days > 36500 {
		return 0, strconv.ErrRange
	}
	return days, nil
}

// Options lists the options of the struct that v points to, in the order of the
// fields. It panics when a field is not documented or has an impossible
// default: that is a mistake in the program, found by the first test.
func Options(v any) []Option {
	t := reflect.TypeOf(v)
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		panic("config: a pointer to a struct is needed")
	}
	return collect(t.Elem(), place{}, nil)
}

// place is where the fields of a struct lie.
type place struct {
	prefix string  // of their keys
	table  string  // the line above them, if they may be repeated
	steps  [][]int // to the innermost map or list that holds the struct
	index  []int   // from there
}

func collect(t reflect.Type, p place, all []Option) []Option {
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("toml")
		key := p.prefix + name
		at := append(slices.Clone(p.index), i)
		inner := place{prefix: key + ".", steps: append(slices.Clone(p.steps), at)}
		switch {
		case f.Type.Kind() == reflect.Struct:
			all = collect(f.Type, place{key + ".", p.table, p.steps, at}, all)
			continue
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			inner.table = "[[" + key + "]]"
			all = collect(f.Type.Elem(), inner, all)
			continue
		case f.Type.Kind() == reflect.Map && f.Type.Elem().Kind() == reflect.Struct:
			inner.prefix += f.Tag.Get("name") + "."
			inner.table = "[" + strings.TrimSuffix(inner.prefix, ".") + "]"
			all = collect(f.Type.Elem(), inner, all)
			continue
		}
		o := Option{Key: key, Type: typeName(f.Type), Default: f.Tag.Get("default"), Unit: f.Tag.Get("unit"),
			Limits: limits(f), Doc: f.Tag.Get("doc"), Table: p.table, index: at, tag: f.Tag}
		if p.steps != nil {
			o.index, o.steps = nil, inner.steps
		}
		if f.Type == reflect.TypeFor[map[string]string]() {
			o.Key, o.Table, o.Type = inner.prefix+f.Tag.Get("name"), "["+key+"]", "text"
			o.index, o.steps = nil, append(inner.steps, nil)
		}
		if name == "" || o.Doc == "" || o.Type == "" || o.steps != nil && o.Default != "" {
			panic("config: field " + t.Name() + "." + f.Name + " is not documented")
		}
		all = append(all, o)
	}
	return all
}

// once reports whether the option stands once in a file.
func (o Option) once() bool { return o.steps == nil }

// fields calls fn with every value that the option has in the struct root; n is the how manyth of the
// innermost list it is in, from 1, and 0 in none.
func (o Option) fields(root reflect.Value, fn func(v reflect.Value, n int)) {
	if o.once() {
		fn(root.FieldByIndex(o.index), 0)
		return
	}
	var into func(v reflect.Value, n int, steps [][]int)
	into = func(v reflect.Value, n int, steps [][]int) {
		if steps[0] == nil {
			fn(v, n)
			return
		}
		f := v.FieldByIndex(steps[0])
		switch {
		case len(steps) == 1:
			fn(f, n)
		case f.Kind() == reflect.Map:
			for _, k := range f.MapKeys() {
				into(f.MapIndex(k), n, steps[1:])
			}
		default:
			for i := range f.Len() {
				into(f.Index(i), i+1, steps[1:])
			}
		}
	}
	into(root, 0, o.steps)
}

func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Bytes]():
		return "size"
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[[]string]():
		return "list"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "yes/no"
	case reflect.Int, reflect.Int64, reflect.Float64:
		return "number"
	}
	return ""
}

func limits(f reflect.StructField) string {
	lo, hi, one := f.Tag.Get("min"), f.Tag.Get("max"), f.Tag.Get("oneof")
	entries := ""
	if f.Type.Kind() == reflect.Slice {
		entries = " entries"
	}
	switch {
	case one != "":
		return strings.Join(strings.Fields(one), ", ")
	case lo != "" && hi != "":
		return lo + " to " + hi + entries
	case lo != "":
		return "at least " + lo + entries
	case hi != "":
		return "at most " + hi + entries
	}
	return ""
}

// setText gives the field the value written as text, as after --set key=.
func setText(field reflect.Value, text string) error {
	switch p := field.Addr().Interface().(type) {
	case *Bytes:
		return p.UnmarshalText([]byte(text))
	case *Duration:
		return p.UnmarshalText([]byte(text))
	case *[]string:
		*p = []string{}
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*p = append(*p, part)
			}
		}
		return nil
	}
	switch field.Kind() {
	case reflect.String:
		field.SetString(text)
	case reflect.Bool:
		switch text {
		case "true", "yes", "on":
			field.SetBool(true)
		case "false", "no", "off":
			field.SetBool(false)
		default:
			return fmt.Errorf("%q is neither true nor false", text)
		}
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || field.OverflowInt(n) {
			return fmt.Errorf("%q is not a whole number", text)
		}
		field.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		field.SetFloat(n)
	default:
		return fmt.Errorf("cannot be set")
	}
	return nil
}

// getText is the inverse of setText.
func getText(field reflect.Value) string {
	switch v := field.Interface().(type) {
	case []string:
		return strings.Join(v, ",")
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprint(field.Interface())
}

// check says what is wrong with the field's value, or "".
func (o Option) check(field reflect.Value) string {
	if field.Kind() == reflect.Slice {
		if hi := o.tag.Get("max"); hi != "" {
			if n, err := strconv.Atoi(hi); err != nil || field.Len() > n {
				return fmt.Sprintf("%d entries are outside its limits: %s", field.Len(), o.Limits)
			}
		}
	}
	if one := o.tag.Get("oneof"); one != "" {
		for w := range strings.FieldsSeq(one) {
			if w == field.String() {
				return ""
			}
		}
		return fmt.Sprintf("%q is not one of: %s", field.String(), o.Limits)
	}
	if name := o.tag.Get("check"); name != "" {
		list, ok := field.Interface().([]string)
		if !ok {
			list = []string{field.String()}
		}
		for _, s := range list {
			if why := checks[name](s); why != "" {
				return fmt.Sprintf("%q: %s", s, why)
			}
		}
	}
	for _, b := range []struct {
		tag  string
		sign float64
	}{{"min", 1}, {"max", -1}} {
		if lim := o.tag.Get(b.tag); lim != "" && field.Kind() != reflect.Slice {
			bound := reflect.New(field.Type()).Elem()
			if err := setText(bound, lim); err != nil {
				panic("config: " + o.Key + ": " + b.tag + ": " + err.Error())
			}
			if (number(field)-number(bound))*b.sign < 0 {
				return fmt.Sprintf("%s is outside its limits: %s", getText(field), o.Limits)
			}
		}
	}
	return ""
}

func number(v reflect.Value) float64 {
	if v.Kind() == reflect.Float64 {
		return v.Float()
	}
	return float64(v.Int())
}
