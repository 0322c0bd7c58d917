package packet

// Labels for domain separation (docs/packet.md §3). A test checks that none is the
// beginning of another.
const (
	labelHopInfo    = "postern/p1 hop: encapsulation"
	labelHopExport  = "postern/p1 hop: keys"
	labelKeyID      = "postern/p1 key id"
	labelReplyLayer = "postern/p1 reply: layer "
	labelReplyBody  = "postern/p1 reply: body"
	labelSURBName   = "postern/p1 reply: name of a block"
	labelLIONESS    = "postern/p1 lioness"
)

// labels lists every label above for the test.
func labels() []string {
	return []string{labelHopInfo, labelHopExport, labelKeyID, labelReplyLayer, labelReplyBody, labelSURBName, labelLIONESS}
}
