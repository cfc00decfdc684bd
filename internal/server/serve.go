package server

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/rekisteri/rekisteri"
)

// Serve returns the command that serves a tree.
func Serve(src Source) Command {
	return Command{
		Name:    "serve",
		Summary: "serve the registry",
		Setup: func(flags *flag.FlagSet) Run {
			s := &serving{src: src, linkTTL: duration{time.Hour}, grace: duration{30 * time.Second}}
			src.Flags(flags)
			flags.StringVar(&s.addr, "addr", "127.0.0.1:5000", "listen on this `address`")
			flags.StringVar(&s.prefix, "prefix", "", "serve the registry below this `path`, such as /tf; discovery and /healthz stay at the root")
			flags.StringVar(&s.externalURL, "external-url", "", "the absolute `URL` of the registry, for tools that do not resolve relative URLs; Terraform and OpenTofu do")
			flags.StringVar(&s.tlsCert, "tls-cert", "", "`file` with the TLS certificate chain; it is read again after a change")
			flags.StringVar(&s.tlsKey, "tls-key", "", "`file` with the key of the TLS certificate")
			flags.StringVar(&s.tokens, "tokens", "", "`file` that says who may read and publish what; each line is the SHA-256 of a token and its namespaces, or * for all; with acme:publish, the token may also publish")
			flags.StringVar(&s.linkKey, "link-key", "", "`file` with keys for the signatures of links to files; each line is 64 hexadecimal digits, new links are signed with the first one")
			flags.Var(&s.linkTTL, "link-ttl", "`duration` that a signed link is valid for")
			flags.IntVar(&s.cacheMiB, "cache-mib", defaultCacheMiB, "`MiB` of memory for caches; the process takes about 2.5 times as much, and at least 120 MiB")
			flags.StringVar(&s.metricsAddr, "metrics-addr", "", "serve metrics for Prometheus on this `address`, at /metrics, to everyone who reaches it")
			flags.BoolVar(&s.accessLog, "access-log", false, "log each request")
			flags.BoolVar(&s.debug, "debug", false, "log why requests are refused")
			flags.Var(&s.drain, "drain", "`duration` to keep answering requests after SIGTERM while /healthz fails, so that a load balancer notices")
			flags.Var(&s.grace, "grace", "`duration` that running downloads may take to end, after the time of -drain")
			return s.run
		},
	}
}

// A serving is the serve command.
type serving struct {
	src Source

	addr, metricsAddr, prefix, externalURL, tlsCert, tlsKey string

	tokens, linkKey string
	linkTTL         duration

	cacheMiB         int
	debug, accessLog bool
	drain, grace     duration
}

// run serves until ctx is done. It logs to stderr; stdout gets commands for a
// newcomer to paste into a shell.
func (s *serving) run(ctx context.Context, _ []string, stdout, stderr io.Writer) error {
	if err := s.validate(); err != nil {
		return err
	}
	memory := limitMemory(s.cacheMiB)
	level := slog.LevelInfo
	if s.debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))

	cacheBytes, pageBytes := cacheSizes(s.cacheMiB)
	tree, err := s.src.Open(ctx, &rekisteri.FSOptions{Logger: log, CacheBytes: cacheBytes})
	if err != nil {
		return err
	}
	if tree.Sample && s.tokens != "" {
		return Usagef("-tokens cannot be used with %s: set -dir to serve your own providers, or leave out -tokens", tree.Name)
	}
	opts := &rekisteri.Options{Logger: log, ExternalURL: s.externalURL, LinkTTL: s.linkTTL.Duration, PageBytes: pageBytes}
	tokens, err := s.protect(opts, tree)
	if err != nil {
		return err
	}
	var counter *requestCounter
	var observe []func(*http.Request, rekisteri.Event)
	if s.accessLog {
		observe = append(observe, accessLog{log, tokens}.observe)
	}
	if s.metricsAddr != "" {
		counter = newRequestCounter()
		observe = append(observe, counter.observe)
	}
	opts.Observe = observeAll(observe)
	var cert *certificate
	var tlsConfig *tls.Config
	if s.tlsCert != "" {
		if cert, err = newCertificate(ctx, s.tlsCert, s.tlsKey, log); err != nil {
			return err
		}
		tlsConfig = &tls.Config{GetCertificate: cert.get}
	}

	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("%w; set -addr to another address", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends reread
	h := &health{stopping: ctx, backend: tree.Backend, observe: opts.Observe}
	go h.reread()
	if opts.Publish != nil && tree.CheckStore != nil {
		go checkStore(ctx, tree, log)
	}
	reg := rekisteri.New(tree.Backend, opts)
	srv := &server{
		handler: mount(reg, s.pages(reg, opts, tree, tokens), s.prefix, h), tls: tlsConfig, connState: memory.track,
		log: log, drain: s.drain.Duration, grace: s.grace.Duration,
	}
	if s.metricsAddr != "" {
		x := &exporter{requestCounter: counter, backend: tree.Backend, registry: reg, cert: cert, running: &srv.running, started: time.Now()}
		stop, err := x.listen(s.metricsAddr, log)
		if err != nil {
			ln.Close()
			return err
		}
		defer stop()
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.serve(ctx, ln) }()
	s.announce(ctx, log, stdout, tree, ln.Addr())
	return <-ended
}

