package sim

import "math"

// never is later than anything.
const never = math.MaxInt64

// agenda knows who of many has something to do next: a heap in which each has its place, so that
// a moment can be changed. What is due together comes in order of number: one seed, one result.
type agenda struct {
	when []int64 // nanoseconds since the begin
	heap []int32
	pos  []int32
}

func newAgenda(n int) *agenda {
	a := &agenda{when: make([]int64, n), heap: make([]int32, n), pos: make([]int32, n)}
	for i := range n {
		a.when[i], a.heap[i], a.pos[i] = never, int32(i), int32(i)
	}
	return a
}

// first is who comes next, and when; never: nobody does.
func (a *agenda) first() (id int32, when int64) { return a.heap[0], a.when[a.heap[0]] }

func (a *agenda) set(id int32, when int64) {
	if a.when[id] == when {
		return
	}
	a.when[id] = when
	i := int(a.pos[id])
	for i > 0 && a.before(i, (i-1)/2) {
		i = a.swap(i, (i-1)/2)
	}
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(a.heap); c++ {
			if a.before(c, least) {
				least = c
			}
		}
		if least == i {
			return
		}
		i = a.swap(i, least)
	}
}

func (a *agenda) before(i, j int) bool {
	x, y := a.heap[i], a.heap[j]
	return a.when[x] < a.when[y] || a.when[x] == a.when[y] && x < y
}

func (a *agenda) swap(i, j int) int {
	a.heap[i], a.heap[j] = a.heap[j], a.heap[i]
	a.pos[a.heap[i]], a.pos[a.heap[j]] = int32(i), int32(j)
	return j
}
