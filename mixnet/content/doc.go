// Package content is what the payloads of packets hold: the kinds of packet.Content, their
// bodies where a node reads them, and the unit in which a relay hands a kept packet to its
// client. docs/content.md is the format.
package content
