// Package proxy puts a mail proxy together: ordinary mail programs send and read mail on this
// machine, and it travels through the mix network. It takes mailproxy's configuration and holds
// no rule of mail of its own: docs/proxy.md.
package proxy
