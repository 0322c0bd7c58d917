// Package deploy holds the systemd units, in the binary, for the init commands.
package deploy

import (
	_ "embed"
	"strings"
)

// Unit is postern.service, of a relay.
//
//go:embed postern.service
var Unit string

//go:embed postern-authority.head
var authorityHead string

// Authority is the unit of a directory authority.
func Authority() string { return withProtection(authorityHead) }

//go:embed postern-mix.head
var mixHead string

// Mix is the unit of a node of the mix network.
func Mix() string { return withProtection(mixHead) }

//go:embed postern-alias.head
var aliasHead string

// Alias is the unit of the alias server beside a Postfix.
func Alias() string { return withProtection(aliasHead) }

// protection is the first line of what all units have in common.
const protection = "# What is in memory stays there"

// withProtection adds to the head of a unit what protects it and others from each other: the
// same lines as in postern.service.
func withProtection(head string) string {
	i := strings.Index(Unit, protection)
	if i < 0 {
		return "" // cannot be: the file is in the binary, and a test looks at it
	}
	return head + "\n" + Unit[i:]
}

// ProxyUnit is postern-proxy.service, of a user's mail proxy.
//
//go:embed postern-proxy.service
var ProxyUnit string
