package rekisteri_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/pgptest"
)

// TestReplaced replaces a document by another of the same size and time, as
// rsync -a does.
func TestReplaced(t *testing.T) { synctest.Test(t, testReplaced) }

func testReplaced(t *testing.T) {
	dir := t.TempDir()
	tree{"acme/hello.json": documentOf("1.0.0")}.write(t, dir)
	name := filepath.Join(dir, "acme", "hello.json")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	b := newBackend(t, rootFS(t, dir))
	if got := versionsOf(t, b); got != "1.0.0" {
		t.Fatal(got)
	}
	if err := os.WriteFile(name+".new", []byte(documentOf("2.0.0")), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chtimes(name+".new", old, old), os.Rename(name+".new", name)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * time.Second); versionsOf(t, b) != "2.0.0"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still %s", versionsOf(t, b))
		}
	}
}

// TestOneOfMany edits one document of 4,000, and has no other read again.
func TestOneOfMany(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, edited = 1000, 123
		document := func(i int) string { return fmt.Sprintf("acme/p%d.json", i) }
		tr, before := make(tree), documentOf("1.0.0")
		for i := range n {
			tr[document(i)] = before
		}
		l := newLiveFS(tr)
		b := newBackend(t, l)
		ask := func(i int) string {
			l, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: fmt.Sprint("p", i)})
			if err != nil {
				t.Fatal(err)
			}
			return l.Versions[0].Version
		}
		for i := range n {
			ask(i)
		}
		l.edit(func(files fstest.MapFS) { files[document(edited)] = file(documentOf("2.0.0")) })
		clear(l.calls)
		time.Sleep(3 * time.Second)
		for i := range n {
			want, opened := "1.0.0", 1 // a MapFS opens a file to give its status
			if i == edited {
				want, opened = "2.0.0", 2
			}
			if got := ask(i); got != want || l.calls[document(i)] != opened {
				t.Fatalf("%s is %s, and was opened %d times", document(i), got, l.calls[document(i)])
			}
		}
	})
}

// TestInheritance takes what a platform lacks from its version, and that from
// the document.
func TestInheritance(t *testing.T) {
	keys := sampleKeys
	platform := func(os, more string) string {
		return `{"os":"` + os + `","arch":"amd64","filename":"f.zip","download_url":"https://h/f.zip","shasum":"` + strings.Repeat("0", 64) + `"` + more + `}`
	}
	doc := `{"warnings":["w"],"shasums_url":"doc","shasums_signature_url":"docsig",` + keys("") + `,"versions":[
		{"version":"2.0.0","protocols":["6.0"],"shasums_url":"ver",` + keys(`"key_id":"VER",`) + `,"platforms":[` + platform("a", "") + `,` +
		platform("b", `,"shasums_url":"pkg",`+keys(`"key_id":"PKG",`)) + `,` + platform("c", `,"signing_keys":{"gpg_public_keys":[]}`) + `,` + platform("d", `,"signing_keys":"x"`) + `,` + platform("e", `,"signing_keys":null`) + `]},
		{"version":"1.0.0","protocols":["5.0"],"platforms":[` + platform("a", "") + `]}]}`
	b := newBackend(t, fstest.MapFS{"acme/hello.json": file(doc)})
	got := ""
	for _, version := range []string{"1.0.0", "2.0.0"} {
		rel, err := b.Release(t.Context(), acmeHello, version)
		if err != nil {
			t.Fatal(err)
		}
		for _, pkg := range rel.Packages {
			got += fmt.Sprintf("%s %v %s %s %s", version, rel.Protocols, pkg.OS, pkg.SHASumsURL, pkg.SHASumsSignatureURL)
			for _, k := range pkg.SigningKeys {
				got += " " + k.KeyID
			}
			got += "\n"
		}
	}
	want := "1.0.0 [5.0] a doc docsig 3C91E2DDC757EE2B\n2.0.0 [6.0] a ver docsig VER\n2.0.0 [6.0] b pkg docsig PKG\n2.0.0 [6.0] c ver docsig\n2.0.0 [6.0] d ver docsig\n2.0.0 [6.0] e ver docsig VER\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if l, err := b.Versions(t.Context(), acmeHello); err != nil || !slices.Equal(l.Warnings, []string{"w"}) {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestYoung reads a file again that may have changed within its clock's grain.
func TestYoung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(tree{"acme/hello.json": documentOf("1.0.0")})
		now := time.Now()
		l.files["acme/hello.json"].ModTime = now
		b := newBackend(t, l)
		versionsOf(t, b)
		l.files["acme/hello.json"] = &fstest.MapFile{Data: []byte(documentOf("2.0.0")), ModTime: now} // of the same size
		time.Sleep(2500 * time.Millisecond)
		if got := versionsOf(t, b); got != "2.0.0" {
			t.Errorf("versions %q", got)
		}
	})
}

