package packet

import "golang.org/x/sys/cpu"

// zeroUpper empties the upper halves of the vector registers. The CPU must have AVX.
//
//go:noescape
func zeroUpper()

// leaveVectors is called behind Adiantum: the AVX2 code of its hash (adiantum v1.1.1,
// nh/nhAVX2_amd64.s) leaves the upper halves of the vector registers in use, and then every
// SHA-256 of this thread takes a hundred times as long, until other code happens to
// empty them.
func leaveVectors() {
	if cpu.X86.HasAVX2 {
		zeroUpper()
	}
}
