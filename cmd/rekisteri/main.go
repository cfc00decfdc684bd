// Command rekisteri serves a private provider registry for Terraform and
// OpenTofu from a directory.
//
// Without -dir it serves a sample, and prints what to paste into a shell to
// install a provider from it.
package main

import (
	"context"
	"crypto/tls"
	"embed"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/secretfile"
)

//go:embed sample
var sample embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // what is held is bounded: let that bound the process, too
	}
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rekisteri:", err)
		os.Exit(1)
	}
}

// A config is what the flags say.
type config struct {
	addr, dir, prefix, externalURL, tlsCert, tlsKey string

	tokens, linkKey string
	linkTTL         time.Duration

	debug, accessLog bool
	drain, grace     time.Duration

	check, hash bool
	providers   []rekisteri.Provider // to check; nil: all
}

func parseFlags(args []string, stderr io.Writer) (*config, error) {
	c := new(config)
	flags := flag.NewFlagSet("rekisteri", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.addr, "addr", "127.0.0.1:5000", "`address` to listen on")
	flags.StringVar(&c.dir, "dir", "", "`directory` with the providers (default: an embedded sample)")
	flags.StringVar(&c.prefix, "prefix", "", "`path` to serve the registry below, such as /tf; discovery stays at the root")
	flags.StringVar(&c.externalURL, "external-url", "", "absolute `URL` that clients reach the registry at, for tools that do not resolve relative ones")
	flags.StringVar(&c.tlsCert, "tls-cert", "", "`file` with the TLS certificate chain, read again when it changes")
	flags.StringVar(&c.tlsKey, "tls-key", "", "`file` with the TLS key")
	flags.StringVar(&c.tokens, "tokens", "", "`file` with who may read what: lines of a token's SHA-256 and its namespaces, * for all")
	flags.StringVar(&c.linkKey, "link-key", "", "`file` with the keys that links to files are signed with: lines of 64 hex digits, the first signs")
	flags.DurationVar(&c.linkTTL, "link-ttl", time.Hour, "how `long` a link to a file lasts, with -tokens or -link-key")
	flags.BoolVar(&c.debug, "debug", false, "log why requests are refused")
	flags.BoolVar(&c.accessLog, "access-log", false, "log each request: its method, route, path, status, bytes, duration, and why it was refused")
	flags.DurationVar(&c.drain, "drain", 0, "how `long` to serve on after a signal, while /healthz fails already: as long as a load balancer takes to notice")
	flags.DurationVar(&c.grace, "grace", 30*time.Second, "how `long` running downloads may take to end after that")
	flags.BoolVar(&c.check, "check", false, "check the tree, or the providers that are named behind the flags, and exit")
	flags.BoolVar(&c.hash, "hash", false, "with -check, compare every zip with its sum, and look for the binary in it")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if c.hash && !c.check {
		return nil, errors.New("-hash goes with -check")
	}
	if c.linkTTL <= 0 {
		return nil, errors.New("-link-ttl is not positive")
	}
	if c.drain < 0 || c.grace < 0 {
		return nil, errors.New("-drain or -grace is negative")
	}
	for _, arg := range flags.Args() {
		namespace, providerType, ok := strings.Cut(arg, "/")
		if !c.check || !ok {
			return nil, fmt.Errorf("unexpected argument %q", arg)
		}
		c.providers = append(c.providers, rekisteri.Provider{Namespace: namespace, Type: providerType})
	}
	if (c.tlsCert == "") != (c.tlsKey == "") {
		return nil, errors.New("-tls-cert and -tls-key go together")
	}
	if c.prefix != "" && !strings.HasPrefix(c.prefix, "/") {
		return nil, fmt.Errorf("-prefix %s does not begin with a slash", c.prefix)
	}
	c.prefix = strings.TrimSuffix(path.Join("/", c.prefix), "/") // as the discovery document has it
	if c.externalURL != "" {
		if u, err := url.Parse(c.externalURL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || strings.ContainsAny(c.externalURL, `"?#`) {
			return nil, fmt.Errorf("-external-url %s is not an absolute http or https URL", c.externalURL)
		}
	}
	return c, nil
}

// run serves until ctx is done. It logs to stderr; stdout gets what a newcomer
// may paste into a shell.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if c.debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if c.accessLog {
		log = slog.New(reasons{log.Handler()})
	}

	fsys, err := c.tree()
	if err != nil {
		return err
	}
	if c.check {
		return check(ctx, c, fsys, stdout, stderr)
	}
	var tlsConfig *tls.Config
	if c.tlsCert != "" {
		pair := &keyPair{certFile: c.tlsCert, keyFile: c.tlsKey, log: log}
		if err := pair.load(); err != nil {
			return err
		}
		tlsConfig = &tls.Config{GetCertificate: pair.get}
	}
	backend := rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: log})
	opts, err := c.options(log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends what runs beside the server, whatever ended that
	healthz := &health{stopping: ctx, backend: backend}
	handler := healthz.mount(mount(rekisteri.New(backend, opts), c.prefix))
	if c.accessLog {
		handler = accessLog(handler, c.prefix, log)
	}

	ln, err := net.Listen("tcp", c.addr)
	if err != nil {
		return fmt.Errorf("%w; -addr takes another address", err)
	}
	scheme, source := "http", "the embedded sample"
	if tlsConfig != nil {
		scheme = "https"
	}
	if c.dir != "" {
		source = c.dir
	}
	log.Info("listening", "url", scheme+"://"+ln.Addr().String()+c.prefix, "serving", source)
	if tlsConfig == nil && c.tokens == "" && (c.dir == "" || isTerminal(stdout)) {
		printTrial(ctx, stdout, backend, "http://"+dialable(ln.Addr())+c.prefix+"/v1/providers/")
	}
	go healthz.relook(relookEvery)
	srv := &server{handler: handler, tls: tlsConfig, log: log, drain: c.drain, grace: c.grace}
	return srv.serve(ctx, ln)
}

