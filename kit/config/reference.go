package config

import (
	"bytes"
	"fmt"
	"strings"
)

// Reference writes the reference page of v's options in Markdown.
func Reference(v any, title, intro string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n%s\n", title, intro)
	section := "\x00"
	for _, o := range Options(v) {
		s, _, ok := strings.Cut(o.Key, ".")
		switch {
		case o.Table != "":
			s = o.Table
		case ok:
			s = "[" + s + "]"
		default:
			s = ""
		}
		if s != section {
			section = s
			if s == "" {
				b.WriteString("\n## At the top of the file\n")
			} else {
				fmt.Fprintf(&b, "\n## %s\n", s)
			}
			b.WriteString("\n| option | type | default | limits | meaning |\n|---|---|---|---|---|\n")
		}
		def := "`" + o.Default + "`"
		if o.Default == "" {
			def = "empty"
		}
		typ := o.Type
		if o.Unit != "" {
			typ += ", " + o.Unit
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", o.Key, typ, def, o.Limits, strings.ReplaceAll(o.Doc, "|", "\\|"))
	}
	return b.Bytes()
}

// Describe writes one option for a terminal.
func (o Option) Describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n    %s\n    type: %s", o.Key, o.Doc, o.Type)
	if o.Unit != "" {
		fmt.Fprintf(&b, " (%s)", o.Unit)
	}
	def := o.Default
	if def == "" {
		def = "empty"
	}
	fmt.Fprintf(&b, "; default: %s", def)
	if o.Limits != "" {
		fmt.Fprintf(&b, "; limits: %s", o.Limits)
	}
	b.WriteByte('\n')
	return b.String()
}
