package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/cmd/internal/load"
	"eckart/cmd/internal/server"
)

// benchLoad is `eckart bench load`.
type benchLoad struct {
	URL        string        `arg:"" optional:"" name:"url" help:"Address of a server that speaks OpenAI's API."`
	Spawn      string        `placeholder:"MODEL" help:"Instead of a URL: serve this model for the measurement, on a free port; demo is the one that is built in."`
	ServeFlags string        `placeholder:"FLAGS" help:"Flags of the server that --spawn starts, as one word: --serve-flags='--threads 2'."`
	Clients    []int         `placeholder:"N" help:"Clients that send one request after the other. Default: 1."`
	Rate       []float64     `placeholder:"R" help:"Instead of clients: requests a second that arrive at random, answered or not."`
	Input      int           `default:"512" placeholder:"N" help:"Tokens of a prompt, as nearly as words allow. Default: 512."`
	Output     int           `default:"64" placeholder:"N" help:"Tokens of an answer. Default: 64."`
	Requests   int           `placeholder:"N" help:"Requests of each load. Default: 4 for each client, and at least 16."`
	Duration   time.Duration `placeholder:"TIME" help:"How long each load sends requests, such as 30s, instead of --requests."`
	Chat       bool          `help:"Ask for chats instead of completions."`
	ModelName  string        `name:"model" placeholder:"NAME" help:"Name of the model in requests. Default: the first that the server lists."`
	APIKeyFile string        `name:"api-key-file" placeholder:"FILE" help:"File of which the first line is the key to send."`
	IgnoreEOS  bool          `name:"ignore-eos" default:"true" negatable:"" help:"Have answers go on until --output (the default); servers that refuse the field ignore_eos need --no-ignore-eos."`
	Seed       *uint64       `placeholder:"N" help:"Makes prompts and arrivals repeatable. A server with a prefix cache then answers a second run faster."`
	Timeout    time.Duration `default:"10m" placeholder:"TIME" help:"Most time of a request. Default: 10m."`
	Format     string        `enum:"table,json,csv,markdown" default:"table" help:"table (the default), json, csv or markdown."`
}

// Help says more than the line in the list of commands.
func (benchLoad) Help() string {
	return `The times are vLLM's: TTFT from sending to the first streamed output, TPOT (E2EL - TTFT) / (output tokens - 1) of each request, ITL between two outputs of a stream, E2EL from sending to the last output. Prompts are random words, others in every request, so that no prefix cache helps. Loads that are listed follow one another.`
}

// demoModel is what --spawn calls the built-in model.
const demoModel = "demo"

// Run loads the server and prints what was measured, also when it is interrupted.
func (c *benchLoad) Run(ctx context.Context, env command.Env) error {
	levels, err := c.levels()
	if err != nil {
		return err
	}
	keys, err := server.ReadKeys(c.APIKeyFile)
	if err != nil {
		return err
	}
	ctx, stop := command.UntilSignal(ctx)
	defer stop()
	if c.Spawn != "" {
		s, err := c.spawn(ctx, levels)
		if err != nil {
			return err
		}
		c.URL = s.URL
		return errors.Join(c.measure(ctx, env, levels, keys), s.Stop())
	}
	return c.measure(ctx, env, levels, keys)
}

// measure loads the server at URL.
func (c *benchLoad) measure(ctx context.Context, env command.Env, levels []load.Level, keys []string) error {
	key := ""
	if len(keys) > 0 {
		key = keys[0]
	}
	client, err := load.NewClient(c.URL, key, c.Chat, c.Timeout)
	if err != nil {
		return &command.UsageError{Err: err}
	}
	if client.Model = c.ModelName; client.Model == "" {
		if err := client.FindModel(ctx); err != nil {
			return err
		}
	}
	seed := rand.Uint64()
	if c.Seed != nil {
		seed = *c.Seed
	}
	results, err := load.Run(ctx, load.Options{
		Client: client, Levels: levels, Input: c.Input, Output: c.Output, Requests: c.Requests, Duration: c.Duration,
		Seed: seed, Progress: launch.Terminal(env.Stderr), IgnoreEOS: c.IgnoreEOS,
	})
	if len(results) == 0 {
		return err
	}
	if err := load.Write(env.Stdout, c.Format, results); err != nil {
		return err
	}
	done := 0
	for _, r := range results {
		done += r.Done
		for _, f := range r.Failures {
			fmt.Fprintf(env.Stderr, "%v: %d of %d requests failed: %s\n", r.Level, f.Count, r.Done+r.Failed, f.Message)
		}
		if r.Uncounted > 0 {
			fmt.Fprintf(env.Stderr, "%v: the server sent no usage for %d requests: streamed outputs are counted as tokens\n", r.Level, r.Uncounted)
		}
	}
	if err == nil && done == 0 {
		err = errors.New("no request was answered")
	}
	return err
}

// levels checks the flags and returns the loads.
func (c *benchLoad) levels() ([]load.Level, error) {
	usage := func(format string, args ...any) error {
		return &command.UsageError{Err: fmt.Errorf(format, args...)}
	}
	switch {
	case (c.URL == "") == (c.Spawn == ""):
		return nil, usage("either the URL of a server is needed, or --spawn MODEL")
	case c.ServeFlags != "" && c.Spawn == "":
		return nil, usage("--serve-flags are for the server of --spawn")
	case len(c.Clients) > 0 && len(c.Rate) > 0:
		return nil, usage("--clients and --rate exclude each other")
	case c.Requests > 0 && c.Duration > 0:
		return nil, usage("--requests and --duration exclude each other")
	case c.Duration < 0:
		return nil, usage("--duration must be positive, got %v", c.Duration)
	case c.Timeout <= 0:
		return nil, usage("--timeout must be positive, got %v", c.Timeout)
	case c.Input < 1:
		return nil, usage("--input must be at least 1, got %d", c.Input)
	case c.Output < 1:
		return nil, usage("--output must be at least 1, got %d", c.Output)
	}
	for _, n := range []struct {
		flag  string
		value int
	}{{"input", c.Input}, {"output", c.Output}, {"requests", c.Requests}} {
		if err := launch.CheckCount(n.flag, n.value); err != nil {
			return nil, err
		}
	}
	var all []load.Level
	for _, r := range c.Rate {
		if !(r > 0 && r <= 1e6) {
			return nil, usage("--rate must be more than 0 and at most 1e6, got %g", r)
		}
		all = append(all, load.Level{Rate: r})
	}
	for _, n := range c.Clients {
		if n < 1 || n > 1<<16 {
			return nil, usage("--clients must be from 1 to %d, got %d", 1<<16, n)
		}
		all = append(all, load.Level{Clients: n})
	}
	if len(all) == 0 {
		all = append(all, load.Level{Clients: 1})
	}
	return all, nil
}

// spawn starts a server, with a slot for every client unless --serve-flags say otherwise.
func (c *benchLoad) spawn(ctx context.Context, levels []load.Level) (*load.Spawned, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, to start it as a server: %w", err)
	}
	slots := 16
	for _, l := range levels {
		slots = max(slots, l.Clients)
	}
	args := []string{"serve", "--addr", "127.0.0.1:0", "--log-level", "error", "--slots", strconv.Itoa(slots)}
	args = slices.Concat(args, strings.Fields(c.ServeFlags))
	if c.Spawn != demoModel {
		args = append(args, "--", c.Spawn)
	}
	return load.Spawn(ctx, program, args...)
}
