package metadata_test

import (
	"bytes"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/rekisteri/rekisteri/internal/metadata"
)

func TestIndex(t *testing.T) {
	armor := readArmor(t, "rsa.asc")
	text := []byte(" " + document(t, `
		{"version":1},
		`+version("3.0.0", platform(`,"signing_keys":"x"`))+`,
		`+version("0.5", platform(`,"os":"darwin"`))+` ,
		`+version("0.5.0", platform(","+signingKeys(armor, `"key_id":"X",`))+",null")+",\t"+version("v2", platform(`,"shasums_url":"s3://x"`)+","+platform(`,"os":"B"`))+","+version("0.4.0", platform(""))+"\n"))
	doc, err := metadata.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	clone := bytes.Clone(text)
	clear(text) // nothing may depend on it
	if got, want := versionsOf(doc), "3.0.0 0.5.0 0.4.0"; got != want {
		t.Fatalf("versions %s, want %s", got, want)
	}
	var buf metadata.Buffer
	for _, want := range doc.Versions {
		at, n, ok := doc.Index.Span(want.Version)
		if !ok {
			t.Fatalf("Span(%s) is missing", want.Version)
		}
		part := clone[at:][:n]
		if part[0] != '{' || part[n-1] != '}' {
			t.Errorf("Span(%s) is %q", want.Version, part)
		}
		buf.Part = part
		got, ok := doc.Index.Decode(want.Version, &buf)
		if !ok || !reflect.DeepEqual(*got, want) {
			t.Errorf("Decode(%s) =\n%+v, %v, want\n%+v", want.Version, got, ok, want)
		}
		for name, part := range map[string][]byte{
			"another":  bytes.Replace(part, []byte("linux"), []byte("linvx"), 1),
			"longer":   clone[at:][:n+1],
			"shorter":  part[:n-1],
			"no bytes": nil,
		} {
			if got, ok := doc.Index.Decode(want.Version, &metadata.Buffer{Part: part}); ok {
				t.Errorf("Decode(%s) of %s part = %+v", want.Version, name, got)
			}
		}
	}
	for _, version := range []string{"", "0.5", "v2", "2.0.0", "9.0.0"} {
		if _, _, ok := doc.Index.Span(version); ok {
			t.Errorf("Span(%q) is there", version)
		}
		if _, ok := doc.Index.Decode(version, new(metadata.Buffer)); ok {
			t.Errorf("Decode(%q) is there", version)
		}
	}
}

func versionsOf(doc *metadata.Document) string {
	var versions []string
	for _, v := range doc.Versions {
		versions = append(versions, v.Version)
	}
	return strings.Join(versions, " ")
}

// TestIndexConcurrently calls Decode concurrently, for the race detector.
func TestIndexConcurrently(t *testing.T) {
	text := document(t, version("1.0.0", platform(`,"signing_keys":"x"`)+","+platform(`,"os":"b",`+signingKeys(readArmor(t, "rsa.asc"), ""))))
	ix := decode(t, text).Index
	at, n, _ := ix.Span("1.0.0")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, ok := ix.Decode("1.0.0", &metadata.Buffer{Part: []byte(text)[at:][:n]}); !ok {
				t.Error("not decoded")
			}
		})
	}
	wg.Wait()
}

// TestIndexSize compares Size with the memory that an Index takes.
func TestIndexSize(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	small := func(versions int, more func(i int) string) []byte {
		var list []string
		for i := range versions {
			list = append(list, version(fmt.Sprintf("1.%d.0", i), platform(more(i))))
		}
		return []byte(document(t, strings.Join(list, ",")))
	}
	plain := func(int) string { return "" }
	armor := readArmor(t, "ed25519.asc")
	for name, text := range map[string][]byte{
		"1 version":          small(1, plain),
		"400 versions":       largeDocument(400, 14),
		"480 versions":       largeDocument(480, 14),
		"400 small versions": small(400, plain),
		"a key per version": small(100, func(i int) string {
			return "," + signingKeys(strings.Replace(armor, "\n\n", fmt.Sprintf("\nComment: %d\n\n", i), 1), "")
		}),
		"an indented key per version": small(100, func(i int) string {
			return "," + signingKeys(strings.ReplaceAll(armor, "\n", "\n"+strings.Repeat(" ", i%10+1)+strings.Repeat("\t", i/10)), "")
		}),
		"a source per version": small(100, func(i int) string {
			return "," + signingKeys(armor, fmt.Sprintf(`"source":"%d",`, i))
		}),
	} {
		t.Run(name, func(t *testing.T) {
			var said int64
			took := heapOf(func() any {
				doc := decode(t, string(text))
				said = doc.Index.Size()
				return doc.Index
			})
			if f := float64(said) / float64(took); f < 1/1.5 || f > 1.5 {
				t.Errorf("Size = %d, and %d bytes are taken", said, took)
			}
		})
	}
}

func TestVersionSize(t *testing.T) {
	v := metadata.Version{Version: "1.0.0", Protocols: []string{"5.0"}, Packages: []metadata.Package{
		{OS: "linux", Arch: "amd64", Filename: "c.zip", URL: "https://h/c.zip", SHASumsURL: "1234", SHASumsSignatureURL: "12345", Keys: []metadata.Key{{KeyID: "X"}}},
		{OS: "linux", Arch: "arm64", Filename: "d.zip", URL: "https://h/other", SHASumsURL: "1234", SHASumsSignatureURL: "12345"},
		{OS: "linux", Arch: "arm", Filename: "e.zip", URL: "https://h/e.zip", SHASumsURL: "123456", SHASumsSignatureURL: "1234567"},
	}}
	if got, want := v.Size(), int64(15+4+5+15+5+15+6+7); got != want {
		t.Errorf("Size = %d, want %d", got, want)
	}
}

// TestVersionMemory compares Size with the memory that versions take. The
// structs are counted here.
func TestVersionMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	text := strings.ReplaceAll(string(largeDocument(200, 14)), "large_", strings.Repeat("long", 50))
	var said int64
	took := heapOf(func() any {
		doc := decode(t, text)
		said = 0
		for _, v := range doc.Versions {
			said += v.Size() + int64(reflect.TypeFor[metadata.Version]().Size()) + int64(len(v.Packages))*int64(reflect.TypeFor[metadata.Package]().Size())
		}
		return doc.Versions
	})
	if f := float64(said) / float64(took); f < 1/1.2 || f > 1.2 {
		t.Errorf("Size says %d, and %d bytes are taken", said, took)
	}
}

// heapOf returns the heap that a value takes.
func heapOf(make func() any) int64 {
	const n = 8
	values := [n]any{}
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for i := range values {
		values[i] = make()
	}
	after := heap()
	runtime.KeepAlive(&values)
	return (after - before) / n
}
