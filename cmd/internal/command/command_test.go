package command_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"eckart/cmd/internal/command"
)

type probe struct {
	Count int    `help:"How many."`
	Path  string `arg:"" optional:""`
}

func (p *probe) Run(ctx context.Context, env command.Env) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case p.Count < 0:
		return &command.UsageError{Err: errors.New("--count must not be negative, got -1")}
	case p.Path == "bad":
		return errors.New("open bad: no such file")
	}
	_, err := env.Stdout.Write([]byte("ran"))
	return err
}

// TestRun holds the exit status and what is printed: one line for an error, never the whole help.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		args           string
		status         int
		stdout, stderr string // what they contain; "" for nothing
	}{
		{"", command.OK, "ran", ""},
		{"--count 3 good", command.OK, "ran", ""},
		{"--help", command.OK, "--count", ""},
		{"--cuont 3", command.BadUsage, "", `unknown flag --cuont, did you mean "--count"?`},
		{"--count three", command.BadUsage, "", "--count"},
		{"a b", command.BadUsage, "", "unexpected argument b"},
		{"--count=-1", command.BadUsage, "", "must not be negative"},
		{"bad", command.Failed, "", "prog: open bad: no such file\n"},
	} {
		var stdout, stderr bytes.Buffer
		env := command.Env{Program: "prog", Stdout: &stdout, Stderr: &stderr}
		status := command.Run(context.Background(), env, "A probe.", new(probe), strings.Fields(c.args))
		if status != c.status {
			t.Errorf("%q: status %d, want %d", c.args, status, c.status)
		}
		for _, out := range []struct{ name, got, want string }{{"stdout", stdout.String(), c.stdout}, {"stderr", stderr.String(), c.stderr}} {
			if !strings.Contains(out.got, out.want) || (out.want == "") != (out.got == "") {
				t.Errorf("%q: %s %q, want %q", c.args, out.name, out.got, out.want)
			}
		}
		if strings.Count(stderr.String(), "\n") > 1 {
			t.Errorf("%q: more than a line on stderr:\n%s", c.args, stderr.String())
		}
	}
}