// validate returns an error if the flags are not valid, and cleans the prefix.
func (s *serving) validate() error {
	switch {
	case (s.tlsCert == "") != (s.tlsKey == ""):
		return Usagef("-tls-cert and -tls-key go together: set both or none")
	case s.linkTTL.Duration == 0:
		return Usagef("-link-ttl is zero: set a duration, such as 1h")
	case s.cacheMiB < 1:
		return Usagef("-cache-mib is %d: set it to 1 or more", s.cacheMiB)
	case s.prefix != "" && !strings.HasPrefix(s.prefix, "/"):
		return Usagef("-prefix %s does not begin with a slash", s.prefix)
	}
	s.prefix = strings.TrimSuffix(path.Join("/", s.prefix), "/") // as reg.Discovery does
	if s.externalURL != "" {
		u, err := url.Parse(s.externalURL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || strings.ContainsAny(s.externalURL, `"?#`) {
			return Usagef("-external-url %s is not valid: set an absolute http or https URL without ? and #, such as https://registry.example.com", s.externalURL)
		}
	}
	return nil
}

// protect sets the options that make the registry private. It turns publishing
// on if a token may publish. It returns the token file, or nil.
func (s *serving) protect(opts *rekisteri.Options, tree *Tree) (tokens *rekisteri.TokenFile, err error) {
	if s.tokens != "" {
		tokens, err = rekisteri.NewTokenFile(s.tokens, opts.Logger)
		if err != nil {
			return nil, err
		}
		opts.Authorize = tokens.Authorize
		if to := tree.Backend.Publisher(); to != nil && tokens.CanPublish() {
			opts.Publish = &rekisteri.PublishOptions{To: to, Authorize: tokens.AuthorizePublish, Label: tokens.Label}
			opts.Logger.Info("publishing is on: tokens with :publish may upload releases")
		}
	}
	if s.linkKey != "" {
		keys, err := readLinkKeys(s.linkKey, opts.Logger)
		if err != nil {
			return nil, err
		}
		opts.LinkKeys = keys
		if s.tokens == "" {
			opts.Logger.Warn("-link-key is set without -tokens, so /v1/ is public, and everyone can get signed links there: set -tokens, or protect /v1/ in the proxy in front")
		}
	}
	return tokens, nil
}

// checkStore logs why releases cannot be published.
func checkStore(ctx context.Context, tree *Tree, log *slog.Logger) {
	if err := tree.CheckStore(ctx); err != nil && ctx.Err() == nil {
		log.Error("releases cannot be published, so uploads fail: give the registry the rights to write and delete, or remove :publish from the file of -tokens", "error", err)
	}
}

// announce logs the URL, and what is served there. It may also print how to try
// the registry.
func (s *serving) announce(ctx context.Context, log *slog.Logger, stdout io.Writer, tree *Tree, addr net.Addr) {
	scheme := "http"
	if s.tlsCert != "" {
		scheme = "https"
	}
	first, n, err := listProviders(ctx, tree.Backend)
	attrs := []any{"url", scheme + "://" + addr.String() + s.prefix, "serving", tree.Name}
	if err == nil || n > 0 {
		attrs = append(attrs, "providers", n)
	}
	log.Info("listening", attrs...)
	switch {
	case ctx.Err() != nil:
	case tree.Backend.Health().Err != nil: // the backend has logged it
	case err != nil:
		log.Error("not all providers can be listed, and requests for the missing ones may fail: make the volume or the bucket readable", "error", err)
	case n == 0:
		log.Warn("there is no provider, so clients cannot install any: publish a release, or check that the volume is mounted, or that the bucket is the right one")
	}
	if n > 0 && scheme == "http" && s.tokens == "" && (tree.Sample || IsTerminal(stdout)) {
		printTrial(stdout, first, "http://"+dialable(addr)+s.prefix+"/v1/providers/")
	}
}

// listTimeout is how long the log line "listening" waits for the number of
// providers.
const listTimeout = 2 * time.Second

// listProviders reads a tree, so that its health is known. It returns the first
// provider and the number of providers. The error may be about a part of the tree.
func listProviders(ctx context.Context, b *rekisteri.FSBackend) (first rekisteri.Provider, n int, err error) {
	type result struct {
		first rekisteri.Provider
		n     int
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	listed := make(chan result, 1)
	go func() {
		readTree(ctx, b)
		var r result
		for p, err := range b.Providers(ctx) {
			switch {
			case err != nil:
				r.err = errors.Join(r.err, err)
			case r.n == 0:
				r.first = p
				fallthrough
			default:
				r.n++
			}
		}
		listed <- r
	}()
	select {
	case r := <-listed:
		return r.first, r.n, r.err
	case <-ctx.Done():
		return first, 0, ctx.Err()
	}
}

// mount returns a handler that serves the registry below prefix, and the
// discovery document and the health at the root.
func mount(reg *rekisteri.Registry, pages http.Handler, prefix string, health http.Handler) http.Handler {
	below := withPages(reg, pages)
	root := below
	if prefix != "" {
		below, root = http.StripPrefix(prefix, below), reg.Discovery(prefix)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		// A ServeMux would redirect unclean paths.
		switch {
		case req.URL.Path == healthPath:
			health.ServeHTTP(w, req)
		case strings.HasPrefix(req.URL.Path, prefix+"/"), pages != nil && req.URL.Path == prefix:
			below.ServeHTTP(w, req)
		default:
			root.ServeHTTP(w, req)
		}
	})
}
