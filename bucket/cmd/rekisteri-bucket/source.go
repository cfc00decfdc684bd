package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcerrors"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/bucket"
	"github.com/rekisteri/rekisteri/bucket/internal/status"
	"github.com/rekisteri/rekisteri/internal/server"
)

// A source is a bucket with the providers. It implements [server.Source].
type source struct {
	url          string
	stream       bool
	refreshEvery time.Duration
}

// Flags implements [server.Source].
func (s *source) Flags(flags *flag.FlagSet) {
	flags.StringVar(&s.url, "bucket", "", "`URL` of the bucket with the providers, such as s3://providers?region=eu-west-1, gs://providers or azblob://providers; credentials come from where the cloud's own tools look for them")
	flags.BoolVar(&s.stream, "stream", false, "send zips through the registry, for clients that cannot reach the object store; otherwise they are redirected to presigned URLs")
	flags.DurationVar(&s.refreshEvery, "refresh-every", 10*time.Second, "shortest `duration` between two refreshes of a provider, which find new releases; each one is a request to the object store")
}

// Open implements [server.Source].
func (s *source) Open(ctx context.Context, opts *rekisteri.FSOptions) (*server.Tree, error) {
	if s.refreshEvery < time.Second {
		return nil, server.Usagef("-refresh-every is %v: set it to 1s or more", s.refreshEvery)
	}
	u, err := parseBucket(s.url)
	if err != nil {
		return nil, err
	}
	b, err := blob.OpenBucket(ctx, s.url)
	if err != nil {
		return nil, server.Usagef("-bucket cannot be opened: %s", text(err))
	}
	name := u.Scheme + "://" + u.Host + "/" + u.Query().Get("prefix")
	log := cmp.Or(opts.Logger, slog.Default())
	err = probe(ctx, b, name)
	if _, isOutage := errors.AsType[*outageError](err); err != nil && !isOutage {
		b.Close()
		return nil, err
	}
	fsys := bucket.New(b, &bucket.Options{Stream: s.stream})
	if err != nil {
		log.Error(err.Error())
	} else if _, err := fsys.URL(ctx, "probe"); err != nil && !s.stream {
		log.Warn("the credentials cannot presign URLs, so the registry sends zips itself, as with -stream", "error", text(err))
		fsys = bucket.New(b, &bucket.Options{Stream: true})
	}
	opts.RefreshEvery = s.refreshEvery
	opts.Store = fsys // it is written to only if somebody may publish
	return &server.Tree{Backend: rekisteri.NewFSBackend(fsys, opts), Name: name, CheckStore: fsys.Probe}, nil
}

// parseBucket parses the URL of a bucket. Its errors do not contain the URL,
// since people put secrets there.
func parseBucket(bucketURL string) (*url.URL, error) {
	if bucketURL == "" {
		return nil, server.Usagef("set -bucket, or the variable REKISTERI_BUCKET, to the URL of a bucket, such as s3://providers?region=eu-west-1")
	}
	u, err := url.Parse(bucketURL)
	var params url.Values
	if err == nil {
		params, err = url.ParseQuery(u.RawQuery) // gocloud ignores parameters that cannot be read
	}
	endpoint := params.Get("endpoint")
	switch {
	case err != nil:
		return nil, server.Usagef("-bucket is not a URL, such as s3://providers?region=eu-west-1")
	case u.Scheme != s3blob.Scheme && u.Scheme != gcsblob.Scheme && u.Scheme != azureblob.Scheme:
		return nil, server.Usagef("-bucket does not begin with s3://, gs:// or azblob://")
	case hasUser(u) || hasUser(parse(endpoint)):
		return nil, server.Usagef("-bucket contains credentials, which other users and the log could show: set them where the cloud's own tools look for them, such as AWS_ACCESS_KEY_ID")
	case endpoint != "" && !isWebURL(parse(endpoint)):
		return nil, server.Usagef("the endpoint in -bucket is not a URL that begins with https:// or http://, such as https://minio.example")
	case u.Host == "":
		return nil, server.Usagef("-bucket names no bucket; an example is %s://providers", u.Scheme)
	case strings.Trim(u.Path, "/") != "":
		return nil, server.Usagef("-bucket has a path, which would be ignored: to serve what is below %s, add the parameter prefix=%s/", u.Path, strings.Trim(u.Path, "/"))
	}
	if params.Has("key") {
		return nil, server.Usagef("-bucket has the parameter key, which makes a bucket of one object: remove it")
	}
	if prefix := params.Get("prefix"); prefix != "" && !strings.HasSuffix(prefix, "/") {
		return nil, server.Usagef("the prefix %s in -bucket does not end with a slash", prefix)
	}
	return u, nil
}

// parse returns a URL, or nil.
func parse(s string) *url.URL {
	u, _ := url.Parse(s)
	return u
}

func hasUser(u *url.URL) bool { return u != nil && u.User != nil }

func isWebURL(u *url.URL) bool {
	return u != nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// probeTimeout bounds the search for credentials and the first request.
const probeTimeout = 15 * time.Second

// An outageError says that a bucket cannot be reached at the moment.
type outageError struct{ error }

// probe lists a bucket. It returns an outageError if the same request may succeed
// later. Any other error is one that an operator must fix.
func probe(ctx context.Context, b *blob.Bucket, name string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, _, err := b.ListPage(ctx, blob.FirstPageToken, 1, nil)
	switch {
	case err == nil:
		return nil
	case isOutage(err):
		return &outageError{fmt.Errorf("the bucket %s cannot be reached, so clients get errors until it can: check the network, the endpoint and region in -bucket, and the credentials: %s", name, text(err))}
	case gcerrors.Code(err) == gcerrors.NotFound && status.Of(err) != http.StatusForbidden: // which gcsblob calls not found
		return fmt.Errorf("there is no bucket %s: create it, or correct -bucket and its region: %s", name, text(err))
	}
	return fmt.Errorf("the bucket %s cannot be listed: set credentials that may list and read it, and check the region in -bucket: %s", name, text(err))
}

// isOutage reports whether the same request may succeed later.
func isOutage(err error) bool {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	code, status := gcerrors.Code(err), status.Of(err)
	switch {
	case code == gcerrors.NotFound || code == gcerrors.PermissionDenied:
		return false
	case status >= 400:
		return status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
	case code == gcerrors.ResourceExhausted || code == gcerrors.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded):
		return true
	}
	_, isNet := errors.AsType[net.Error](err)
	return isNet
}

var secrets = regexp.MustCompile(`\?[^\s"]*|(//)[^/?#\s"'@]*@`)

// text returns the text of an error in one line, without the queries of URLs,
// which may have a signature, and without users, which AWS_ENDPOINT_URL may have.
func text(err error) string {
	return strings.Join(strings.Fields(secrets.ReplaceAllString(err.Error(), "$1")), " ")
}
