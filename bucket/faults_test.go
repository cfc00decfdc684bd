package bucket_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/bucket"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"
)

// failing returns a change that makes requests fail whose operation and key
// begin with call.
func failing(call string, err error) func(*faulty) {
	return func(f *faulty) {
		f.before = func(op, key string) error {
			if strings.HasPrefix(op+" "+key, call) {
				return err
			}
			return nil
		}
	}
}

// outages are ways in which a store fails, by description. None of them says
// that something was deleted.
var outages = map[string]func(*faulty){
	"503 SlowDown":                  failing("", slowDown),
	"403":                           failing("", forbidden),
	"time-outs":                     failing("", timeout),
	"connection resets":             failing("", reset),
	"no bucket":                     failing("", noBucket),
	"no credentials":                failing("", errNoCredentials),
	"no credentials for lists":      failing("LIST acme/foo/", errNoCredentials),
	"no credentials for GET":        failing("GET", errNoCredentials),
	"lists are not found":           failing("LIST", noBucket),
	"lists fail":                    failing("LIST", reset),
	"lists of providers fail":       failing("LIST acme/foo/", forbidden),
	"list of a provider not found":  func(f *faulty) { f.before = notListing("acme/foo/") },
	"lists of releases not found":   failing("LIST acme/foo/1", noBucket),
	"list of namespace not found":   func(f *faulty) { f.before = notListing("acme/") },
	"lists of namespaces fail":      failing("LIST acme/", forbidden),
	"GET fails":                     failing("GET", reset),
	"GET does not find":             failing("GET", noKey),
	"GET and HEAD do not find":      func(f *faulty) { f.before = notFinding },
	"HEAD and GET fail":             func(f *faulty) { f.before = noObjects },
	"lists are cut between pages":   cutLists(true),
	"second pages fail":             cutLists(false),
	"lists are empty":               emptyLists(""),
	"lists of namespaces are empty": emptyLists("acme/"),
	"lists of providers are empty":  emptyLists("acme/foo/"),
	"bodies break off": func(f *faulty) {
		f.read = func(_ string, r io.Reader) io.Reader {
			return io.MultiReader(io.LimitReader(r, 10), iotest.ErrReader(reset))
		}
	},
	"bodies end early": func(f *faulty) {
		f.read = func(_ string, r io.Reader) io.Reader { return io.LimitReader(r, 10) }
	},
}

func notFinding(op, _ string) error {
	if op == "GET" || op == "HEAD" {
		return noKey
	}
	return nil
}

// notListing makes the LIST of one directory fail.
func notListing(prefix string) func(op, key string) error {
	return func(op, key string) error {
		if op == "LIST" && key == prefix {
			return noBucket
		}
		return nil
	}
}

func noObjects(op, _ string) error {
	if op == "GET" || op == "HEAD" {
		return forbidden
	}
	return nil
}

// cutLists makes all lists have a second page, which fails. The first page has
// one object, or none.
func cutLists(empty bool) func(*faulty) {
	return func(f *faulty) {
		f.list = func(_ string, objects []*driver.ListObject) *driver.ListPage {
			n := min(len(objects), 1)
			if empty {
				n = 0
			}
			return &driver.ListPage{Objects: objects[:n], NextPageToken: []byte("second page")}
		}
		f.before = func(op, _ string) error {
			if op == "LIST MORE" {
				return reset
			}
			return nil
		}
	}
}

// emptyLists makes lists below a prefix empty.
func emptyLists(below string) func(*faulty) {
	return func(f *faulty) {
		f.list = func(prefix string, objects []*driver.ListObject) *driver.ListPage {
			if strings.HasPrefix(prefix, below) && (below == "" || strings.HasSuffix(prefix, "/")) {
				objects = nil
			}
			return &driver.ListPage{Objects: objects}
		}
	}
}

// TestOutages tests that a store that fails never makes a provider or a version
// disappear.
func TestOutages(t *testing.T) {
	for name, outage := range outages {
		for _, warm := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/warm=%t", name, warm), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testOutage(t, outage, warm) })
			})
		}
	}
}

