package alias

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// document is openapi.json.
func document(t *testing.T) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// at follows keys into a document.
func at(v any, keys ...string) any {
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

func strs(v any) (out []string) {
	list, _ := v.([]any)
	for _, x := range list {
		out = append(out, x.(string))
	}
	slices.Sort(out)
	return out
}

func keys(v any) (out []string) {
	m, _ := v.(map[string]any)
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// misfits gives what of v is not as the schema says; it knows the words that openapi.json uses.
func misfits(doc map[string]any, schema, v any, where string) (out []string) {
	say := func(format string, a ...any) { out = append(out, where+": "+fmt.Sprintf(format, a...)) }
	m, ok := schema.(map[string]any)
	if !ok {
		say("no schema")
		return out
	}
	if ref, ok := m["$ref"].(string); ok {
		name, ok := strings.CutPrefix(ref, "#/components/schemas/")
		if !ok {
			say("leads to %s", ref)
		}
		return misfits(doc, at(doc, "components", "schemas", name), v, where)
	}
	kinds := []string{}
	if one, ok := m["type"].(string); ok {
		kinds = append(kinds, one)
	} else {
		kinds = strs(m["type"])
	}
	is := ""
	switch x := v.(type) {
	case nil:
		is = "null"
	case string:
		is = "string"
		if enum := strs(m["enum"]); enum != nil && !slices.Contains(enum, x) {
			say("%q is none of %v", x, enum)
		}
	case bool:
		is = "boolean"
	case float64:
		is = "number"
		if x == math.Trunc(x) {
			is = "integer"
		}
		if least, ok := m["minimum"].(float64); ok && x < least {
			say("%v is too little", x)
		}
	case []any:
		is = "array"
		for i, e := range x {
			if m["items"] != nil {
				out = append(out, misfits(doc, m["items"], e, fmt.Sprintf("%s[%d]", where, i))...)
			}
		}
	case map[string]any:
		is = "object"
		for _, k := range strs(m["required"]) {
			if _, ok := x[k]; !ok {
				say("no %s", k)
			}
		}
		for k, e := range x {
			if s := at(m, "properties", k); s != nil {
				out = append(out, misfits(doc, s, e, where+"."+k)...)
			} else if s, ok := m["additionalProperties"].(map[string]any); ok {
				out = append(out, misfits(doc, s, e, where+"."+k)...)
			} else if m["additionalProperties"] == false {
				say("%s is not in the schema", k)
			}
		}
	}
	if !slices.Contains(kinds, is) {
		say("%s where %v is said", is, kinds)
	}
	return out
}

// samples are what the calls of openapi.json are asked with; "{}" where nothing is said.
var samples = map[string]string{
	"create": `{"site":"shop.example"}`, "change": `{"paused":true}`, "simpleLoginCustom": `{"alias_prefix":"one","signed_suffix":"@example.org","mailbox_ids":[1]}`,
	"simpleLoginCustom2": `{"alias_prefix":"two","signed_suffix":"@example.org","mailbox_ids":[1]}`, "addyCreate": `{"domain":"example.org"}`,
}

// TestOpenAPI: every call that is described is served and answers as described, right and wrong
// tokens alike; every call that is served is described.
func TestOpenAPI(t *testing.T) {
	doc := document(t)
	if at(doc, "openapi") != "3.1.0" {
		t.Errorf("%v", at(doc, "openapi"))
	}
	var described []string
	ids := map[string]bool{}
	for _, path := range keys(at(doc, "paths")) {
		for _, method := range keys(at(doc, "paths", path)) {
			if method == "parameters" {
				continue
			}
			op := at(doc, "paths", path, method)
			id, _ := at(op, "operationId").(string)
			if id == "" || ids[id] {
				t.Errorf("%s %s: operationId %q", method, path, id)
			}
			ids[id] = true
			described = append(described, strings.ToUpper(method)+" "+path)
			f := newFake()
			f.names = []string{"made"}
			f.aliases["a@example.org"] = View{Address: "a@example.org", Mode: ModeOpen, Class: ClassStrict, State: StateActive,
				Correspondents: []Correspondent{{Address: "x@y.example", State: SenderSeen, Mails: 2}}}
			s := serverOf(t, f, Options{})
			for _, token := range []string{goodToken, strings.Repeat("x", 64), ""} {
				h := []string{jsonBody}
				if token != "" {
					h = append(h, bearer(token), "Authentication: "+token)
				}
				body := ""
				if at(op, "requestBody") != nil {
					if body = samples[id]; body == "" {
						body = "{}"
					}
					var v any
					if err := json.Unmarshal([]byte(body), &v); err != nil {
						t.Fatal(err)
					}
					for _, m := range misfits(doc, at(op, "requestBody", "content", "application/json", "schema"), v, "request") {
						t.Errorf("%s: %s", id, m)
					}
				}
				w := ask(s, strings.ToUpper(method), strings.NewReplacer("{address}", "a@example.org", "{id}", "id-Cd4").Replace(path), body, h...)
				answer := at(op, "responses", fmt.Sprint(w.Code))
				if good := token == goodToken || id == "openapi"; good != (answer != nil) {
					t.Errorf("%s: %d with token %.5q: %s", id, w.Code, token, w.Body)
				}
				if answer == nil {
					answer = at(op, "responses", "default")
				}
				content := at(answer, "content", "application/json", "schema")
				if content == nil {
					if w.Body.Len() != 0 {
						t.Errorf("%s: something is said where nothing is described: %s", id, w.Body)
					}
					continue
				}
				var v any
				if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
					t.Errorf("%s: %v", id, err)
				}
				for _, m := range misfits(doc, content, v, "answer") {
					t.Errorf("%s: %s", id, m)
				}
			}
		}
	}
	served := slices.Clone(serverOf(t, newFake(), Options{}).calls)
	slices.Sort(served)
	slices.Sort(described)
	if !slices.Equal(served, described) {
		t.Errorf("served:\n%s\ndescribed:\n%s", strings.Join(served, "\n"), strings.Join(described, "\n"))
	}
}

// TestOpenAPISchemas: the schemas have the fields of the types, and demand those that are always there.
func TestOpenAPISchemas(t *testing.T) {
	doc := document(t)
	for name, v := range map[string]any{"Account": Account{}, "CreateRequest": CreateRequest{}, "ChangeRequest": ChangeRequest{}, "Alias": View{}, "Correspondent": Correspondent{}, "AliasList": listAnswer{}, "TokenInfo": Token{}, "TokenList": tokensAnswer{}, "TokenRequest": TokenRequest{},
		"Token": tokenAnswer{}, "Error": problem{}, "SimpleLoginError": slError{}, "SimpleLoginAlias": slAlias{}, "SimpleLoginMailbox": slMailbox{}, "SimpleLoginOptions": slOptionsAnswer{}, "AddyError": addyError{}} {
		var all, always []string
		for i := range reflect.TypeOf(v).NumField() {
			key, rest, _ := strings.Cut(reflect.TypeOf(v).Field(i).Tag.Get("json"), ",")
			all = append(all, key)
			if rest == "" {
				always = append(always, key)
			}
		}
		slices.Sort(all)
		slices.Sort(always)
		schema := at(doc, "components", "schemas", name)
		if got := keys(at(schema, "properties")); !slices.Equal(got, all) {
			t.Errorf("%s has %v, the type %v", name, got, all)
		}
		if got := strs(at(schema, "required")); !slices.Equal(got, always) {
			t.Errorf("%s demands %v, the type always has %v", name, got, always)
		}
	}
	for path, want := range map[string][]string{"Alias.mode": {ModeAllow, ModeAsk, ModeOpen, ModePinned}, "Alias.class": {ClassOpenMail, ClassStrict}, "Alias.state": {StateActive, StateDeleted, StateExpired, StatePaused},
		"Correspondent.state": {SenderAllowed, SenderAsks, SenderBlocked, SenderPinned, SenderSeen, SenderWrittenTo}} {
		name, field, _ := strings.Cut(path, ".")
		if got := strs(at(doc, "components", "schemas", name, "properties", field, "enum")); !slices.Equal(got, want) {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// TestSchemaCheckBites: the check of this file sees each kind of fault.
func TestSchemaCheckBites(t *testing.T) {
	doc := document(t)
	schema := at(doc, "components", "schemas", "Correspondent")
	for text, want := range map[string]int{
		`{"address":"a","first":"","last":"","state":"seen","mails":0}`:          0,
		`{"address":"a","first":"","last":"","state":"seen"}`:                    1,
		`{"address":"a","first":"","last":"","state":"odd","mails":0}`:           1,
		`{"address":5,"first":"","last":"","state":"seen","mails":0}`:            1,
		`{"address":"a","first":"","last":"","state":"seen","mails":-1}`:         1,
		`{"address":"a","first":"","last":"","state":"seen","mails":0.5}`:        1,
		`{"address":"a","first":"","last":"","state":"seen","mails":0,"more":1}`: 1,
		`[]`:   1,
		`null`: 1,
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if got := misfits(doc, schema, v, "x"); len(got) != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
