// Package aliases is the desk at which owners look after their aliases: what a token, or an
// account's address and password, may do with them, at which rate, and what of it is shown.
// Every door asks here: HTTP (wire/alias), the control socket (Commands), the server beside
// a Postfix. What an alias is, and where its mail goes, is post/alias's.
package aliases