func testOutage(t *testing.T, outage func(*faulty), warm bool) {
	b, f := newMemory()
	addObject(t, b, "acme/acme.asc", testKey().Armor())
	for _, version := range []string{"1.0.0", "1.1.0"} {
		addRelease(t, b, version)
	}
	r := newReplica(t, b, nil)
	reg := rekisteri.New(r, &rekisteri.Options{Logger: quiet(t)})
	answer := func(path string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		reg.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		return rec
	}
	paths := []string{
		"/v1/providers/acme/foo/versions",
		"/v1/providers/acme/foo/1.0.0/download/linux/amd64",
		"/files/acme/foo/1.0.0/" + sumsOf("1.0.0"),
		"/files/acme/foo/1.0.0/" + sigOf("1.0.0"),
		"/files/acme/foo/1.0.0/" + zipOf("1.0.0"),
	}
	good := make(map[string]string)
	if warm {
		for _, path := range paths {
			good[path] = answer(path).Body.String()
		}
	}
	f.set(outage)
	for range 40 { // of about ten seconds each: more than one check, and the backoff
		time.Sleep(12 * time.Second)
		for _, path := range paths {
			rec := answer(path)
			isZip := strings.HasSuffix(path, ".zip")
			switch {
			case rec.Code == 404:
				t.Fatalf("%s: 404 in an outage", path)
			case rec.Code == 200 && warm && rec.Body.String() != good[path] && !isZip:
				t.Fatalf("%s: another answer in an outage: %s", path, rec.Body)
			case rec.Code != 200 && warm && !isZip:
				t.Fatalf("%s: %d, although it is in memory", path, rec.Code)
			}
		}
		synctest.Wait()
	}
	f.heal()
	time.Sleep(3 * time.Minute)
	answer(paths[0])
	synctest.Wait()
	time.Sleep(12 * time.Second)
	for _, path := range paths {
		rec := answer(path)
		if rec.Code != 200 || warm && rec.Body.String() != good[path] {
			t.Errorf("%s after the outage: %d: %s", path, rec.Code, rec.Body)
		}
	}
}

// TestDeletions tests that what is deleted disappears.
func TestDeletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newMemory()
		addObject(t, b, "acme/acme.asc", testKey().Armor())
		addRelease(t, b, "1.0.0")
		addRelease(t, b, "1.1.0")
		addObject(t, b, "acme/other.json", `{"versions":{}}`)
		r := newReplica(t, b, nil)
		listed := func() string {
			l, err := r.Versions(t.Context(), acmeFoo)
			if err != nil {
				return fmt.Sprint("absent: ", errors.Is(err, fs.ErrNotExist))
			}
			var all []string
			for _, v := range l.Versions {
				all = append(all, v.Version)
			}
			return strings.Join(all, " ")
		}
		remove := func(prefix string) {
			for _, key := range keys(t, b, prefix) {
				if err := b.Delete(t.Context(), prefix+key); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(12 * time.Second)
		}
		if got := listed(); got != "1.0.0 1.1.0" {
			t.Fatal(got)
		}
		remove("acme/foo/1.0.0/")
		if got := listed(); got != "1.1.0" {
			t.Errorf("without 1.0.0: %s", got)
		}
		remove("acme/foo/")
		listed() // and refreshes the namespace
		time.Sleep(12 * time.Second)
		if got := listed(); got != "absent: true" {
			t.Errorf("without releases: %s", got)
		}
	})
}

