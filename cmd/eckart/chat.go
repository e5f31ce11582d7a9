package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"eckart/api/openai"
	"eckart/cmd/internal/command"
	"eckart/cmd/internal/launch"
	"eckart/model/tokenizer"
	"eckart/model/tokenizer/chat"
	"eckart/model/tokenizer/jinja"
	"eckart/runtime"
)

// chatCommand is `eckart chat`.
type chatCommand struct {
	launch.Flags
	launch.Sampling `group:"How tokens are chosen (these go before the model's generation_config.json):"`

	System string  `placeholder:"TEXT" help:"System message to begin with."`
	Seed   *uint64 `placeholder:"N" help:"Makes replies repeatable."`
}

// A message is one turn, as templates know it.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// A conversation is a chat under way.
type conversation struct {
	instance *launch.Instance
	sampling runtime.Sampling
	most     int // tokens of a reply; 0 for what the context holds
	system   string
	messages []message
	terminal bool // someone types: prompts and remarks are welcome
	out      io.Writer
	remarks  io.Writer
}

const chatHelp = "Type a message, and Ctrl-C to stop a reply. /reset forgets the conversation, /exit ends it."

// Run reads messages from standard input, one a line, and streams the replies to standard output.
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
	terminal := launch.IsTerminal(env.Stdin)
	if f, ok := env.Stderr.(*os.File); ok && launch.IsTerminal(f) {
		o.Progress = f
	}
	m, err := launch.Open(c.Model)
	if err != nil {
		return err
	}
	defer m.Close()
	i, err := launch.Start(m, o)
	if err != nil {
		return err
	}
	if i.Template == nil {
		return errors.Join(fmt.Errorf("chat with %s: %w (--chat-template FILE names one)", m.Name, chat.ErrNone), i.Close())
	}
	if terminal {
		fmt.Fprint(env.Stderr, i.Summary(), chatHelp, "\n")
	}

	sampling := openai.BaseSampling(m.Generation, defaults)
	sampling.Seed = c.Seed
	talk := &conversation{
		instance: i, sampling: sampling, system: c.System, terminal: terminal,
		out: env.Stdout, remarks: env.Stderr,
	}
	if c.MaxTokens != nil {
		talk.most = *c.MaxTokens
	}
	talk.reset()
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- i.Run(running) }()
	err = talk.run(ctx, env.Stdin)
	stop()
	if fault := <-ended; fault != nil && !errors.Is(fault, context.Canceled) {
		err = errors.Join(err, fault)
	}
	return errors.Join(err, i.Close())
}

// run answers line by line until the input ends or says so.
func (c *conversation) run(ctx context.Context, in io.Reader) error {
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

// turn sends one message and streams the reply. What the user can mend is a remark and leaves the conversation as it
// was; without anybody at the keyboard it is an error.
func (c *conversation) turn(ctx context.Context, text string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	asked := append(c.messages, message{"user", text})
	reply, err := c.reply(ctx, asked)
	var overflow *runtime.ContextError
	var raised *jinja.RaisedError
	switch {
	case err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil:
		c.messages = append(asked, message{"assistant", reply})
		return nil
	case errors.As(err, &overflow):
		err = fmt.Errorf("the conversation has %d tokens and the context holds %d: /reset forgets it, --context may raise the limit", overflow.Prompt, overflow.Context)
	case errors.As(err, &raised):
		err = fmt.Errorf("the chat template refuses the messages: %s", raised.Message)
	default:
		return err
	}
	if !c.terminal {
		return err
	}
	fmt.Fprintln(c.remarks, err)
	return nil
}

// reply streams the reply to messages and returns it, as far as it got.
func (c *conversation) reply(ctx context.Context, messages []message) (string, error) {
	prompt, err := c.prompt(messages)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	start, tokens := time.Now(), 0
	var first time.Duration
	request := runtime.Request{Prompt: prompt, Sampling: c.sampling, MaxTokens: c.most, Logprobs: -1}
	for token, e := range c.instance.Engine.Generate(ctx, request) {
		if e != nil {
			err = e
			break
		}
		if tokens++; tokens == 1 {
			first = time.Since(start)
		}
		text.WriteString(token.Text)
		if _, err := io.WriteString(c.out, token.Text); err != nil {
			return text.String(), err
		}
	}
	if tokens > 0 {
		fmt.Fprintln(c.out)
	}
	if after := time.Since(start) - first; c.terminal && tokens > 1 && after > 0 {
		fmt.Fprintf(c.remarks, "[%d tokens, %.1f a second, the first after %d ms]\n", tokens, float64(tokens-1)/after.Seconds(), first.Milliseconds())
	}
	return text.String(), err
}

// prompt renders the template over messages and encodes the result.
func (c *conversation) prompt(messages []message) ([]int32, error) {
	raw, err := json.Marshal(messages)
	if err != nil {
		return nil, fmt.Errorf("render chat template: %w", err)
	}
	value, err := jinja.ParseJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("render chat template: %w", err)
	}
	text, err := c.instance.Template.Render(chat.Input{Messages: value, AddGenerationPrompt: true, Now: time.Now})
	if err != nil {
		return nil, err
	}
	return c.instance.Tokenizer.Encode(text, tokenizer.EncodeOptions{ParseSpecial: true}), nil
}
