package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server answers HTTP. Make one with New; Serve it on a listener; Shutdown ends it. Safe for use by many goroutines.
type Server struct {
	cfg    Config
	mux    *http.ServeMux
	http   *http.Server
	cross  *http.CrossOriginProtection
	places places
	meter  *meter
	runs   *runs
	live   sync.WaitGroup // requests in their handlers

	base   context.Context // of every request; its cause ends them
	cancel context.CancelCauseFunc
	drain  chan struct{} // closed when Shutdown begins
	once   sync.Once

	now   func() time.Time // set by tests
	newID func() string
	seed  func() uint64
}

// New checks the settings and makes a Server that does not listen yet. Errors wrap ErrConfig.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection(), places: make(places, cfg.Limits.InFlight),
		drain: make(chan struct{}), now: time.Now, newID: randomID, seed: randomSeed,
	}
	s.base, s.cancel = context.WithCancelCause(context.Background())
	s.runs = newRuns(func() time.Time { return s.now() })
	var err error
	if s.meter, err = newMeter(cfg.Registry, func() int { return len(s.places) }); err != nil {
		return nil, fmt.Errorf("%w: metrics: %w", ErrConfig, err)
	}
	for _, rt := range s.routes() {
		s.mux.Handle(rt.pattern, s.serve(&rt))
	}
	s.mux.Handle("/", s.serve(&route{pattern: "/", need: everyone, dialect: openAI, handle: s.unknown}))
	s.http = &http.Server{
		Handler:           cfg.Wrap(s.mux),
		ReadHeaderTimeout: cfg.Limits.HeaderTime,
		IdleTimeout:       cfg.Limits.IdleTime,
		MaxHeaderBytes:    cfg.Limits.HeaderBytes,
		// No ReadTimeout and WriteTimeout: they would cut streams. Each exchange sets its own deadlines.
		BaseContext: func(net.Listener) context.Context { return s.base },
		ErrorLog:    log.New(logWriter{cfg.Log}, "", 0),
	}
	return s, nil
}

// Handler is what Serve serves, for tests.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Serve answers on l until Shutdown and closes it. It returns nil after Shutdown, else why it could not go on.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(limitListener(l, s.cfg.Limits.Conns, s.cfg.Limits.ConnsPerIP))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown refuses new requests, lets those in progress end for as long as ctx lasts, then cuts them off with an error
// of their dialect. It returns when no handler runs any more. Call it once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(func() { close(s.drain) })
	err := s.http.Shutdown(ctx)
	s.cancel(errDraining)
	if err != nil {
		err = fmt.Errorf("requests were cut off: %w", err)
	}
	s.live.Wait()
	// A handler has returned before what it wrote has left: connections become idle only after that.
	last, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	_ = s.http.Shutdown(last) // what is still open then is closed below
	return errors.Join(err, s.http.Close())
}

// flushTime is how long the last bytes may take to leave when the server is cut off.
const flushTime = time.Second

func (s *Server) draining() bool {
	select {
	case <-s.drain:
		return true
	default:
		return false
	}
}

func randomID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return hex.EncodeToString(b[:])
}

// logWriter takes what net/http has to say about connections: of interest only when something is looked for.
type logWriter struct{ log *slog.Logger }

// Write implements io.Writer.
func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug("http", "said", string(p))
	return len(p), nil
}
