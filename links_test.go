package rekisteri_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

const download100 = "/v1/providers/acme/hello/1.0.0/download/linux/amd64"

func linkKey(b byte) (key [32]byte) {
	for i := range key {
		key[i] = b
	}
	return key
}

// linksOf returns the URLs in a package's document: those of the zip, SHA256SUMS
// and its signature.
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

// A link opens its file, and nothing else. Altered, it opens nothing, and the
// backend is not asked.
func TestLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &watched{FSBackend: newBackend(t, newLiveFS(newTree(t, "1.0.0", "2.0.0")))}
		reg := rekisteri.New(b, &rekisteri.Options{Logger: quiet(t), LinkKeys: [][32]byte{linkKey(1)}})
		if cc := get(reg, "GET", download100).Header.Get("Cache-Control"); cc != "private, no-store" {
			t.Errorf("Cache-Control of the document: %q", cc)
		}
		links := linksOf(t, reg, download100)
		for _, link := range links {
			path, query, _ := strings.Cut(link, "?")
			for _, method := range []string{"GET", "HEAD", "GET"} {
				resp := get(reg, method, link)
				if resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "private, no-cache" {
					t.Errorf("%s %s = %s %v", method, link, resp.Status, resp.Header)
				}
			}
			if got := get(reg, "POST", link).StatusCode; got != 405 {
				t.Errorf("POST %s = %d", link, got)
			}

			b.calls = 0
			for _, other := range links {
				if otherPath, _, _ := strings.Cut(other, "?"); otherPath != path && get(reg, "GET", otherPath+"?"+query).StatusCode != 403 {
					t.Errorf("the link to %s opens %s", path, otherPath)
				}
			}
			for _, edit := range [][2]string{{"1.0.0", "2.0.0"}, {"/acme/", "/acmf/"}, {"/acme/", "/Acme/"}, {"linux", "darwin"}, {"expires=", "expires=0"},
				{"expires=", "expires=1&expires="}, {"&key=", "&key=1&key="}, {"&signature=", "&signature=x&signature="}, {"signature=", "signature=A"},
				{"expires=", "Expires="}, {"&key=", "&x="}, {"?", "?;"}, {"?", "?%zz&"}} {
				if edited := strings.ReplaceAll(link, edit[0], edit[1]); edited != link && get(reg, "GET", edited).StatusCode < 400 {
					t.Errorf("GET %s is allowed", edited)
				}
			}
			for _, bare := range []string{path, path + "?", path + "?expires=9999999999", path + "?signature=", path + "?expires=&key=&signature="} {
				if got := get(reg, "GET", bare).StatusCode; got != 403 {
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
				if reg.ServeHTTP(rec, req); rec.Code < 400 {
					t.Errorf("GET %s = %d, an alteration of %s", altered, rec.Code, link)
				}
			}
			if b.calls != 0 {
				t.Errorf("the backend was asked %d times", b.calls)
			}
		}
	})
}

// A link stays valid if a proxy encodes its path in another way.
func TestLinkInOtherEncodings(t *testing.T) {
	reg := rekisteri.New(newBackend(t, newTree(t, "1.0.0+b").mapFS()), &rekisteri.Options{Logger: quiet(t), LinkKeys: [][32]byte{linkKey(1)}})
	for _, link := range linksOf(t, reg, strings.Replace(download100, "1.0.0", "1.0.0+b", 1)) {
		path, query, _ := strings.Cut(link, "?")
		for _, path := range []string{path, strings.ReplaceAll(path, "+", "%2B"), strings.ReplaceAll(path, "_", "%5f"), strings.ReplaceAll(path, "-", "%2D")} {
			if got := get(reg, "GET", path+"?"+query).StatusCode; got != 200 {
				t.Errorf("GET %s = %d", path, got)
			}
		}
	}
}

func TestLinkKeys(t *testing.T) {
	b := newBackend(t, newTree(t, "1.0.0").mapFS())
	link := linksOf(t, rekisteri.New(b, &rekisteri.Options{Logger: quiet(t), LinkKeys: [][32]byte{linkKey(1)}}), download100)[0]
	for _, test := range []struct {
		name      string
		keys      [][32]byte
		authorize func(*http.Request, rekisteri.Provider) error
		want      int
	}{
		{name: "same key", keys: [][32]byte{linkKey(1)}, want: 200},
		{name: "new key added", keys: [][32]byte{linkKey(1), linkKey(2)}, want: 200},
		{name: "new key first", keys: [][32]byte{linkKey(2), linkKey(1)}, want: 200},
		{name: "old key removed", keys: [][32]byte{linkKey(2)}, want: 403},
		{name: "random key", authorize: func(*http.Request, rekisteri.Provider) error { return nil }, want: 403},
		{name: "public", want: 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := new(logBuffer)
			replica := rekisteri.New(b, &rekisteri.Options{Logger: log.logger(), LinkKeys: test.keys, Authorize: test.authorize})
			if text := log.take(); strings.Contains(text, "level=WARN") != (test.authorize != nil) {
				t.Errorf("the log says %s", text)
			}
			if got := get(replica, "GET", link).StatusCode; got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
			own := linksOf(t, replica, download100)[0]
			if got := get(replica, "GET", own).StatusCode; got != 200 || strings.Contains(own, "signature=") == (test.name == "public") {
				t.Errorf("its own link %s = %d", own, got)
			}
		})
	}
}

