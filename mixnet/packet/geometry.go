package packet

// The geometry of P1, in bytes (docs/packet.md §2). There is one geometry in a network:
// every choice would split the crowd that a packet hides in.
const (
	Version = 1
	Layers  = 5 // 0: the sender's relay, 1 to 3: mixes, 4: the relay where the way ends
	Last    = Layers - 1

	Size      = 32768 // a packet at layer 0, and the unit in which links carry every packet
	PrefixLen = 16
	LayerLen  = encapLen + routingLen + aeadLen // what each hop takes off
	HeaderLen = Layers * LayerLen               // at layer 0

	PayloadLen = Size - PrefixLen - HeaderLen // the same at every layer

	SURBLen = PrefixLen + replyLayers*LayerLen + surbTailLen

	MaxBody     = PayloadLen - contentHeadLen // of a Content without a reply block
	MaxBodySURB = MaxBody - SURBLen           // of a Content with one

	encapLen    = 1120 // X-Wing ciphertext: ML-KEM-768 1,088, X25519 32
	routingLen  = 96
	aeadLen     = 16 // GCM tag
	keyLen      = 32
	replyLayers = Layers - replyFirst // a reply block skips layer 0
	replyFirst  = 1
)

// SizeAt gives the size of a packet on its way to a hop of a layer, 0 for a layer that
// does not exist.
func SizeAt(layer int) int {
	if layer < 0 || layer > Last {
		return 0
	}
	return Size - layer*LayerLen
}

// headerAt gives the size of the header at a layer; none is left at Layers.
func headerAt(layer int) int { return (Layers - layer) * LayerLen }
