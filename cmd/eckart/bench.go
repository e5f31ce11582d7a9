package main

import (
	"context"

	"eckart/cmd/internal/bench"
	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
)

// benchCommand is `eckart bench`, which measures a model, and `eckart bench load`, which measures a server.
type benchCommand struct {
	Model benchModel `cmd:"" name:"run" default:"withargs" help:"Measure the speed of a model; the word run may be left out."`
	Load  benchLoad  `cmd:"" help:"Measure a server that speaks OpenAI's API, under load."`
}

// benchModel is `eckart bench [MODEL]`.
type benchModel struct {
	launch.ModelFlags
	launch.CompressFlags
	Prompt  []int    `short:"p" default:"512" placeholder:"N" help:"Tokens of a prompt; 0 for no such test. Default: 512."`
	Tokens  []int    `short:"n" default:"64" placeholder:"N" help:"Tokens to generate; 0 for no such test. Default: 64."`
	Depth   []int    `short:"d" default:"0" placeholder:"N" help:"Tokens in the cache before a test begins. Default: 0."`
	Batch   []int    `default:"1" placeholder:"N" help:"Sequences that generate at once. Default: 1."`
	Threads []int    `short:"t" placeholder:"N" help:"Processor threads. Default: the cores that this process may use."`
	Repeat  int      `short:"r" default:"5" placeholder:"N" help:"Repetitions, after one that is not counted. Default: 5."`
	Path    []string `default:"decoder" placeholder:"NAME" help:"What the tests go through: decoder (the model alone, the default), engine, http."`
	Format  string   `enum:"table,json,csv,markdown" default:"table" help:"table (the default), json, csv or markdown."`

	sweep int64 // bytes over which the read rate is measured, for tests; 0 for what a measurement takes
}

// Help says more than the line in the list of commands.
func (benchModel) Help() string {
	return `A test pp512 computes a prompt of 512 tokens, tg64 generates 64 tokens one by one, tg64x16 does so for 16 sequences at once, and "@ d4096" says that 4096 tokens of each sequence are in the cache already. Every list is combined with every other one. The share is that of the machine's read rate, measured beside each test, which reading the weights and the cache for the tokens takes up; weights that stay in the processor's cache can take it beyond 100 %.

` + "`eckart bench load URL` measures a server instead: `eckart bench load --help`."
}

// Run measures and prints what was measured, also when it is interrupted.
func (c *benchModel) Run(ctx context.Context, env command.Env) error {
	o, err := c.ModelOptions()
	if err == nil {
		err = c.Apply(&o, &c.ModelFlags)
	}
	if err != nil {
		return err
	}
	o.Progress = launch.Terminal(env.Stderr)
	options := bench.Options{
		Launch: o, Tests: bench.Tests(c.Path, c.Prompt, c.Tokens, c.Depth, c.Batch),
		Threads: c.Threads, Repeat: c.Repeat, Sweep: c.sweep, Progress: o.Progress,
	}
	if err := options.Check(); err != nil {
		return err
	}
	m, err := c.Open()
	if err != nil {
		return err
	}
	defer m.Close()
	ctx, stop := command.UntilSignal(ctx)
	defer stop()
	results, err := bench.Run(ctx, m, options)
	if len(results) > 0 {
		if err := bench.Write(env.Stdout, c.Format, results); err != nil {
			return err
		}
	}
	return err
}