// A document stays the same for half the life of its links.
func TestDocumentWithLinksIsStable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(17 * time.Minute) // not at the end of a half hour
		reg := rekisteri.New(newBackend(t, newLiveFS(newTree(t, "1.0.0"))), &rekisteri.Options{Logger: quiet(t), LinkKeys: [][32]byte{linkKey(1)}})
		var changes []time.Duration
		started := time.Now()
		for before := ""; time.Since(started) < 3*time.Hour; time.Sleep(time.Minute) {
			resp := get(reg, "GET", download100)
			now := body(t, resp) + resp.Header.Get("ETag")
			if before != "" && now != before {
				changes = append(changes, time.Since(started))
			}
			before = now
		}
		if len(changes) != 6 {
			t.Fatalf("the document changed at %v", changes)
		}
		for i, at := range changes[1:] {
			if at-changes[i] != 30*time.Minute {
				t.Errorf("the document changed at %v", changes)
			}
		}
	})
}

func TestLinkTTL(t *testing.T) {
	for _, test := range []struct {
		name string
		ttl  time.Duration
		want time.Duration // it is valid at least that long
	}{
		{name: "default", want: time.Hour},
		{name: "shortest", ttl: time.Nanosecond, want: time.Nanosecond},
		{name: "second", ttl: time.Second, want: time.Second},
		{name: "three seconds", ttl: 3 * time.Second, want: 3 * time.Second},
		{name: "ten minutes", ttl: 10 * time.Minute, want: 10 * time.Minute},
		{name: "day", ttl: 24 * time.Hour, want: 24 * time.Hour},
		{name: "longest", ttl: math.MaxInt64, want: 99 * 365 * 24 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Minute + 300*time.Millisecond)
				reg := rekisteri.New(newBackend(t, newLiveFS(newTree(t, "1.0.0"))), &rekisteri.Options{Logger: quiet(t), LinkKeys: [][32]byte{linkKey(1)}, LinkTTL: test.ttl})
				link := linksOf(t, reg, download100)[0]
				time.Sleep(test.want - min(test.want, 300*time.Millisecond))
				if got := get(reg, "GET", link).StatusCode; got != 200 {
					t.Errorf("before its end: %d", got)
				}
				if test.ttl == math.MaxInt64 {
					return
				}
				time.Sleep(test.want/2 + 2*time.Second)
				if got := get(reg, "GET", link).StatusCode; got != 403 {
					t.Errorf("after its end: %d", got)
				}
			})
		})
	}
}

func TestLinkRefusalsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logBuffer)
		reg := rekisteri.New(newBackend(t, newLiveFS(newTree(t, "1.0.0"))), &rekisteri.Options{
			Logger: log.logger(), LinkKeys: [][32]byte{linkKey(1)},
			Authorize: func(req *http.Request, p rekisteri.Provider) error {
				if req.Header.Get("Authorization") != "" {
					return nil
				}
				return fmt.Errorf("rule 7: %w", fs.ErrPermission)
			},
		})
		var doc struct {
			URL string `json:"download_url"`
		}
		if err := json.NewDecoder(get(reg, "GET", download100, "Authorization", "Bearer x").Body).Decode(&doc); err != nil {
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
			log.take()
			get(reg, "GET", target)
			if text := log.take(); !strings.Contains(text, want) || !strings.Contains(text, "level=DEBUG") {
				t.Errorf("GET %s is logged as %s, want %q", target, text, want)
			}
		}
	})
}

// FuzzLinkQuery requests a file with a query. Only one with the signed values is
// allowed.
func FuzzLinkQuery(f *testing.F) {
	reg := rekisteri.New(rekisteri.NewFSBackend(newTree(f, "1.0.0").mapFS(), &rekisteri.FSOptions{Logger: silent}),
		&rekisteri.Options{Logger: silent, LinkKeys: [][32]byte{linkKey(1)}, LinkTTL: 24 * time.Hour})
	path, query, _ := strings.Cut(linksOf(f, reg, download100)[0], "?")
	want, err := url.ParseQuery(query)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{query, "", query + "&", query + "&x=1", "&" + query, strings.ReplaceAll(query, "=", "%3d"), strings.ToUpper(query), query + "&" + query, query[1:], "expires=1&key=&signature="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		rec := httptest.NewRecorder()
		reg.ServeHTTP(rec, &http.Request{Method: "GET", URL: &url.URL{Path: path, RawQuery: query}, Header: make(http.Header)})
		got, err := url.ParseQuery(query)
		delete(got, "x")
		good := err == nil && reflect.DeepEqual(got["expires"], want["expires"]) && reflect.DeepEqual(got["key"], want["key"]) && reflect.DeepEqual(got["signature"], want["signature"])
		if good != (rec.Code == 200) || !good && rec.Code != 403 {
			t.Errorf("?%s = %d", query, rec.Code)
		}
	})
}
