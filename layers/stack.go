package layers

import "errors"

// A stacker is a kind of weight of which matrices that read one input can lie below one another and run as one.
type stacker interface {
	// stack returns the matrix that members, of which the first is the receiver, are together; nil where they differ in
	// what one matrix has one of.
	stack(members []Member) Weight
}

// stack returns one matrix for all members, or nil.
func stack(members []Member) Weight {
	if first, ok := members[0].Weight.(stacker); ok && len(members) > 1 {
		return first.stack(members)
	}
	return nil
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

// Named returns err with the name of the matrix that it is about, where it is a *ValueError that has none yet.
func Named(err error, name string) error {
	var bad *ValueError
	if errors.As(err, &bad) && bad.Name == "" {
		bad.Name = name
	}
	return err
}
