// Package interop drives the built program over its sockets with the clients
// that people really use, and with crashes, full disks and strangers.
//
// Nothing here imports a room of the house, but for the documents and links of the mix network, where
// tests are a node or an authority of their own, the derivation of aliases, which clients have too, and what
// other tests have (kit/tooltest). Tests that need a tool skip with its name when it is missing, and fail
// instead with POSTERN_REQUIRE_TOOLS=1.
//
// Environment:
//
//	POSTERN_BIN            a binary to test instead of building cmd/postern
//	POSTERN_RACE=1         build it with the race detector
//	POSTERN_REQUIRE_TOOLS  1: a missing tool is a failure
//	POSTERN_DELTACHAT      path of deltachat-rpc-server (default: below node_modules)
//	POSTERN_LONG=1         the full numbers of the long tests, and those that take long anyhow (.ci/long)
package interop
