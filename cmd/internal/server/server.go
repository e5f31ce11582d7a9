// Package server is the command that serves a model over HTTP. It owns the flags, the listener, and what happens at
// start and at the end; what is served belongs to package openai, how a model is brought up to package launch.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"eckart/api/openai"
	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/cmd/internal/report"
)

// Command is `serve`.
type Command struct {
	launch.Flags

	Addr            string        `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address to listen on. Default: 127.0.0.1:8080."`
	ServedModelName string        `placeholder:"NAME" help:"Name of the model in the API. Default: that of its folder."`
	APIKeyFile      string        `name:"api-key-file" placeholder:"FILE" help:"File of API keys, one a line; requests need one of them."`
	CORS            string        `name:"cors" placeholder:"ORIGIN" help:"Origin whose web pages may call the server, or *. Default: none."`
	Queue           int           `placeholder:"N" help:"Requests that may wait for a slot; more are answered with 429. Default: 128."`
	ShutdownTimeout time.Duration `default:"30s" help:"How long requests may run on after SIGTERM. Default: 30s."`
	LogLevel        slog.Level    `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error. Default: info, a line for each request."`
	Pprof           string        `placeholder:"HOST:PORT" help:"Address to serve Go's profiles on. Default: none."`

	launch.Sampling `group:"What a request leaves open (the request goes first, then these, then the model's generation_config.json):"`
}

// Run serves until ctx is done or a signal comes, then lets requests under way finish.
func (c *Command) Run(ctx context.Context, env command.Env) error {
	ctx, stop := command.UntilSignal(ctx)
	defer stop()
	o, err := c.options(env)
	if err != nil {
		return err
	}
	defaults, err := c.Defaults()
	if err != nil {
		return err
	}
	keys, err := ReadKeys(c.APIKeyFile)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: c.LogLevel}))
	o.Logger = log

	// The address first: that it is taken should not come out after minutes of loading. Until the model is loaded,
	// requests are told so.
	listener, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return fmt.Errorf("listen on --addr %s: %w", c.Addr, reason(err))
	}
	defer listener.Close()
	if !loopback(listener.Addr()) && len(keys) == 0 {
		log.Warn("anyone who reaches this address may use the server: --api-key-file asks for a key", "addr", listener.Addr())
	}
	profiles, err := serveProfiles(c.Pprof)
	if err != nil {
		return err
	}
	defer profiles.Close()

	front := newFront(listener, log)
	defer front.Close()
	o.Stage = front.at
	i, err := load(ctx, c.Open, o)
	if err != nil || i == nil {
		return err
	}
	defer i.Model.Close()
	if i.Model.Report != nil {
		if err := report.Text(env.Stderr, i.Model.Report, false); err != nil {
			return errors.Join(err, i.Close())
		}
	}
	fmt.Fprint(env.Stderr, i.Summary())

	api, err := openai.New(openai.Options{
		Engine: i.Engine, Tokenizer: i.Tokenizer, Template: i.Template, Model: c.name(i.Model), Context: i.Plan.Context,
		Vocab: i.Model.Config.Vocab, Defaults: defaults, Generation: i.Model.Generation, APIKeys: keys, CORS: c.CORS,
		Loopback: loopback(listener.Addr()), Parallel: i.Plan.Slots, Version: command.Version(), Logger: log,
		Compression: i.Model.Report,
	})
	if err != nil {
		return errors.Join(err, i.Close())
	}
	if i.Model.Demo {
		fmt.Fprintf(env.Stderr, "to serve another: %s FOLDER, with a Hugging Face checkpoint (config.json, tokenizer.json, *.safetensors)\n", env.Program)
	}
	return errors.Join(c.serve(ctx, env.Stderr, log, i, front, api), i.Close())
}

// serve runs the engine and answers requests until ctx is done or the device fails.
func (c *Command) serve(ctx context.Context, stderr io.Writer, log *slog.Logger, i *launch.Instance, front *front, api *openai.Server) error {
	// The engine outlives ctx: requests under way need it.
	engine, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- i.Run(engine) }()

	front.open(api)
	fmt.Fprintf(stderr, "listening on http://%s\n", front.addr())

	var fault error
	select {
	case fault = <-ended: // a device fault: whoever watches this process starts it again
		api.Drain()
		drain, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		front.Shutdown(drain)
		return fmt.Errorf("run engine: %w", fault)
	case err := <-front.failed:
		stop()
		<-ended
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	log.Info("shutting down: requests under way may finish, a second signal ends at once", "timeout", c.ShutdownTimeout)
	api.Drain()
	drain, cancel := context.WithTimeout(context.Background(), c.ShutdownTimeout)
	defer cancel()
	err := front.Shutdown(drain)
	stop() // what is still running is cancelled
	if fault := <-ended; fault != nil && !errors.Is(fault, context.Canceled) {
		return fmt.Errorf("run engine: %w", fault)
	}
	if err != nil {
		log.Warn("requests were cut off at the end of --shutdown-timeout", "timeout", c.ShutdownTimeout)
	}
	return nil
}

// load brings the model up, unless ctx ends first: then it returns nil, and leaves the work to the end of the process.
func load(ctx context.Context, open func() (*launch.Model, error), o launch.Options) (*launch.Instance, error) {
	type result struct {
		instance *launch.Instance
		err      error
	}
	done := make(chan result, 1)
	go func() {
		m, err := open()
		if err != nil {
			done <- result{nil, err}
			return
		}
		i, err := launch.Start(ctx, m, o)
		if err != nil {
			err = errors.Join(err, m.Close())
		}
		done <- result{i, err}
	}()
	select {
	case r := <-done:
		return r.instance, r.err
	case <-ctx.Done():
		return nil, nil
	}
}

// options checks the flags that are about the model.
func (c *Command) options(env command.Env) (launch.Options, error) {
	o, err := c.Flags.Options()
	if err != nil {
		return o, err
	}
	if err := launch.CheckCount("queue", c.Queue); err != nil {
		return o, err
	}
	o.Queue = c.Queue
	o.Progress = launch.Terminal(env.Stderr)
	return o, nil
}

func (c *Command) name(m *launch.Model) string {
	if c.ServedModelName != "" {
		return c.ServedModelName
	}
	return m.Name
}

// loopback reports whether a bound address can be reached from this machine only.
func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// reason takes off an error of package net what repeats the address.
func reason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
