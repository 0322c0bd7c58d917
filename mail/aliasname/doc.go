// Package aliasname makes and recognizes the names of aliases: the local parts that the server
// draws or a user chooses, the secret tokens that stand for an owner, and the local parts that
// a client derives from its owner's alias key without asking anybody (docs/aliases-derived.md).
// It keeps nothing.
package aliasname
