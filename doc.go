// Package postern is the root of the module; the program is in cmd/postern.
// docs/architecture.md says which room is where.
package postern