// TestReplacedWhileRead tests that a file is not mixed of two objects.
func TestReplacedWhileRead(t *testing.T) {
	b, _ := newMemory()
	addObject(t, b, "dir/file", "0123456789")
	fsys := bucket.New(b, nil)
	f, err := fsys.Open("dir/file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	part := make([]byte, 5)
	if _, err := io.ReadFull(f, part); err != nil || string(part) != "01234" {
		t.Fatalf("%q, %v", part, err)
	}
	addObject(t, b, "dir/file", "abcdefghijkl")
	if _, err := f.(io.Seeker).Seek(2, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(f, part); err == nil {
		t.Errorf("read %q of another object", part)
	}
	if _, err := f.(io.ReaderAt).ReadAt(part, 0); err == nil {
		t.Errorf("read %q of another object", part)
	}
}

// TestOddKeys tests that keys that are no paths are left out.
func TestOddKeys(t *testing.T) {
	b, _ := newMemory()
	for _, key := range []string{"dir/", "dir/file", "dir/both", "dir/both/x", "dir//x", "dir/../x", "dir/./y", "dir/sub/", "/x"} {
		addObject(t, b, key, "")
	}
	fsys := bucket.New(b, nil)
	for dir, want := range map[string]string{".": "dir/", "dir": "both/ file sub/", "dir/sub": ""} {
		entries, err := fsys.ReadDir(dir)
		var got []string
		for _, e := range entries {
			name := e.Name()
			if e.IsDir() {
				name += "/"
			}
			got = append(got, name)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s has %q, %v, want %s", dir, got, err, want)
		}
	}
}

// TestBodyThatEnds tests that a file is not taken for shorter than it is.
func TestBodyThatEnds(t *testing.T) {
	b, f := newMemory()
	addObject(t, b, "file", "0123456789")
	f.set(func(f *faulty) { f.read = func(_ string, r io.Reader) io.Reader { return io.LimitReader(r, 5) } })
	if got, err := fs.ReadFile(bucket.New(b, nil), "file"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestFS tests the rules of file systems.
func TestFS(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			for _, key := range []string{"a", "dir/b", "dir/c.txt", "dir/sub/d", "dir-e/f", "zero"} {
				addObject(t, b, key, strings.Repeat(key, 1000*len(key)/5))
			}
			addObject(t, b, "empty", "")
			if err := fstest.TestFS(bucket.New(b, nil), "a", "dir/b", "dir/c.txt", "dir/sub/d", "dir-e/f", "empty"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSecrets tests that errors have no secrets of URLs.
func TestSecrets(t *testing.T) {
	const text = `Get "https://user:hunter2@store.example.com/acme/foo?X-Amz-Signature=hunter2&X-Amz-Credential=hunter2#x": dial tcp 10.0.0.1:443: refused`
	b, f := newMemory()
	f.set(failing("", &fault{code: gcerrors.Unknown, text: text}))
	_, err := fs.ReadDir(bucket.New(b, nil), "acme")
	const want = `readdir acme: blob (code=Unknown): Get "https://store.example.com/acme/foo": dial tcp 10.0.0.1:443: refused`
	if fmt.Sprint(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if got := fmt.Sprintf("%+v %#v", err, errors.Unwrap(err)); strings.Contains(got, "hunter2") {
		t.Errorf("with all details: %s", got)
	}
}

// TestPublishInOutage tests that a store that fails never makes a correct upload
// wrong, nor absent: clients would not try again.
func TestPublishInOutage(t *testing.T) {
	files := build("1.0.0", "")
	before := map[string]func(t *testing.T, inner *blob.Bucket, r replica){
		"nothing": func(*testing.T, *blob.Bucket, replica) {},
		"all but one staged": func(t *testing.T, _ *blob.Bucket, r replica) {
			all := names(files)
			if _, err := r.upload(t, "1.0.0", files, all[:len(all)-1]...); err != nil {
				t.Fatal(err)
			}
		},
		"claimed": func(t *testing.T, inner *blob.Bucket, r replica) {
			addObject(t, inner, "acme/foo/1.0.0/"+sumsOf("1.0.0"), files[sumsOf("1.0.0")])
		},
		"published": func(t *testing.T, inner *blob.Bucket, r replica) { addRelease(t, inner, "1.0.0") },
	}
	for state, prepare := range before {
		for name, outage := range outages {
			for _, requests := range []int64{0, 1, 2, 3, 5, 8, 13, 21, 34} { // before the outage
				t.Run(fmt.Sprintf("%s/%s/%d", state, name, requests), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						sleepUntilSigned()
						inner, buckets, drivers := newStore(t)
						addRelease(t, inner, "0.1.0")
						prepare(t, inner, newReplica(t, memoryOf(inner), nil))
						time.Sleep(time.Minute)
						r := newReplica(t, buckets[0], nil)
						drivers[0].set(beginAfter(requests, drivers[0], outage))
						for _, file := range names(files) {
							_, err := r.upload(t, "1.0.0", files, file)
							denied := strings.Contains(fmt.Sprint(err), "the registry cannot write")
							if isUploadError(err) && !denied || errors.Is(err, fs.ErrNotExist) {
								t.Errorf("%s: %v", file, err)
							}
						}
						drivers[0].heal()
						time.Sleep(3 * time.Minute)
						if _, err := r.upload(t, "1.0.0", files, names(files)...); err != nil {
							t.Errorf("after the outage: %v", err)
						}
						mustHold(t, inner, "1.0.0", files)
					})
				})
			}
		}
	}
}

// beginAfter returns a change that makes an outage begin after some requests.
func beginAfter(requests int64, f *faulty, outage func(*faulty)) func(*faulty) {
	var made atomic.Int64
	return func(changed *faulty) {
		changed.before = func(op, key string) error {
			if made.Add(1) <= requests {
				return nil
			}
			f.mu.Lock()
			changed.before = nil
			outage(changed)
			before := changed.before
			f.mu.Unlock()
			if before == nil {
				return nil
			}
			return before(op, key)
		}
	}
}
