package openai

import (
	"net/http"
	"strings"
)

// models serves GET /v1/models, model GET /v1/models/{id}. max_model_len is the context that is enforced: clients plan
// against it. The report of compression has a line for every matrix, so it is not in the list.
func (s *Server) models(w *response, _ *http.Request) error {
	b := append([]byte(nil), `{"object":"list","data":[`...)
	s.writeJSON(w, http.StatusOK, append(s.appendModel(b), "}]}"...))
	return nil
}

func (s *Server) model(w *response, r *http.Request) error {
	name := strings.TrimPrefix(r.URL.Path, modelsPrefix)
	if name != s.o.Model {
		return s.modelNotFound("model", name)
	}
	b := s.appendModel(nil)
	if s.report != nil {
		b = append(b, `,"compression":`...)
		b = append(b, s.report...)
	}
	s.writeJSON(w, http.StatusOK, append(b, '}'))
	return nil
}

// appendModel appends the object of the model, which is left open.
func (s *Server) appendModel(b []byte) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, s.o.Model)
	b = append(b, `,"object":"model","created":`...)
	b = appendInt(b, int(s.o.Created.Unix()))
	b = append(b, `,"owned_by":"eckart","root":`...)
	b = appendString(b, s.o.Model)
	b = append(b, `,"parent":null,"max_model_len":`...)
	return appendInt(b, s.o.Context)
}

// health serves GET /health: whether the process should go on. It is 200 while draining, so that a supervisor lets it
// finish, and 503 once the device has failed, which nothing but a restart mends.
func (s *Server) health(w *response, _ *http.Request) error {
	switch {
	case s.o.Engine.Healthy() != nil:
		return s.failed()
	case s.draining.Load():
		s.writeJSON(w, http.StatusOK, []byte(`{"status":"draining"}`))
	default:
		s.writeJSON(w, http.StatusOK, []byte(`{"status":"ok"}`))
	}
	return nil
}

// ready serves GET /ready: whether new work should be sent here.
func (s *Server) ready(w *response, _ *http.Request) error {
	switch {
	case s.o.Engine.Healthy() != nil:
		return s.failed()
	case s.draining.Load():
		return draining(s.o.RetryAfter)
	}
	s.writeJSON(w, http.StatusOK, []byte(`{"status":"ready"}`))
	return nil
}

func (s *Server) failed() error {
	return &requestError{
		status: http.StatusServiceUnavailable, kind: kindServer, code: "engine_failed",
		message: "the engine has stopped after a fault of the device: restart the server",
	}
}

// version serves GET /version.
func (s *Server) version(w *response, _ *http.Request) error {
	b := append([]byte(nil), `{"version":`...)
	s.writeJSON(w, http.StatusOK, append(appendString(b, s.o.Version), '}'))
	return nil
}
