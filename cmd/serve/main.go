// Command serve answers OpenAI's HTTP API from a Hugging Face checkpoint. `eckart serve` is the same command.
package main

import (
	"os"

	"eckart/cmd/internal/command"
	"eckart/cmd/internal/server"
)

func main() {
	os.Exit(command.Main("serve", "Serves a model with OpenAI's HTTP API.", new(server.Command)))
}
