package layers

// A Stacker is a kind of weight of which matrices that read one input can lie below one another and run as one. Kinds in
// packages below this one implement it where they have something to gain.
type Stacker interface {
	// Stack returns the matrix that members, of which the first is the receiver, are together; nil where they differ in
	// what one matrix has one of. Members have no biases. Errors of the result's Bind are about the members, by Named.
	Stack(members []Member) Weight
}

// Below returns the matrix that members, at least one, are below one another: (sum of outs, in). Neighbours that can
// be stacked are, and run as one. Biases are not looked at.
func Below(members []Member) Weight {
	var runs []Member
	for len(members) > 0 {
		run, n := members[0], 1
		if s, ok := run.Weight.(Stacker); ok {
			for i := len(members); i > 1; i-- {
				if w := s.Stack(members[:i]); w != nil {
					run, n = Member{Weight: w}, i
					break
				}
			}
		}
		runs, members = append(runs, run), members[n:]
	}
	if len(runs) == 1 {
		return runs[0].Weight
	}
	return &blocks{members: runs}
}

// spread calls read for each member that has some of the n rows from row on, of members below one another: for count rows
// of member i, its rows from on, which are wanted at row at of the result. An error is given the member's name.
func spread(members []Member, row, n int, read func(i, from, count, at int) error) error {
	at := 0
	for i, m := range members {
		rows, _ := m.Weight.Dims()
		if count := min(rows-row, n-at); row < rows && count > 0 {
			if err := read(i, row, count, at); err != nil {
				return Named(err, m.Name)
			}
			at += count
		}
		row = max(0, row-rows)
	}
	return nil
}
