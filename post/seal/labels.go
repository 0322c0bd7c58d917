package seal

// Labels for domain separation: one list, so that no two uses of a key can ever
// meet. Every derivation in this package takes its label from here, and a test
// checks that they differ and that no label is a prefix of another.
const (
	labelRootWrap    = "postern/v1 node key wraps root key"
	labelRootName    = "postern/v1 root: keyed hash of names"
	labelRootShard   = "postern/v1 root: shard of names"
	labelRootSeen    = "postern/v1 root: marks of mails"
	labelRootNamed   = "postern/v1 root: records behind a name"
	labelRootMix     = "postern/v1 root: mix network"
	labelRootPurpose = "postern/v1 root: sealed for purpose: "
	labelSeedWrap    = "postern/v1 password wraps account seed"
	labelRecord      = "postern/v1 account: records of its owner"
	labelChainInfo   = "postern/v1 chain: encapsulation"
	labelChainExport = "postern/v1 chain: first state"
	labelChainStep   = "postern/v1 chain: step"
	labelTo          = "postern/v1 record of an owner who is away"
	labelTokenWrap   = "postern/v1 token wraps seed"
	labelRootAlias   = "postern/v1 root: aliases"
	labelMixMailbox  = "postern/v1 mix: mailbox of an account"
	labelMixPlace    = "postern/v1 mix: place of a name"
	labelMixPacket   = "postern/v1 mix: name of a packet"
	labelMixKeys     = "postern/v1 mix: keys of the node"
)

// labels lists every label above for the test.
func labels() []string {
	return []string{labelRootWrap, labelRootName, labelRootShard, labelRootSeen, labelRootNamed, labelRootMix, labelRootPurpose, labelSeedWrap,
		labelRecord, labelChainInfo, labelChainExport, labelChainStep, labelTo, labelTokenWrap, labelRootAlias, labelMixMailbox, labelMixPlace, labelMixPacket, labelMixKeys}
}
