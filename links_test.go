package rekisteri_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

// A watched is a backend that counts the calls that reach it.
type watched struct {
	*rekisteri.FSBackend
	calls int
}

func (w *watched) Versions(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	w.calls++
	return w.FSBackend.Versions(ctx, p)
}

func (w *watched) Release(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	w.calls++
	return w.FSBackend.Release(ctx, p, version)
}

func linkKey(b byte) (key [32]byte) {
	for i := range key {
		key[i] = b
	}
	return key
}

const download100 = "/v1/providers/acme/hello/1.0.0/download/linux/amd64"

// linksOf returns where a package's document leads: to the zip, SHA256SUMS and
// its signature.
func linksOf(t testing.TB, h http.Handler, document string) [3]string {
	t.Helper()
	var doc struct {
		URL  string `json:"download_url"`
		Sums string `json:"shasums_url"`
		Sig  string `json:"shasums_signature_url"`
	}
	resp := get(h, "GET", document)
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s, %v", document, resp.Status, err)
	}
	base, err := url.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	var all [3]string
	for i, ref := range []string{doc.URL, doc.Sums, doc.Sig} {
		u, err := base.Parse(ref)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = u.String()
	}
	return all
}

// TestLinks signs links and alters them.
func TestLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(17 * time.Minute) // which no half hour ends at
		tr := newTree(t, "1.0.0", "2.0.0", "1.0.0+b")
		b := &watched{FSBackend: newBackend(t, newLiveFS(tr))}
		reg := rekisteri.New(b, &rekisteri.Options{Logger: quiet(t), LinkKeys: [][32]byte{linkKey(1)}})
		status := func(h http.Handler, method, target string) int {
			t.Helper()
			return get(h, method, target).StatusCode
		}

		links := linksOf(t, reg, download100)
		for _, link := range links {
			path, query, _ := strings.Cut(link, "?")
			for _, method := range []string{"GET", "HEAD", "GET"} { // as often as one likes
				resp := get(reg, method, link)
				if resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "private, no-cache" {
					t.Errorf("%s %s = %s %v", method, link, resp.Status, resp.Header)
				}
			}
			if got := status(reg, "POST", link); got != 405 {
				t.Errorf("POST %s = %d", link, got)
			}

			// For any other file it is worth nothing, and the backend is not asked.
			b.calls = 0
			for _, other := range links {
				if otherPath, _, _ := strings.Cut(other, "?"); otherPath != path && status(reg, "GET", otherPath+"?"+query) != 403 {
					t.Errorf("the link to %s opens %s", path, otherPath)
				}
			}
			for _, edit := range [][2]string{{"1.0.0", "2.0.0"}, {"/acme/", "/acmf/"}, {"/acme/", "/Acme/"}, {"linux", "darwin"}, {"expires=", "expires=0"},
				{"expires=", "expires=1&expires="}, {"&key=", "&key=1&key="}, {"&signature=", "&signature=x&signature="}, {"signature=", "signature=A"},
				{"expires=", "Expires="}, {"&key=", "&x="}, {"?", "?;"}, {"?", "?%zz&"}} {
				if edited := strings.ReplaceAll(link, edit[0], edit[1]); edited != link && status(reg, "GET", edited) < 400 {
					t.Errorf("GET %s is let in", edited)
				}
			}
			for _, bare := range []string{path, path + "?", path + "?expires=9999999999", path + "?signature=", path + "?expires=&key=&signature="} {
				if got := status(reg, "GET", bare); got != 403 {
					t.Errorf("GET %s = %d, want 403", bare, got)
				}
			}
			for i := range len(link) * 8 { // one bit
				altered := []byte(link)
				altered[i/8] ^= 1 << (i % 8)
				req, err := http.NewRequest("GET", string(altered), nil)
				if err != nil {
					continue
				}
				rec := httptest.NewRecorder()
				reg.ServeHTTP(rec, req)
				if rec.Code < 400 {
					t.Errorf("GET %s = %d, an alteration of %s", altered, rec.Code, link)
				}
			}
			if b.calls != 0 {
				t.Errorf("the backend was asked %d times", b.calls)
			}
		}

		// A proxy may encode a path in another way.
		plus := linksOf(t, reg, strings.Replace(download100, "1.0.0", "1.0.0+b", 1))
		for _, link := range plus {
			path, query, _ := strings.Cut(link, "?")
			for _, path := range []string{path, strings.ReplaceAll(path, "+", "%2B"), strings.ReplaceAll(path, "_", "%5f"), strings.ReplaceAll(path, "-", "%2D")} {
				if got := status(reg, "GET", path+"?"+query); got != 200 {
					t.Errorf("GET %s = %d", path, got)
				}
			}
		}

		// Replicas and rotation.
		for _, test := range []struct {
			keys [][32]byte
			want int
		}{
			{[][32]byte{linkKey(1)}, 200},
			{[][32]byte{linkKey(1), linkKey(2)}, 200},
			{[][32]byte{linkKey(2), linkKey(1)}, 200},
			{[][32]byte{linkKey(2)}, 403},
		} {
			replica := rekisteri.New(b, &rekisteri.Options{Logger: quiet(t), LinkKeys: test.keys})
			if got := status(replica, "GET", links[0]); got != test.want {
				t.Errorf("a replica with %d keys, the first %d: %d, want %d", len(test.keys), test.keys[0][0], got, test.want)
			}
		}

		// The document stays the same for half a link's life, and the link good
		// for all of it.
		first := get(reg, "GET", download100)
		before := body(t, first)
		if cc := first.Header.Get("Cache-Control"); cc != "private, no-store" {
			t.Errorf("Cache-Control of the document: %q", cc)
		}
		same := time.Duration(0)
		for ; same < 2*time.Hour; same += time.Minute {
			if resp := get(reg, "GET", download100); body(t, resp) != before || resp.Header.Get("ETag") != first.Header.Get("ETag") {
				break
			}
			time.Sleep(time.Minute)
		}
		if same > 30*time.Minute || linksOf(t, reg, download100) == links {
			t.Errorf("the document was the same for %v", same)
		}
		next := body(t, get(reg, "GET", download100))
		time.Sleep(30*time.Minute - time.Second - time.Minute)
		if body(t, get(reg, "GET", download100)) != next {
			t.Error("the next document was not the same for half an hour")
		}
		links = linksOf(t, reg, download100)
		time.Sleep(time.Hour)
		if got := status(reg, "GET", links[0]); got != 200 {
			t.Errorf("a link after an hour = %d", got)
		}
		time.Sleep(30*time.Minute + time.Second)
		if got := status(reg, "GET", links[0]); got != 403 {
			t.Errorf("a link after its time = %d", got)
		}
	})
}

