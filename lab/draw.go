package lab

import (
	"cmp"
	"fmt"
	"slices"
)

// drawing is the map of the network, in units of the SVG.
type drawing struct {
	Width, Height int
	Rows          []row
	Lines         []line
	Members       []placed
}

// row is a band of the map with its name.
type row struct {
	Name string
	Y    int
}

// line is a way that packets take; Path is SVG's.
type line struct{ From, To, Path string }

// placed is a member on the map.
type placed struct {
	seen
	X, Y int
}

// The map stands upright, so that it fits a phone.
const (
	mapWidth  = 360
	mapMargin = 44 // on both sides, for the way back from the last mixes to the relays
	rowHeight = 74
	firstRow  = 40
)

// draw places the members in rows: authorities, proxies and world, relays, the layers of mixes.
func draw(all []seen, l *Lab) drawing {
	names := []string{"authorities", "proxies, and a mail host elsewhere", "relays", "mixes, layer 1", "mixes, layer 2", "mixes, layer 3"}
	rows := make([][]seen, len(names))
	for _, s := range all {
		at := map[string]int{"authority": 0, "proxy": 1, "world": 1, "relay": 2, "mix": 2 + max(1, s.layer)}[s.Kind]
		rows[at] = append(rows[at], s)
	}
	slices.SortStableFunc(rows[1], func(a, b seen) int { return cmp.Compare(a.Kind, b.Kind) }) // the world stands last
	d := drawing{Width: mapWidth, Height: firstRow + rowHeight*(len(rows)-1) + 36}
	at := map[string]placed{}
	for i, members := range rows {
		y := firstRow + i*rowHeight
		d.Rows = append(d.Rows, row{names[i], y - 24})
		for k, s := range members {
			x := mapMargin + (2*k+1)*(mapWidth-2*mapMargin)/(2*len(members))
			p := placed{seen: s, X: x, Y: y}
			d.Members, at[s.Name] = append(d.Members, p), p
		}
	}
	straight := func(a, b seen) {
		p, q := at[a.Name], at[b.Name]
		d.Lines = append(d.Lines, line{a.Name, b.Name, fmt.Sprintf("M%d %dL%d %d", p.X, p.Y, q.X, q.Y)})
	}
	for i := 2; i < len(rows)-1; i++ {
		for _, a := range rows[i] {
			for _, b := range rows[i+1] {
				straight(a, b)
			}
		}
	}
	for _, s := range rows[1] {
		for _, r := range rows[2] {
			if s.Kind == "world" || l.relayOf(s.Name) == r.Name {
				straight(s, r)
			}
		}
	}
	for _, a := range rows[len(rows)-1] { // back to the relays, around the mixes
		for _, b := range rows[2] {
			p, q := at[a.Name], at[b.Name]
			side := 8
			if p.X+q.X > mapWidth {
				side = mapWidth - 8
			}
			d.Lines = append(d.Lines, line{a.Name, b.Name, fmt.Sprintf("M%d %dC%d %d %d %d %d %d", p.X, p.Y, side, p.Y+30, side, q.Y-10, q.X, q.Y)})
		}
	}
	return d
}

// relayOf is the relay of a proxy, by names.
func (l *Lab) relayOf(proxy string) string {
	for i, m := range l.of("proxy") {
		if m.name == proxy {
			return memberName("relay", i%Relays)
		}
	}
	return ""
}
