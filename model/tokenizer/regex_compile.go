package tokenizer

import "fmt"

// maxProgram bounds the instructions of a pattern.
const maxProgram = 10_000

// compile reads a pattern. The error says which construct is not taken.
func compile(pattern string) (*regex, error) {
	p := &patternParser{text: pattern}
	n, err := p.alternatives()
	if err == nil && p.pos < len(p.text) {
		err = fmt.Errorf("unbalanced )")
	}
	if err == nil && n.empty() {
		err = fmt.Errorf("it matches the empty string")
	}
	re := new(regex)
	if err == nil {
		err = re.emit(n)
	}
	if err != nil {
		return nil, fmt.Errorf("compile pattern %.60q: %w", pattern, err)
	}
	re.program = append(re.program, instruction{op: opMatch})
	return re, nil
}

// emit appends the instructions of n.
func (re *regex) emit(n *node) error {
	if len(re.program) > maxProgram {
		return fmt.Errorf("it has more than %d instructions", maxProgram)
	}
	at := func() int { return len(re.program) }
	put := func(in instruction) int {
		re.program = append(re.program, in)
		return len(re.program) - 1
	}
	branch := func(in instruction) int {
		in.slot = re.branches
		re.branches++
		return put(in)
	}
	switch n.kind {
	case nodeSet:
		put(instruction{op: opSet, set: n.set})
	case nodeSequence:
		for _, part := range n.parts {
			if err := re.emit(part); err != nil {
				return err
			}
		}
	case nodeAlternatives:
		var jumps []int
		for i, part := range n.parts {
			last := i == len(n.parts)-1
			split := 0
			if !last {
				split = branch(instruction{op: opSplit, x: at() + 1})
			}
			if err := re.emit(part); err != nil {
				return err
			}
			if !last {
				jumps = append(jumps, put(instruction{op: opJump}))
				re.program[split].y = at()
			}
		}
		for _, j := range jumps {
			re.program[j].x = at()
		}
	case nodePossessive:
		put(instruction{op: opRun, set: n.set, min: n.min, max: n.max, slot: re.runs})
		re.runs++
	case nodeRepeat:
		return re.emitRepeat(n, branch, put)
	case nodeLook:
		look := branch(instruction{op: opLook, negated: n.negated, x: at() + 1})
		if err := re.emit(n.parts[0]); err != nil {
			return err
		}
		put(instruction{op: opMatch})
		re.program[look].y = at()
	case nodeBehind:
		put(instruction{op: opBehind, negated: n.negated, set: n.set})
	case nodeAssert:
		put(instruction{op: opAssert, assert: n.assert})
	}
	return nil
}

// emitRepeat appends min copies of the part, then a loop or max-min optional copies.
func (re *regex) emitRepeat(n *node, branch, put func(instruction) int) error {
	for range n.min {
		if err := re.emit(n.parts[0]); err != nil {
			return err
		}
	}
	// aim sets where a split goes: into the copy behind it first, or past it first when the repeat is lazy.
	aim := func(split, past int) {
		in := &re.program[split]
		in.x, in.y = split+1, past
		if n.lazy {
			in.x, in.y = in.y, in.x
		}
	}
	if n.max < 0 {
		split := branch(instruction{op: opSplit})
		if err := re.emit(n.parts[0]); err != nil {
			return err
		}
		put(instruction{op: opJump, x: split})
		aim(split, len(re.program))
		return nil
	}
	var splits []int
	for range n.max - n.min {
		splits = append(splits, branch(instruction{op: opSplit}))
		if err := re.emit(n.parts[0]); err != nil {
			return err
		}
	}
	for _, s := range splits {
		aim(s, len(re.program))
	}
	return nil
}
