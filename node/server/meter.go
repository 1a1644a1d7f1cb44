package server

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// meter holds the server's metrics. Labels are routes, codes and names of models in the cluster: all of them few.
type meter struct {
	requests   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	firstToken *prometheus.HistogramVec
	interToken *prometheus.HistogramVec
	tokensIn   *prometheus.CounterVec
	tokensOut  *prometheus.CounterVec
	show       http.Handler
}

func newMeter(reg *prometheus.Registry, inFlight func() int) (*meter, error) {
	histogram := func(name, help, label string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{label})
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &meter{
		requests: counter("lamina_http_requests_total", "HTTP requests by route and status; 499: the client went away.", "route", "code"),
		seconds: histogram("lamina_http_request_seconds", "Time from a request's headers to the end of its answer.", "route",
			[]float64{.001, .005, .025, .1, .25, 1, 2.5, 10, 30, 120, 600}),
		firstToken: histogram("lamina_time_to_first_token_seconds", "Time from a request's headers to its first token.", "model",
			[]float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}),
		interToken: histogram("lamina_inter_token_seconds", "Time between pieces of an answer.", "model",
			[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}),
		tokensIn:  counter("lamina_prompt_tokens_total", "Tokens of prompts.", "model"),
		tokensOut: counter("lamina_completion_tokens_total", "Tokens of answers.", "model"),
		show:      promhttp.HandlerFor(reg, promhttp.HandlerOpts{}),
	}
	live := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lamina_requests_in_flight", Help: "Requests to models in progress."},
		func() float64 { return float64(inFlight()) })
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.firstToken, m.interToken, m.tokensIn, m.tokensOut, live} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// request counts an exchange that has ended.
func (m *meter) request(x *exchange) {
	rt := x.route.pattern
	if rt == "/" {
		rt = "none"
	}
	m.requests.WithLabelValues(rt, strconv.Itoa(x.status)).Inc()
	m.seconds.WithLabelValues(rt).Observe(x.s.now().Sub(x.begun).Seconds())
}

// piece counts a piece of an answer to a request that began at begun; last is when the piece before came, zero for
// the first. It returns the time to hand in the next time.
func (m *meter) piece(model string, begun, last, now time.Time) time.Time {
	if last.IsZero() {
		m.firstToken.WithLabelValues(model).Observe(now.Sub(begun).Seconds())
	} else {
		m.interToken.WithLabelValues(model).Observe(now.Sub(last).Seconds())
	}
	return now
}

// metrics is GET /metrics.
func (s *Server) metrics(x *exchange) error {
	x.status = http.StatusOK
	if strings.Contains(x.r.Header.Get("Accept-Encoding"), "gzip") {
		x.r.Header.Del("Accept-Encoding") // a page of this size is not worth the time
	}
	s.meter.show.ServeHTTP(x.w, x.r)
	return nil
}