// TestDroppedDocument asks for a release of a document that was dropped, and
// has since got company, or hangs.
func TestDroppedDocument(t *testing.T) {
	other := rekisteri.Provider{Namespace: "acme", Type: "other"}
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(tree{"acme/hello.json": documentOf("1.0.0"), "acme/other.json": documentOf("1.0.0"), "acme/key.asc": sampleFile(t, "demo/demo.asc")})
		b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: silent, CacheBytes: 1})
		versionsOf(t, b)
		b.Versions(t.Context(), other) // which drops the first
		l.edit(func(files fstest.MapFS) {
			for name, f := range newTree(t, "1.0.0").mapFS() {
				files[name] = f
			}
		})
		time.Sleep(2 * time.Second)
		if rel, err := b.Release(t.Context(), acmeHello, "1.0.0"); err != nil || rel.Packages[0].Filename == "f.zip" {
			t.Errorf("the document's release, though there is a directory: %+v, %v", rel, err)
		}
	})

	// Another content of the same size and time is noticed where it matters.
	l := newLiveFS(tree{"acme/hello.json": documentOf("1.0.0"), "acme/other.json": documentOf("1.0.0")})
	b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: silent, CacheBytes: 1})
	versionsOf(t, b)
	b.Versions(t.Context(), other)
	before := l.files["acme/hello.json"]
	l.files["acme/hello.json"] = &fstest.MapFile{Data: []byte(documentOf("2.0.0")), ModTime: before.ModTime}
	if rel, err := b.Release(t.Context(), acmeHello, "1.0.0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a release that is another one now: %+v, %v", rel, err)
	}

	l = newLiveFS(tree{"acme/hello.json": documentOf("1.0.0"), "acme/other.json": documentOf("1.0.0")})
	hang := make(chan bool)
	var hung atomic.Bool
	l.wait = func() {
		if hung.Load() {
			<-hang
		}
	}
	b = rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: silent, CacheBytes: 1})
	versionsOf(t, b)
	b.Versions(t.Context(), other)
	hung.Store(true)
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := b.Release(ctx, acmeHello, "1.0.0"); err == nil || errors.Is(err, fs.ErrNotExist) || time.Since(begun) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}

// A version of a document that is not in memory has the keys that the document
// has now, although the part of the document that describes it is the same.
func TestEvictedDocumentWithOtherKeys(t *testing.T) {
	doc := func(key string) string {
		quoted, err := json.Marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Replace(strings.Replace(documentOf("1.0.0"), sampleKeys("")+",", "", 1), "]}]}", `]}],"signing_keys":{"gpg_public_keys":[{"ascii_armor":`+string(quoted)+`}]}}`, 1)
	}
	old, new := pgptest.NewKey("old@acme.example"), pgptest.NewKey("new@acme.example")
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(tree{"acme/hello.json": doc(old.Armor()), "other/large.json": documentOf("1.0.0", "2.0.0", "3.0.0", "4.0.0", "5.0.0", "6.0.0")})
		b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: quiet(t), CacheBytes: 8 << 10})
		keyID := func() string {
			versionsOf(t, b)
			b.Versions(t.Context(), rekisteri.Provider{Namespace: "other", Type: "large"}) // evicts the other
			rel, err := b.Release(t.Context(), acmeHello, "1.0.0")
			if err != nil || len(rel.Packages[0].SigningKeys) != 1 {
				t.Fatalf("%+v, %v", rel, err)
			}
			return rel.Packages[0].SigningKeys[0].KeyID
		}
		if got := keyID(); got != old.ID() {
			t.Errorf("key %s, want %s", got, old.ID())
		}
		before := l.calls["acme/hello.json"]
		l.edit(func(files fstest.MapFS) { files["acme/hello.json"] = file(doc(new.Armor())) })
		time.Sleep(5 * time.Second)
		rel, err := b.Release(t.Context(), acmeHello, "1.0.0")
		if err != nil || rel.Packages[0].SigningKeys[0].KeyID != new.ID() {
			t.Errorf("after the change: %+v, %v; %d opens", rel, err, l.calls["acme/hello.json"]-before)
		}
	})
}

// The versions of a document that were read alone share its refreshes. A
// change, or a directory that appears, is visible in time to all of them.
func TestVersionsOfADocumentShareLooks(t *testing.T) {
	t.Parallel()
	var versions []string
	for i := range 100 {
		versions = append(versions, fmt.Sprintf("1.0.%d", i))
	}
	for _, change := range []string{"a changed document", "a directory", "no document"} {
		synctest.Test(t, func(t *testing.T) {
			l := newLiveFS(tree{"acme/hello.json": documentOf(versions...), "other/large.json": documentOf(slices.Repeat([]string{"1.0.0"}, 1)...)})
			b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: quiet(t), CacheBytes: 1 << 20})
			ask := func() (names []string) {
				for _, version := range versions {
					rel, err := b.Release(t.Context(), acmeHello, version)
					if err != nil {
						names = append(names, "")
						continue
					}
					names = append(names, rel.Packages[0].Filename)
				}
				synctest.Wait()
				return names
			}
			ask()
			before := l.calls["acme/hello.json"]
			for range 20 {
				time.Sleep(100 * time.Millisecond)
				ask()
			}
			if n := l.calls["acme/hello.json"] - before; n > 20 {
				t.Errorf("%s: the document was opened %d times in two seconds", change, n)
			}
			l.edit(func(files fstest.MapFS) {
				switch change {
				case "a changed document":
					files["acme/hello.json"] = file(strings.ReplaceAll(documentOf(versions...), "f.zip", "g.zip"))
				case "a directory":
					for name, f := range newTree(t, "1.0.7").mapFS() {
						files[name] = f
					}
				case "no document":
					delete(files, "acme/hello.json")
				}
			})
			for range 20 {
				time.Sleep(100 * time.Millisecond)
				ask()
			}
			names := ask()
			want := map[string]string{"a changed document": "g.zip", "a directory": "terraform-provider-hello_1.0.7_darwin_arm64.zip"}[change]
			if names[7] != want {
				t.Errorf("%s: after two seconds, the file of 1.0.7 is %q, want %q", change, names[7], want)
			}
		})
	}
}
