// Package deploy holds the systemd unit, in the binary, for postern init.
package deploy

import _ "embed"

// Unit is postern.service.
//
//go:embed postern.service
var Unit string
