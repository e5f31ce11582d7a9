package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"time"

	"eckart/api/openai"
	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/model/tokenizer/chat"
)

// chatCommand is `eckart chat`.
type chatCommand struct {
	launch.Flags
	launch.Sampling `group:"How tokens are chosen (these go before the model's generation_config.json):"`

	System string  `placeholder:"TEXT" help:"System message to begin with."`
	Seed   *uint64 `placeholder:"N" help:"Makes replies repeatable."`
}

const chatHelp = "Type a message, and Ctrl-C to stop a reply. /reset forgets the conversation, /exit ends it."

// Run reads messages from standard input, one a line, and streams the replies to standard output. It talks to the model
// as any client would, through a server of its own on loopback, so that a chat here is what a chat there is.
func (c *chatCommand) Run(ctx context.Context, env command.Env) error {
	o, err := c.Options()
	if err != nil {
		return err
	}
	defaults, err := c.Defaults()
	if err != nil {
		return err
	}
	if o.Slots == 0 {
		o.Slots = 1
	}
	o.Progress = launch.Terminal(env.Stderr)
	m, err := c.Open()
	if err != nil {
		return err
	}
	defer m.Close()
	i, err := launch.Start(ctx, m, o)
	if err != nil {
		return err
	}
	if i.Template == nil {
		return errors.Join(fmt.Errorf("chat with %s: %w (--chat-template FILE names one)", m.Name, chat.ErrNone), i.Close())
	}
	key := rand.Text()
	api, err := openai.New(openai.Options{
		Engine: i.Engine, Tokenizer: i.Tokenizer, Template: i.Template, Model: m.Name, Context: i.Plan.Context, Vocab: m.Config.Vocab,
		Defaults: defaults, Generation: m.Generation, APIKeys: []string{key}, Loopback: true, Version: command.Version(),
	})
	if err != nil {
		return errors.Join(err, i.Close())
	}
	talk := &conversation{
		client: client{key: key, model: m.Name, seed: c.Seed},
		system: c.System, terminal: launch.IsTerminal(env.Stdin), out: env.Stdout, remarks: env.Stderr,
	}
	if talk.terminal {
		fmt.Fprint(env.Stderr, i.Summary(), chatHelp, "\n")
	}
	return errors.Join(talk.over(ctx, i, api, env.Stdin), i.Close())
}

// over holds the conversation over an engine that runs meanwhile.
func (c *conversation) over(ctx context.Context, i *launch.Instance, api *openai.Server, in io.Reader) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen on loopback: %w", err)
	}
	c.url = "http://" + listener.Addr().String()
	server := openai.NewHTTPServer(api, slog.New(slog.DiscardHandler))
	go server.Serve(listener)
	defer server.Close()

	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- i.Run(running) }()
	err = c.run(ctx, in)
	stop()
	if fault := <-ended; !errors.Is(fault, context.Canceled) {
		err = errors.Join(err, fault)
	}
	return err
}

// A conversation is a chat under way.
type conversation struct {
	client
	system   string
	messages []message
	terminal bool // someone types: prompts and remarks are welcome
	out      io.Writer
	remarks  io.Writer
}

// run answers line by line until the input ends or says so.
func (c *conversation) run(ctx context.Context, in io.Reader) error {
	c.reset()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<24)
	for {
		if c.terminal {
			fmt.Fprint(c.remarks, "\n> ")
		}
		if !lines.Scan() {
			return lines.Err()
		}
		switch text := strings.TrimSpace(lines.Text()); text {
		case "":
		case "/exit", "/quit":
			return nil
		case "/reset":
			c.reset()
		case "/help":
			fmt.Fprintln(c.remarks, chatHelp)
		default:
			if err := c.turn(ctx, text); err != nil {
				return err
			}
		}
	}
}

// reset forgets everything but the system message.
func (c *conversation) reset() {
	c.messages = nil
	if c.system != "" {
		c.messages = []message{{"system", c.system}}
	}
}

// turn sends one message and streams the reply, which Ctrl-C stops. A refusal leaves the conversation as it was; with
// nobody at the keyboard to hear it, it ends the program.
func (c *conversation) turn(ctx context.Context, text string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	asked := append(c.messages, message{"user", text})
	start := time.Now()
	var first time.Time
	var reply strings.Builder
	tokens, err := c.send(ctx, asked, func(piece string) error {
		if first.IsZero() {
			first = time.Now()
		}
		reply.WriteString(piece)
		_, err := io.WriteString(c.out, piece)
		return err
	})
	if reply.Len() > 0 {
		fmt.Fprintln(c.out)
	}
	var refused *refusal
	switch {
	case errors.As(err, &refused) && c.terminal:
		fmt.Fprintln(c.remarks, refused)
		return nil
	case err != nil && ctx.Err() == nil:
		return err
	}
	c.messages = append(asked, message{"assistant", reply.String()})
	if seconds := time.Since(first).Seconds(); c.terminal && tokens > 1 && seconds > 0 {
		fmt.Fprintf(c.remarks, "[%d tokens, %.1f a second, the first after %d ms]\n", tokens, float64(tokens-1)/seconds, first.Sub(start).Milliseconds())
	}
	return nil
}
