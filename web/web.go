// Package web holds the templates and style of the web pages, in the binary.
package web

import "embed"

// Files are base.html with the frame, one page each in the others, and what is
// served as it is.
//
//go:embed *.html style.css alias.css favicon.svg
var Files embed.FS
