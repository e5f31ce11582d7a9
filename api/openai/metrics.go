package openai

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"eckart/runtime"
)

// Buckets in seconds. Those of vLLM begin at 10 ms for the time between tokens, which is one bucket for every small
// model; these begin at 1 ms.
var (
	firstTokenBuckets = []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20, 60, 120, 300, 600}
	nextTokenBuckets  = []float64{.001, .002, .003, .005, .0075, .01, .015, .02, .03, .05, .075, .1, .15, .2, .3, .5, 1, 2, 5, 10}
	requestBuckets    = []float64{.01, .05, .1, .2, .5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600}
	tokenBuckets      = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000}
)

// metrics are what /metrics shows. The names follow vLLM's, so that its dashboards need a new prefix and no more.
// What the handler sees is measured here; what the engine counts is read from its Stats when somebody asks, without a
// lock on it.
type metrics struct {
	registry     *prometheus.Registry
	handler      http.Handler
	requests     *prometheus.CounterVec
	firstToken   prometheus.Histogram
	nextToken    prometheus.Histogram
	perToken     prometheus.Histogram
	endToEnd     prometheus.Histogram
	promptTokens prometheus.Histogram
	tokens       prometheus.Histogram
	finished     map[runtime.Finish]prometheus.Counter
	panics       prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	labels := prometheus.Labels{"model_name": s.o.Model}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "eckart_" + name, Help: help, Buckets: buckets, ConstLabels: labels})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "eckart_http_requests_total", Help: "HTTP requests answered.", ConstLabels: labels,
		}, []string{"path", "method", "status"}),
		firstToken:   histogram("time_to_first_token_seconds", "From the arrival of a request to the first token of a sequence.", firstTokenBuckets),
		nextToken:    histogram("inter_token_latency_seconds", "Between two tokens of a sequence.", nextTokenBuckets),
		perToken:     histogram("request_time_per_output_token_seconds", "Mean time between the tokens of a sequence.", nextTokenBuckets),
		endToEnd:     histogram("e2e_request_latency_seconds", "From the arrival of a request for generation to the end of its answer.", requestBuckets),
		promptTokens: histogram("request_prompt_tokens", "Tokens of a sequence's prompt.", tokenBuckets),
		tokens:       histogram("request_generation_tokens", "Tokens generated for a sequence.", tokenBuckets),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "eckart_http_panics_total", Help: "Panics recovered in a handler.", ConstLabels: labels,
		}),
		finished: map[runtime.Finish]prometheus.Counter{},
	}
	success := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "eckart_request_success_total", Help: "Sequences that came to their end.", ConstLabels: labels,
	}, []string{"finished_reason"})
	for _, why := range []runtime.Finish{runtime.FinishStop, runtime.FinishLength} {
		m.finished[why] = success.WithLabelValues(string(why))
	}
	m.registry.MustRegister(m.requests, m.firstToken, m.nextToken, m.perToken, m.endToEnd, m.promptTokens, m.tokens, m.panics,
		success, newEngineCollector(s.o.Engine, labels), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return m
}

// sequence counts a sequence that came to its end.
func (m *metrics) sequence(q *sequence, t *tally, last time.Time) {
	m.promptTokens.Observe(float64(len(q.Prompt)))
	m.tokens.Observe(float64(t.generated))
	if t.generated > 1 {
		m.perToken.Observe(last.Sub(t.first).Seconds() / float64(t.generated-1))
	}
	if c := m.finished[t.finish]; c != nil {
		c.Inc()
	}
}

// finish counts a request. The labels are of a closed set: a client cannot make new ones.
func (m *metrics) finish(w *response, method string) {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodHead, http.MethodOptions:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(w.route, method, strconv.Itoa(w.status)).Inc()
	if w.seq > 0 {
		m.endToEnd.Observe(time.Since(w.start).Seconds())
	}
}

// serveMetrics serves GET /metrics.
func (s *Server) serveMetrics(w *response, r *http.Request) error {
	if err := w.control.SetWriteDeadline(time.Now().Add(s.o.WriteTimeout)); err != nil {
		s.o.Logger.Debug("set the deadline of /metrics", "error", err)
	}
	s.metrics.handler.ServeHTTP(w, r)
	return nil
}

// An engineCollector turns the engine's Stats into metrics.
type engineCollector struct {
	engine Engine
	gauges []engineMetric
}

type engineMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(s *runtime.Stats) float64
}

func newEngineCollector(e Engine, labels prometheus.Labels) *engineCollector {
	c := &engineCollector{engine: e}
	add := func(kind prometheus.ValueType, name, help string, read func(s *runtime.Stats) float64) {
		c.gauges = append(c.gauges, engineMetric{prometheus.NewDesc("eckart_"+name, help, nil, labels), kind, read})
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "num_requests_running", "Sequences that run.", func(s *runtime.Stats) float64 { return float64(s.Running) })
	add(gauge, "num_requests_waiting", "Sequences that wait.", func(s *runtime.Stats) float64 { return float64(s.Waiting) })
	add(gauge, "kv_cache_blocks_used", "Blocks of the cache that sequences hold.", func(s *runtime.Stats) float64 { return float64(s.BlocksUsed) })
	add(gauge, "kv_cache_blocks", "Blocks of the cache.", func(s *runtime.Stats) float64 { return float64(s.BlocksTotal) })
	add(gauge, "kv_cache_usage_perc", "Part of the cache that sequences hold, 0 to 1.", func(s *runtime.Stats) float64 {
		if s.BlocksTotal == 0 {
			return 0
		}
		return float64(s.BlocksUsed) / float64(s.BlocksTotal)
	})
	add(counter, "prompt_tokens_total", "Tokens of prompts.", func(s *runtime.Stats) float64 { return float64(s.PromptTokens) })
	add(counter, "prefix_cache_queries_total", "Tokens of prompts looked up in the cache.", func(s *runtime.Stats) float64 { return float64(s.PromptTokens) })
	add(counter, "prefix_cache_hits_total", "Tokens of prompts found in the cache.", func(s *runtime.Stats) float64 { return float64(s.CachedTokens) })
	add(counter, "generation_tokens_total", "Tokens generated.", func(s *runtime.Stats) float64 { return float64(s.GeneratedTokens) })
	add(counter, "num_preemptions_total", "Times that a sequence gave its blocks back.", func(s *runtime.Stats) float64 { return float64(s.Preemptions) })
	add(counter, "requests_rejected_total", "Sequences refused because the queue was full.", func(s *runtime.Stats) float64 { return float64(s.Rejected) })
	add(counter, "steps_total", "Steps of the engine.", func(s *runtime.Stats) float64 { return float64(s.Steps) })
	add(counter, "step_rows_total", "Rows of all steps.", func(s *runtime.Stats) float64 { return float64(s.Rows) })
	add(counter, "step_seconds_total", "Time of all steps.", func(s *runtime.Stats) float64 { return s.StepSeconds })
	add(counter, "forward_seconds_total", "Time of all forward passes.", func(s *runtime.Stats) float64 { return s.ForwardSeconds })
	return c
}

// Describe implements prometheus.Collector.
func (c *engineCollector) Describe(to chan<- *prometheus.Desc) {
	for _, g := range c.gauges {
		to <- g.desc
	}
}

// Collect implements prometheus.Collector.
func (c *engineCollector) Collect(to chan<- prometheus.Metric) {
	s := c.engine.Stats()
	for _, g := range c.gauges {
		to <- prometheus.MustNewConstMetric(g.desc, g.kind, g.read(&s))
	}
}
