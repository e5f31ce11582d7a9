// Package openai is the OpenAI-compatible http.Handler over an engine. It owns requests and replies on the wire:
// which fields are honoured, ignored or refused, their validation, the events of a stream, and the mapping of errors to
// HTTP statuses. It owns no part of inference: it renders the chat template, encodes, hands a runtime.Request to the
// engine and writes what comes back. docs/api.md is the contract that it keeps with clients.
//
// A request passes server.go (host, origin, key, panics, log), routes.go (path and method), body.go and json.go (a
// capped, strict reading of the body), fields.go (one table that knows every field), messages.go (chat template) and
// generate.go (one engine sequence per choice), and leaves through sse.go or reply.go. Nothing a client sends sizes an
// allocation without a cap, and nothing it sends is answered with a 5xx.
package openai