// options returns the registry's options.
func (c *config) options(log *slog.Logger) (*rekisteri.Options, error) {
	opts := &rekisteri.Options{Logger: log, ExternalURL: c.externalURL, LinkTTL: c.linkTTL}
	if c.tokens != "" {
		tokens, err := rekisteri.NewTokenFile(c.tokens, log)
		if err != nil {
			return nil, err
		}
		opts.Authorize = tokens.Authorize
	}
	if c.linkKey != "" {
		keys, err := readLinkKeys(c.linkKey, log)
		if err != nil {
			return nil, err
		}
		opts.LinkKeys = keys
	}
	return opts, nil
}

// readLinkKeys reads a file of link keys. Its errors hold nothing of a key.
func readLinkKeys(name string, log *slog.Logger) ([][32]byte, error) {
	file, err := secretfile.Read(name)
	if err != nil {
		return nil, err
	}
	if file.Exposed {
		log.Warn("the file of link keys can be read by others than its owner", "file", name)
	}
	var keys [][32]byte
	for line := range file.Lines() {
		key, err := hex.DecodeString(line.Fields[0])
		if err != nil || len(key) != 32 || len(line.Fields) > 1 {
			return nil, fmt.Errorf("%s, line %d: it is not 64 hexadecimal digits", name, line.Number)
		}
		if [32]byte(key) == [32]byte{} {
			return nil, fmt.Errorf("%s, line %d: the key is all zeros", name, line.Number)
		}
		keys = append(keys, [32]byte(key))
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no key", name)
	}
	return keys, nil
}

// tree returns the files to serve.
func (c *config) tree() (fs.FS, error) {
	if c.dir != "" {
		return openDir(c.dir)
	}
	return fs.Sub(sample, "sample")
}

// mount returns a handler that serves the registry below prefix, and the
// discovery document at the root.
func mount(reg *rekisteri.Registry, prefix string) http.Handler {
	if prefix == "" {
		return reg
	}
	below := http.StripPrefix(prefix, reg)
	root := reg.Discovery(prefix)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		// A ServeMux would redirect unclean paths.
		if strings.HasPrefix(req.URL.Path, prefix+"/") {
			below.ServeHTTP(w, req)
			return
		}
		root.ServeHTTP(w, req)
	})
}
