package launch

import "eckart/cmd/internal/command"

// Bytes is an amount of memory, in flags and in what the user is told.
type Bytes = command.Bytes