// TestLinkTTL has short lives, too.
func TestLinkTTL(t *testing.T) {
	for _, ttl := range []time.Duration{time.Nanosecond, time.Second, 3 * time.Second, 10 * time.Minute, 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Minute + 300*time.Millisecond)
			reg := rekisteri.New(newBackend(t, newLiveFS(newTree(t, "1.0.0"))), &rekisteri.Options{Logger: quiet(t), LinkKeys: [][32]byte{linkKey(1)}, LinkTTL: ttl})
			link := linksOf(t, reg, download100)[0]
			time.Sleep(ttl - min(ttl, 300*time.Millisecond))
			if got := get(reg, "GET", link).StatusCode; got != 200 {
				t.Errorf("LinkTTL %v: before its end %d", ttl, got)
			}
			time.Sleep(ttl/2 + 2*time.Second)
			if got := get(reg, "GET", link).StatusCode; got != 403 {
				t.Errorf("LinkTTL %v: after its end %d", ttl, got)
			}
		})
	}
}

// TestAuthorize puts a hook before a registry.
func TestAuthorize(t *testing.T) {
	verdicts := map[string]error{
		"open": nil, "login": fmt.Errorf("who: %w", rekisteri.ErrUnauthenticated), "closed": fs.ErrPermission,
		"hidden": fmt.Errorf("hidden: %w", fs.ErrNotExist), "slow": context.DeadlineExceeded, "broken": errors.New("the session store is away"),
	}
	tr := newTree(t)
	for namespace := range verdicts {
		tr.addRelease(t, namespace+"/hello/1.0.0", "1.0.0", "linux_amd64")
	}
	b := &watched{FSBackend: newBackend(t, tr.mapFS())}
	var log bytes.Buffer
	reg := rekisteri.New(b, &rekisteri.Options{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Authorize: func(req *http.Request, p rekisteri.Provider) error {
			if p.Namespace != strings.ToLower(p.Namespace) {
				t.Errorf("the hook was asked for %v", p)
			}
			return verdicts[p.Namespace]
		},
	})
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "replicas") {
		t.Errorf("a random key is not warned of: %s", log.String())
	}
	for namespace, want := range map[string]int{"open": 200, "login": 401, "closed": 403, "hidden": 404, "slow": 504, "broken": 500} {
		for _, target := range []string{"/v1/providers/" + namespace + "/hello/versions", "/v1/providers/" + namespace + "/hello/1.0.0/download/linux/amd64"} {
			b.calls = 0
			resp := get(reg, "GET", target)
			if resp.StatusCode != want {
				t.Errorf("GET %s = %s, want %d", target, resp.Status, want)
			}
			if (b.calls > 0) != (want == 200) {
				t.Errorf("GET %s asked the backend %d times", target, b.calls)
			}
			if challenge := resp.Header.Get("WWW-Authenticate"); (challenge == "Bearer") != (want == 401) {
				t.Errorf("GET %s: WWW-Authenticate %q", target, challenge)
			}
			cache := "no-store"
			if want == 200 {
				cache = "private, no-store"
			}
			if cc := resp.Header.Get("Cache-Control"); cc != cache {
				t.Errorf("GET %s: Cache-Control %q", target, cc)
			}
			// What does not exist looks the same.
			if want != 200 {
				other := get(reg, "GET", strings.ReplaceAll(target, "hello", "nothing"))
				if other.StatusCode != resp.StatusCode || body(t, other) != body(t, resp) {
					t.Errorf("GET %s can be told from what does not exist", target)
				}
			}
		}
		if want != 200 {
			b.calls = 0
			if got := get(reg, "GET", "/files/"+namespace+"/hello/1.0.0/terraform-provider-hello_1.0.0_SHA256SUMS").StatusCode; got != 403 || b.calls > 0 {
				t.Errorf("the files of %s: %d, %d calls", namespace, got, b.calls)
			}
		}
	}
	if resp := get(reg, "GET", "/.well-known/terraform.json"); resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("discovery: %s %v", resp.Status, resp.Header)
	}
	// Who was let in has links that are good without credentials.
	for _, link := range linksOf(t, reg, "/v1/providers/open/hello/1.0.0/download/linux/amd64") {
		if !strings.Contains(link, "signature=") || get(reg, "GET", link).StatusCode != 200 {
			t.Errorf("%s is not good", link)
		}
	}
	// The key is of this registry alone.
	other := rekisteri.New(b, &rekisteri.Options{Logger: quiet(t), Authorize: func(*http.Request, rekisteri.Provider) error { return nil }})
	if got := get(other, "GET", linksOf(t, reg, "/v1/providers/open/hello/1.0.0/download/linux/amd64")[0]).StatusCode; got != 403 {
		t.Errorf("another registry's link = %d", got)
	}
}

