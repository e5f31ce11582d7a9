package openai

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"
)

// readBody reads a request's JSON text, whole: net/http notices a client that leaves only once the body has been read.
// The cap holds for a declared length before a byte is read and for a chunked body as it comes, and a client has
// BodyTimeout to send it.
func (s *Server) readBody(w *response, r *http.Request) ([]byte, error) {
	if err := checkHeader(r.Header); err != nil {
		return nil, err
	}
	if r.ContentLength > s.o.MaxBody {
		return nil, tooLarge(s.o.MaxBody)
	}
	// The deadline needs no reset: net/http lifts it when it begins to watch the connection behind the body.
	if err := w.control.SetReadDeadline(time.Now().Add(s.o.BodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("set the deadline of the body: %w", err)
	}
	var body bytes.Buffer
	_, err := body.ReadFrom(http.MaxBytesReader(w.ResponseWriter, r.Body, s.o.MaxBody))
	var large *http.MaxBytesError
	switch {
	case err == nil:
	case errors.As(err, &large):
		return nil, tooLarge(s.o.MaxBody)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &requestError{
			status: http.StatusRequestTimeout, kind: kindInvalid, code: "body_timeout", closeAfter: true,
			message: fmt.Sprintf("the body did not arrive within %v", s.o.BodyTimeout),
		}
	default:
		return nil, &requestError{
			status: 400, kind: kindInvalid, code: "invalid_body", closeAfter: true,
			message: "the body cannot be read: " + clip(printable(err.Error())),
		}
	}
	text := body.Bytes()
	for _, mark := range []string{"\xff\xfe", "\xfe\xff", "{\x00", "\x00{"} {
		if bytes.HasPrefix(text, []byte(mark)) {
			return nil, badBody("the body is UTF-16: send UTF-8")
		}
	}
	if bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
		return nil, badBody("the body begins with a byte order mark: send UTF-8 without one")
	}
	return text, nil
}

// checkHeader: a missing Content-Type is taken for JSON; any other type is refused, since it is what a form or a page of
// another origin can send without asking.
func checkHeader(h http.Header) error {
	unsupportedMedia := func(format string, args ...any) error {
		return &requestError{
			status: http.StatusUnsupportedMediaType, kind: kindInvalid, code: "unsupported_media_type", closeAfter: true,
			message: fmt.Sprintf(format, args...),
		}
	}
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return unsupportedMedia("Content-Encoding %s is not supported: send the body as it is", clip(printable(encoding)))
	}
	given := h.Get("Content-Type")
	if given == "" {
		return nil
	}
	kind, params, err := mime.ParseMediaType(given)
	if err != nil || kind != "application/json" {
		return unsupportedMedia("Content-Type must be application/json, got %s", clip(printable(given)))
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "utf8") {
		return unsupportedMedia("the body must be UTF-8, got charset %s", clip(printable(charset)))
	}
	return nil
}
