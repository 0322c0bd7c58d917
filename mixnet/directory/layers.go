package directory

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"postern.email/mixnet/packet"
)

// mixLayers is how many layers of mixes there are; they are numbered from 1.
const mixLayers = packet.Layers - 2

// assign gives each mix a layer (docs/directory.md §6.4). mixes are sorted; kept tells the
// layers that some of them had. A mix keeps its layer; a new one goes where too few are, else
// by chance to one of the layers that have not two more than the smallest. Only when a layer
// is below the minimum does a mix of the largest layer move there.
func assign(mixes []packet.ID, kept map[packet.ID]int, random Value, minimum int) map[packet.ID]int {
	layers := make(map[packet.ID]int, len(mixes))
	var size [mixLayers + 1]int
	var fresh []packet.ID
	for _, id := range mixes {
		if l := kept[id]; l != 0 {
			layers[id] = l
			size[l]++
		} else {
			fresh = append(fresh, id)
		}
	}
	lot := func(id packet.ID) Hash {
		h := sha256.New()
		h.Write([]byte(labelLayer))
		h.Write(random[:])
		h.Write(id[:])
		return Hash(h.Sum(nil))
	}
	byLot := func(a, b packet.ID) int { return compareID(packet.ID(lot(a)), packet.ID(lot(b))) }
	slices.SortFunc(fresh, byLot)
	for _, id := range fresh {
		smallest := slices.Min(size[1:])
		bound := smallest + 2
		if smallest < minimum {
			bound = smallest + 1
		}
		var choice []int
		for l := 1; l <= mixLayers; l++ {
			if size[l] < bound {
				choice = append(choice, l)
			}
		}
		h := lot(id)
		l := choice[binary.BigEndian.Uint64(h[24:])%uint64(len(choice))]
		layers[id] = l
		size[l]++
	}
	for {
		to, from := 1, 1
		for l := 2; l <= mixLayers; l++ {
			if size[l] < size[to] {
				to = l
			}
			if size[l] > size[from] {
				from = l
			}
		}
		if size[to] >= minimum || size[from] < size[to]+2 {
			return layers
		}
		var mover packet.ID
		found := false
		for _, id := range mixes {
			if layers[id] == from && (!found || byLot(id, mover) < 0) {
				mover, found = id, true
			}
		}
		layers[mover] = to
		size[from]--
		size[to]++
	}
}

// keep tells which layers the mixes of the next consensus had, and which of those that are
// not there now are remembered.
func keep(previous *Consensus, present map[packet.ID]bool, epoch uint64) (kept map[packet.ID]int, absent []Absent) {
	kept = make(map[packet.ID]int)
	if previous == nil {
		return kept, nil
	}
	gone := slices.Clone(previous.Absent)
	for i := range previous.Nodes {
		if e := &previous.Nodes[i]; e.Layer != 0 {
			gone = append(gone, Absent{ID: e.ID, Layer: e.Layer, Epoch: previous.Epoch})
		}
	}
	for _, a := range gone {
		switch {
		case present[a.ID]:
			kept[a.ID] = a.Layer
		case a.Epoch+AbsentEpochs > epoch:
			absent = append(absent, a)
		}
	}
	slices.SortFunc(absent, func(a, b Absent) int {
		if a.Epoch != b.Epoch {
			return int(int64(b.Epoch) - int64(a.Epoch))
		}
		return compareID(a.ID, b.ID)
	})
	absent = absent[:min(len(absent), MaxAbsent)]
	slices.SortFunc(absent, func(a, b Absent) int { return compareID(a.ID, b.ID) })
	return kept, absent
}
