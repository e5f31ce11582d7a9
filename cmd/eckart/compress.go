package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/cmd/internal/report"
	"eckart/model"
	"eckart/model/compress"
	"eckart/model/packed"
)

// compressCommand is `eckart compress`.
type compressCommand struct {
	launch.SizeFlags
	launch.CompressFlags
	Output   string `short:"o" placeholder:"DIR" help:"Folder to write the compressed model to. A run that was broken off goes on there."`
	Verbose  bool   `help:"Print a line for every matrix."`
	PlanOnly bool   `help:"Print the plan, as JSON, and compress nothing."`
	Threads  int    `placeholder:"N" help:"Processor threads. Default: the cores that this process may use."`
}

// Help says more than the line in the list of commands.
func (compressCommand) Help() string {
	return "Compresses a model as serve does with the same flags, and writes it as a checkpoint: serving that gives the same model, without the work. docs/format.md says what is written."
}

// Run compresses and writes.
func (c *compressCommand) Run(ctx context.Context, env command.Env) error {
	o, err := c.options(env)
	if err != nil {
		return err
	}
	m, err := c.Open()
	if err != nil {
		return err
	}
	defer m.Close()
	ctx, stop := command.UntilSignal(ctx)
	defer stop()
	if c.PlanOnly {
		p, err := launch.PlanOnly(ctx, m, o)
		if err != nil {
			return err
		}
		return command.WriteJSON(env.Stdout, p)
	}
	if err := launch.Compress(ctx, m, o); err != nil {
		return err
	}
	if err := report.Text(env.Stdout, m.Report, c.Verbose); err != nil {
		return err
	}
	return c.write(ctx, m)
}

// options checks the flags.
func (c *compressCommand) options(env command.Env) (launch.Options, error) {
	o, err := c.SizeOptions()
	if err == nil {
		err = launch.CheckCount("threads", c.Threads)
	}
	if err == nil {
		err = c.Apply(&o, &c.ModelFlags)
	}
	switch {
	case err != nil:
		return o, err
	case !c.Asked():
		return o, &command.UsageError{Err: fmt.Errorf("nothing says how far to compress: give --memory, --ratio, --bits, --latency, --kl, --method or --plan")}
	case c.Output == "" && !c.PlanOnly:
		return o, &command.UsageError{Err: fmt.Errorf("-o names the folder to write to, and is missing")}
	case c.Output != "" && c.PlanOnly:
		return o, &command.UsageError{Err: fmt.Errorf("--plan-only writes no model: leave out -o")}
	}
	o.Threads, o.Progress = c.Threads, launch.Terminal(env.Stderr)
	return o, nil
}

// write writes the compressed model.
func (c *compressCommand) write(ctx context.Context, m *launch.Model) error {
	modules := m.RoundedTables()
	for _, p := range m.Compression.Modules {
		if p.Form != compress.FormKeep {
			modules = append(modules, p.Name)
		}
	}
	slices.Sort(modules)
	plan, err := json.Marshal(m.Compression)
	if err != nil {
		return err
	}
	calibration, err := json.Marshal(m.Report.Calibration)
	if err != nil {
		return err
	}
	return model.Pack(ctx, c.Output, m.Source, modules, packed.Content{Manifest: packed.Manifest{
		Plan: plan, Calibration: string(calibration), Producer: "eckart " + command.Version(),
	}})
}
