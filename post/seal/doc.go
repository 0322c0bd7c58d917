// Package seal holds the cryptography of a post office at rest: the node's root
// key, the key pair of each account, and the keys of single mails.
//
// Three hands can open what Postern writes:
//
//   - nobody's key is needed for what the schema leaves open (numbers, flags,
//     size buckets, hours);
//   - the node key opens the root key, and the root key opens what the server
//     must read while its users are away. The whole list is Purposes;
//   - the account's password opens the account's seed, and the seed opens mail,
//     folder names and all else that belongs to the account.
//
// The package does no input or output but randomness, except the two small files
// of the node key (nodekey.go), which go through kit/vfs.
//
// Formats begin with a version byte or field; golden vectors under testdata fix
// that what was once written can be opened by every later version.
package seal