// TestRefusalLog explains refusals at debug level.
func TestRefusalLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		reg := rekisteri.New(newBackend(t, newLiveFS(newTree(t, "1.0.0"))), &rekisteri.Options{
			Logger:   slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			LinkKeys: [][32]byte{linkKey(1)},
			Authorize: func(req *http.Request, p rekisteri.Provider) error {
				if req.Header.Get("Authorization") != "" {
					return nil
				}
				return fmt.Errorf("rule 7: %w", fs.ErrPermission)
			},
		})
		req := httptest.NewRequest("GET", download100, nil)
		req.Header.Set("Authorization", "Bearer x")
		rec := httptest.NewRecorder()
		reg.ServeHTTP(rec, req)
		var doc struct {
			URL string `json:"download_url"`
		}
		if err := json.Unmarshal(rec.Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		link := doc.URL[strings.Index(doc.URL, "/files/"):]
		time.Sleep(2 * time.Hour)
		for target, want := range map[string]string{
			download100: "not authorized for acme/hello: rule 7",
			link:        "the link to a file of acme/hello 1.0.0 expired ",
			strings.Replace(link, "expires=", "expires=1", 1): "has been altered: its signature by the key ",
			strings.Replace(link, "key=", "key=f", 1):         "that this registry lacks",
			strings.Split(link, "?")[0]:                       "is not signed",
		} {
			log.Reset()
			get(reg, "GET", target)
			if s := log.String(); !strings.Contains(s, want) || !strings.Contains(s, "level=DEBUG") {
				t.Errorf("GET %s is logged as %s, want %q", target, s, want)
			}
		}
	})
}

