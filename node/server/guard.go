package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"lamina/node/auth"
	"lamina/node/infer"
)

var errDraining = errors.New("the node is shutting down; ask another one")

// serve wraps a route: what must hold before its handler runs, and what becomes of its error.
func (s *Server) serve(rt *route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.live.Add(1)
		defer s.live.Done()
		x := s.newExchange(rt, w, r)
		defer x.finish()
		if err := s.guarded(x); err != nil {
			x.end(err)
		}
	})
}

// guarded checks a request from the cheapest to the dearest, then lets the handler run under the request's deadline.
func (s *Server) guarded(x *exchange) error {
	if s.draining() && x.route.need != everyone {
		return errDraining
	}
	if err := s.cross.Check(x.r); err != nil {
		return newFault(http.StatusForbidden, kindAccess, "cross_origin", "a page of another site may not use this node")
	}
	who, err := s.admit(x)
	if err != nil {
		return err
	}
	x.who = who
	if x.route.model {
		if !s.places.take() {
			return s.full()
		}
		defer s.places.give()
	}
	ctx := auth.WithPrincipal(x.r.Context(), who)
	if x.route.dialect != plain && x.r.Method != http.MethodPut { // an upload has a deadline for every piece instead
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.cfg.Limits.RequestTime, infer.ErrDeadline)
		defer cancel()
	}
	x.r = x.r.WithContext(ctx)
	return x.route.handle(x)
}

// admit finds who asks and whether the route is theirs. A key that is not of our form counts as none where none is
// needed: OpenAI's clients insist on sending something.
func (s *Server) admit(x *exchange) (auth.Principal, error) {
	if x.route.need == everyone {
		return auth.Principal{}, nil
	}
	scheme, key, _ := strings.Cut(x.r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(key, "lk_") {
		who, err := auth.Authenticate(key, s.cfg.Keys.LookupKey)
		if err != nil {
			return auth.Principal{}, s.unknownKey(err)
		}
		if !x.route.need.allows(who.Role) {
			return auth.Principal{}, newFault(http.StatusForbidden, kindAccess, "forbidden", "the key's role %q may not do this; use a key of role admin", who.Role)
		}
		return who, nil
	}
	if x.route.need == admin || s.cfg.RequireKeys {
		return auth.Principal{}, newFault(http.StatusUnauthorized, kindAuth, "invalid_api_key", "an API key is needed: send Authorization: Bearer lk_... (the first node's is in admin.key of its data folder)")
	}
	if !s.hostAllowed(x.r.Host) {
		return auth.Principal{}, newFault(http.StatusForbidden, kindAccess, "host_not_allowed", "without an API key this node answers under its loopback names only, not %.80q", x.r.Host)
	}
	return auth.Principal{}, nil
}

// unknownKey is why a key is not taken: err, or that this node cannot know it yet.
func (s *Server) unknownKey(err error) error {
	if s.cfg.Behind == nil {
		return err
	}
	why := s.cfg.Behind()
	if why == nil {
		return err
	}
	return starting(why)
}

// full is the answer of a node that runs as many requests as it may.
func (s *Server) full() *fault {
	f := newFault(http.StatusTooManyRequests, kindRate, "rate_limit_exceeded", "%d requests to models are in progress here; try again soon or ask another node", s.cfg.Limits.InFlight)
	f.retry = time.Second
	return f
}

// starting is the answer of a node that does not know yet what it will.
func starting(why error) *fault {
	f := newFault(http.StatusServiceUnavailable, kindServer, "starting", "%v", why)
	f.retry = time.Second
	return f
}

// hostAllowed guards anonymous access against DNS rebinding: a page whose own name was made to point here still sends
// that name.
func (s *Server) hostAllowed(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	host = strings.TrimSuffix(host, ".")
	if loopbackHost(host) {
		return true
	}
	for _, h := range s.cfg.Hosts {
		if strings.EqualFold(h, host) {
			return true
		}
	}
	return false
}

// end turns a handler's error into the answer, if it is not too late for one.
func (x *exchange) end(err error) {
	if x.status != 0 {
		return
	}
	err = x.cause(err)
	if errors.Is(err, context.Canceled) {
		x.status = statusGone // nobody is there to be told
		return
	}
	x.fail(x.note(err))
}

// cause is what lies behind an error that says only that the context ended: the deadline, a shutdown, or that the
// client went away (context.Canceled).
func (x *exchange) cause(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		if c := context.Cause(x.r.Context()); c != nil {
			return c
		}
	}
	return err
}

// note makes a fault of an error and logs it if it is one that should not have been.
func (x *exchange) note(err error) *fault {
	f, known := faultOf(err)
	if !known {
		x.s.cfg.Log.ErrorContext(x.r.Context(), "request failed", "request", x.id, "route", x.route.pattern, "err", err)
	}
	return f
}

// finish runs last: it answers for a handler that panicked, and counts.
func (x *exchange) finish() {
	if p := recover(); p != nil {
		x.s.cfg.Log.ErrorContext(x.r.Context(), "handler panicked", "request", x.id, "route", x.route.pattern, "panic", p, "stack", string(debug.Stack()))
		if x.status != 0 {
			x.s.meter.request(x)
			panic(http.ErrAbortHandler) // the client must see that the answer is not whole
		}
		f, _ := faultOf(errors.New("panic"))
		x.fail(f)
	}
	x.extendWrite() // for what is still in the connection's buffer
	x.s.meter.request(x)
	x.s.cfg.Log.DebugContext(x.r.Context(), "request", "request", x.id, "route", x.route.pattern, "status", x.status, "key", x.who.Key, "ms", x.s.now().Sub(x.begun).Milliseconds())
}

// places are the requests to models that may be in progress.
type places chan struct{}

func (p places) take() bool {
	select {
	case p <- struct{}{}:
		return true
	default:
		return false
	}
}

func (p places) give() { <-p }
