// Package alias holds the aliases of accounts, and of owners whose mailbox is elsewhere.
package alias