// TestServices adds to the discovery document.
func TestServices(t *testing.T) {
	reg := rekisteri.New(&fake{}, &rekisteri.Options{Logger: quiet(t), Services: map[string]any{
		"modules.v1": "https://modules.example/v1/",
		"login.v1":   map[string]any{"client": "terraform-cli", "grant_types": []string{"authz_code"}, "authz": "/oauth/authorize", "token": "/oauth/token", "ports": []int{10000, 10010}},
	}})
	want := `{"providers.v1":"/tf/v1/providers/","modules.v1":"https://modules.example/v1/","login.v1":{"client":"terraform-cli","grant_types":["authz_code"],"authz":"/oauth/authorize","token":"/oauth/token","ports":[10000,10010]}}`
	if got := body(t, get(reg.Discovery("/tf"), "GET", "/.well-known/terraform.json")); !equalJSON(t, got, want) {
		t.Errorf("got %s", got)
	}
	for name, opts := range map[string]*rekisteri.Options{
		"its own entry":      {Services: map[string]any{"providers.v1": "/x/"}},
		"what is no JSON":    {Services: map[string]any{"x": func() {}}},
		"an empty link key":  {LinkKeys: [][32]byte{linkKey(1), {}}},
		"a negative LinkTTL": {LinkKeys: [][32]byte{linkKey(1)}, LinkTTL: -1},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New with %s did not panic", name)
				}
			}()
			rekisteri.New(&fake{}, opts)
		}()
	}
}

// TestNoSecrets greps all that a private registry writes, at any level, into
// its log and its error bodies, panics included.
func TestNoSecrets(t *testing.T) {
	const token = "the-secret-token"
	name := filepath.Join(t.TempDir(), "tokens")
	writeSecret(t, name, tokenLine(token, "acme panics"))
	var mu sync.Mutex
	var output bytes.Buffer
	log := slog.New(slog.NewTextHandler(lockedWriter{&mu, &output}, &slog.HandlerOptions{Level: slog.LevelDebug - 10}))
	tokens, err := rekisteri.NewTokenFile(name, log)
	if err != nil {
		t.Fatal(err)
	}
	key := linkKey('K')
	srv := httptest.NewUnstartedServer(rekisteri.New(panicky{newBackend(t, newTree(t, "1.0.0").mapFS())}, &rekisteri.Options{
		Logger: log, Authorize: tokens.Authorize, LinkKeys: [][32]byte{key},
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelError)
	srv.Start()
	defer srv.Close()
	fetch := func(target, token string) string {
		req, err := http.NewRequest("GET", srv.URL+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return ""
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode >= 400 {
			mu.Lock()
			defer mu.Unlock()
			output.Write(b)
		}
		return string(b)
	}
	var doc struct {
		URL string `json:"download_url"`
	}
	if err := json.Unmarshal([]byte(fetch(download100, token)), &doc); err != nil {
		t.Fatal(err)
	}
	link := doc.URL[strings.Index(doc.URL, "/files/"):]
	query := link[strings.Index(link, "?"):]
	for _, target := range []string{link, link + "x", strings.Replace(link, "key=", "key=0", 1), strings.Replace(link, "linux", "darwin", 1), strings.Replace(link, "expires=1", "expires=0", 1),
		link[:len(link)-1], link + "&" + query[1:], "/files/nothing" + query, "/files/panics/hello/1.0.0/x.zip" + query, "/v1/providers/acme/nothing/versions" + query,
		"/v1/providers/panics/hello/versions" + query, "//x" + query, "/v1/providers/other/hello/versions"} {
		for _, token := range []string{token, "wrong-" + token, ""} {
			fetch(target, token)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	all := output.String()
	for _, want := range []string{"level=DEBUG", "panic serving", "is not known", "has been altered"} {
		if !strings.Contains(all, want) {
			t.Errorf("the run did not bring about %q", want)
		}
	}
	for _, secret := range []string{token, "wrong-", query, strings.Split(query, "signature=")[1], "expires=", string(key[:]), fmt.Sprintf("%x", key), strings.Fields(tokenLine(token, ""))[0]} {
		if i := strings.Index(all, secret); i >= 0 {
			t.Errorf("the output has %q: %s", secret, all[max(0, i-200):i+50])
		}
	}
}

// A panicky backend panics in one namespace.
type panicky struct{ *rekisteri.FSBackend }

func (b panicky) Versions(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	if p.Namespace == "panics" {
		panic("a backend's bug")
	}
	return b.FSBackend.Versions(ctx, p)
}
