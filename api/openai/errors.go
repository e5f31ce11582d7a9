package openai

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"eckart/runtime"
)

// The values of error.type, OpenAI's own.
const (
	kindInvalid   = "invalid_request_error"
	kindKey       = "authentication_error"
	kindForbidden = "permission_error"
	kindNotFound  = "not_found_error"
	kindLimit     = "rate_limit_error"
	kindServer    = "server_error"
)

// A requestError is an error as the client sees it. Its status is below 500 for whatever a client did: OpenAI's
// libraries send a request again after a 5xx.
type requestError struct {
	status     int
	kind       string        // error.type
	message    string        // one sentence
	param      string        // the field at fault, as a path; "" is null on the wire
	code       string        // a stable word for programs
	retryAfter time.Duration // for 429 and 503: when to come back
	closeAfter bool          // the connection is of no further use: its body was not read
}

// Error returns the sentence that the client is sent.
func (e *requestError) Error() string { return e.message }

// invalid is the refusal of a field's value.
func invalid(param, code, format string, args ...any) error {
	return &requestError{status: 400, kind: kindInvalid, param: param, code: code, message: fmt.Sprintf(format, args...)}
}

// statusClientGone is what the log shows for a client that left before its answer; nothing is sent.
const statusClientGone = 499

// toRequestError is the one place where an error becomes a status: errors of this package pass through, those of the
// engine and of the template engine are translated, anything else is our fault and is not explained to the client.
func toRequestError(err error, retryAfter time.Duration) *requestError {
	var re *requestError
	var overflow *runtime.ContextError
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &re):
		return re
	case errors.As(err, &overflow):
		return &requestError{
			status: 400, kind: kindInvalid, code: "context_length_exceeded",
			message: overflowMessage(overflow),
		}
	case errors.As(err, &large):
		return tooLarge(large.Limit)
	case errors.Is(err, runtime.ErrInvalid):
		return &requestError{status: 400, kind: kindInvalid, code: "invalid_value", message: "the engine refuses the request: " + err.Error()}
	case errors.Is(err, runtime.ErrQueueFull):
		return &requestError{
			status: 429, kind: kindLimit, code: "queue_full", retryAfter: retryAfter,
			message: "the server's queue is full: try again later",
		}
	case errors.Is(err, runtime.ErrClosed):
		return draining(retryAfter)
	case errors.Is(err, runtime.ErrFault):
		return &requestError{status: 500, kind: kindServer, code: "engine_failed", message: "the engine has stopped after a fault of the device"}
	case errors.Is(err, context.Canceled):
		return &requestError{status: statusClientGone, kind: kindServer, code: "client_closed_request", message: "the client left"}
	}
	return &requestError{status: 500, kind: kindServer, code: "internal_error", message: "the server could not answer: the cause is in its log"}
}

func overflowMessage(e *runtime.ContextError) string {
	if e.MaxTokens > 0 && e.Prompt < e.Context {
		return fmt.Sprintf("the context holds %d tokens: the prompt has %d and max_tokens asks for %d more; shorten the prompt, "+
			"lower max_tokens to %d, or start the server with a larger --context", e.Context, e.Prompt, e.MaxTokens, e.Context-e.Prompt)
	}
	return fmt.Sprintf("the context holds %d tokens and the prompt has %d, which leaves no room for an answer: shorten it, "+
		"or start the server with a larger --context", e.Context, e.Prompt)
}

func tooLarge(limit int64) *requestError {
	return &requestError{
		status: 413, kind: kindInvalid, code: "request_too_large", closeAfter: true,
		message: fmt.Sprintf("the body is larger than the server's limit of %d bytes", limit),
	}
}

func draining(retryAfter time.Duration) *requestError {
	return &requestError{
		status: 503, kind: kindServer, code: "shutting_down", retryAfter: retryAfter,
		message: "the server is shutting down and takes no new work",
	}
}

// append writes the error as OpenAI's error object.
func (e *requestError) append(b []byte) []byte {
	b = append(b, `{"error":{"message":`...)
	b = appendString(b, e.message)
	b = append(b, `,"type":`...)
	b = appendString(b, e.kind)
	b = append(b, `,"param":`...)
	if e.param == "" {
		b = append(b, "null"...)
	} else {
		b = appendString(b, e.param)
	}
	b = append(b, `,"code":`...)
	b = appendString(b, e.code)
	return append(b, "}}"...)
}

// writeError answers with err, unless the client has left or has already been answered.
func (s *Server) writeError(w *response, r *http.Request, err error) {
	e := toRequestError(err, s.o.RetryAfter)
	if e.status == 500 {
		s.o.Logger.Error("request failed", "id", w.id, "path", clip(printable(r.URL.Path)), "error", err)
	}
	w.failure = e
	if w.status != 0 {
		return
	}
	if e.status == statusClientGone {
		w.status = e.status
		return
	}
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int((e.retryAfter+time.Second-1)/time.Second))))
	}
	if e.closeAfter {
		w.Header().Set("Connection", "close")
	}
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	s.writeJSON(w, e.status, e.append(nil))
}
