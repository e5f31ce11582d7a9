package tokenizer

// noPair is what get returns for a pair that is not in the table.
const noPair = ^uint64(0)

// pairs maps a pair of numbers to a value: two ids to what they merge into, a node and a byte to the next node. Open
// addressing in one array keeps a lookup to about one cache line.
type pairs struct {
	slots []slot
	shift uint
	count int
}

type slot struct{ key, value uint64 }

// newPairs returns a table with room for n entries.
func newPairs(n int) *pairs {
	p := &pairs{shift: 64 - 4}
	for 1<<(64-p.shift) < 2*n {
		p.shift--
	}
	p.clear()
	return p
}

func (p *pairs) clear() {
	p.count = 0
	p.slots = make([]slot, 1<<(64-p.shift))
	for i := range p.slots {
		p.slots[i].value = noPair
	}
}

func pair(a, b int32) uint64 { return uint64(uint32(a))<<32 | uint64(uint32(b)) }

// home is where the search for a key begins (Fibonacci hashing, Knuth, The Art of Computer Programming, volume 3, 6.4).
func (p *pairs) home(key uint64) int { return int(key * 0x9E3779B97F4A7C15 >> p.shift) }

// get returns the value of a key, or noPair.
func (p *pairs) get(key uint64) uint64 {
	for i := p.home(key); ; i = (i + 1) & (len(p.slots) - 1) {
		if s := &p.slots[i]; s.key == key || s.value == noPair {
			return s.value
		}
	}
}

// set enters a value, which is not noPair, in place of the one before, if any.
func (p *pairs) set(key, value uint64) {
	if 2*p.count >= len(p.slots) {
		old := p.slots
		p.shift--
		p.clear()
		for _, s := range old {
			if s.value != noPair {
				p.set(s.key, s.value)
			}
		}
	}
	for i := p.home(key); ; i = (i + 1) & (len(p.slots) - 1) {
		s := &p.slots[i]
		if s.value == noPair {
			p.count++
		} else if s.key != key {
			continue
		}
		*s = slot{key, value}
		return
	}
}
