// Command eckart is the toolbox: it serves a model, chats with it in the terminal, says what a checkpoint holds and
// needs, scores text, and measures how fast it runs.
package main

import (
	"os"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/server"
)

// commands are the commands there are, each a struct of its flags.
type commands struct {
	Serve    server.Command  `cmd:"" help:"Serve a model with OpenAI's HTTP API."`
	Chat     chatCommand     `cmd:"" help:"Chat with a model in the terminal."`
	Inspect  inspectCommand  `cmd:"" help:"Say what a checkpoint holds and what it needs in memory."`
	Compress compressCommand `cmd:"" help:"Compress a model and write it as a checkpoint."`
	Cache    cacheCommand    `cmd:"" help:"Say what compressing has left in the cache, or remove it."`
	Eval     evalCommand     `cmd:"" help:"Score a text: the perplexity of a model, and how far it is from another."`
	Bench    benchCommand    `cmd:"" help:"Measure the speed of a model or a server."`
	Version  versionCommand  `cmd:"" help:"Print the version."`
}

func main() {
	os.Exit(command.Main("eckart", "Runs language models from Hugging Face checkpoints.", new(commands)))
}
