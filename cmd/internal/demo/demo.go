// Package demo holds the model that the commands serve when they are given none. It lies in the program itself; only
// commands import it, so that nothing else carries its 14 MB.
package demo

import (
	"fmt"

	"eckart/model/checkpoint"
)

// Name is the name that the model is served under.
const Name = "gopher-dense"

// About says in a sentence what to expect of the model.
const About = "a demonstration of 7 million parameters that writes plausible Go and knows nothing else"

// Open opens the model, from the program's own memory.
func Open() (*checkpoint.Checkpoint, error) {
	c, err := checkpoint.OpenFS(files, Name)
	if err != nil {
		return nil, fmt.Errorf("open the built-in model: %w", err)
	}
	return c, nil
}
