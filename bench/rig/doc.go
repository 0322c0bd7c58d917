// Package rig starts the mail servers that the benchmarks drive, Postern and
// Debian's Postfix with Dovecot, measures what they use, and prints the ratios. What load they
// get is each benchmark's own affair.
package rig
