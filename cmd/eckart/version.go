package main

import (
	"context"
	"fmt"
	"runtime"

	"eckart/cmd/internal/command"
)

// versionCommand is `eckart version`.
type versionCommand struct{}

// Run prints the version of the program, of Go, and of the platform.
func (versionCommand) Run(_ context.Context, env command.Env) error {
	_, err := fmt.Fprintf(env.Stdout, "eckart %s %s %s/%s\n", command.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
