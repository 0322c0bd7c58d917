// Package alias is the alias server beside a Postfix: IncognitoMail's configuration and files, aliases
// kept as in a relay, and the map of Postfix that follows them. Mail never passes through it.
//
// Start reading at start.go; sync.go is where store and map meet.
package alias
