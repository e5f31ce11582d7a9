package main

import (
	"fmt"
	"strings"
)

// usage is what ptxas says that a kernel takes.
type usage struct {
	module, kernel string
	registers      int // of a thread
	stack, spills  int // bytes of a thread: all that lies in memory; what is stored and loaded of it for want of registers
}

// usages reads the output of ptxas -v.
func usages(module string, out []byte) []usage {
	var all []usage
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "ptxas info"))
		line = strings.TrimSpace(strings.TrimPrefix(line, ":"))
		if _, rest, found := strings.Cut(line, "Compiling entry function '"); found {
			name, _, _ := strings.Cut(rest, "'")
			all = append(all, usage{module: module, kernel: name})
		}
		if len(all) == 0 {
			continue
		}
		u := &all[len(all)-1]
		var stack, stores, loads, registers int
		if n, _ := fmt.Sscanf(line, "%d bytes stack frame, %d bytes spill stores, %d bytes spill loads", &stack, &stores, &loads); n == 3 {
			u.stack, u.spills = stack, stores+loads
		}
		if n, _ := fmt.Sscanf(line, "Used %d registers", &registers); n == 1 {
			u.registers = registers
		}
	}
	return all
}
