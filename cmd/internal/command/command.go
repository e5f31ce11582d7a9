// Package command turns arguments into a run of a program: it owns how flags are read, how help, errors and
// tables are printed, and the exit status. What a command does is the business of its own type.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// A Runner is a command: a struct of flags, as kong reads them, that can run.
type Runner interface {
	// Run returns when the command is done, or soon after ctx is. Its error is printed as one line.
	Run(ctx context.Context, env Env) error
}

// Env is what a command has of the world.
type Env struct {
	Program        string // as it is called, its command included: "eckart serve"
	Stdin          *os.File
	Stdout, Stderr io.Writer
}

// The exit statuses of all programs here.
const (
	OK       = 0
	Failed   = 1
	BadUsage = 2
)

// A UsageError is a flag's or an argument's value that the command cannot work with. It exits with BadUsage.
type UsageError struct{ Err error }

// Error returns the text of the error inside.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the error inside.
func (e *UsageError) Unwrap() error { return e.Err }

// Main runs the program called name with the process's arguments and returns its exit status.
func Main(name, description string, grammar any) int {
	env := Env{Program: name, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	return Run(context.Background(), env, description, grammar, os.Args[1:])
}

// UntilSignal returns a context that ends with the first SIGINT or SIGTERM. From then on signals do what they do without
// a handler: the second one ends the process.
func UntilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// Run is Main with its surroundings as arguments. grammar points to a Runner, or to a struct of commands that are.
func Run(ctx context.Context, env Env, description string, grammar any, args []string) int {
	exit := -1 // set when kong has printed the help
	parser, err := kong.New(grammar, kong.Name(env.Program), kong.Description(description),
		kong.Writers(env.Stdout, env.Stderr), kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}), kong.Help(help),
		kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		panic(fmt.Sprintf("BUG: grammar of %s: %v", env.Program, err))
	}
	parsed, err := parser.Parse(args)
	if exit >= 0 {
		return exit
	}
	if err != nil {
		return fail(env, &UsageError{err})
	}
	for _, word := range strings.Fields(parsed.Command()) {
		if !strings.HasPrefix(word, "<") { // an argument's place
			env.Program += " " + word
		}
	}
	return fail(env, parsed.Run(env))
}

// help prints the help of a command. Of one that has commands itself, that of the one which its name alone stands for:
// its flags are what the user types after the name.
func help(o kong.HelpOptions, ctx *kong.Context) error {
	if n := ctx.Selected(); n != nil && n.DefaultCmd != nil {
		ctx.Path = append(ctx.Path, &kong.Path{Parent: n, Command: n.DefaultCmd})
	}
	return kong.DefaultHelpPrinter(o, ctx)
}

// fail prints err, if it is one, and returns the exit status.
func fail(env Env, err error) int {
	var usage *UsageError
	switch {
	case err == nil:
		return OK
	case errors.As(err, &usage):
		fmt.Fprintf(env.Stderr, "%s: %v (%s --help lists the flags)\n", env.Program, err, env.Program)
		return BadUsage
	default:
		fmt.Fprintf(env.Stderr, "%s: %v\n", env.Program, err)
		return Failed
	}
}

// Version returns the version of the program, which the go command derives from the repository; "devel" when it was
// built outside of one, as go run does.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
