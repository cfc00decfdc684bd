package metadata_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/metadata"
)

// largeDocument returns a document such as one of the largest providers of the
// public registry would have.
func largeDocument(versions, platforms int) []byte {
	var doc strings.Builder
	doc.WriteString(`{"signing_keys":{"gpg_public_keys":[]},"versions":[`)
	for i := range versions {
		if i > 0 {
			doc.WriteByte(',')
		}
		version := fmt.Sprintf("%d.%d.%d", i/100, i/10%10, i%10)
		base := "https://downloads.acme.example/" + version + "/large_" + version
		fmt.Fprintf(&doc, `{"version":%q,"protocols":["5.0"],"shasums_url":"%s_SHA256SUMS","shasums_signature_url":"%s_SHA256SUMS.sig","platforms":[`, version, base, base)
		for j := range platforms {
			if j > 0 {
				doc.WriteByte(',')
			}
			os := [...]string{"darwin", "freebsd", "linux", "windows"}[j%4]
			arch := [...]string{"386", "amd64", "arm", "arm64"}[j/4]
			fmt.Fprintf(&doc, `{"os":%q,"arch":%q,"filename":"large_%s_%s_%s.zip","download_url":"%s_%s_%s.zip","shasum":"%064x"}`,
				os, arch, version, os, arch, base, os, arch, i*100+j)
		}
		doc.WriteString("]}")
	}
	doc.WriteString("]}")
	return []byte(doc.String())
}

func BenchmarkDecode(b *testing.B) {
	text := largeDocument(425, 14)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := metadata.Decode(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIndexDecode(b *testing.B) {
	text := largeDocument(425, 14)
	doc, err := metadata.Decode(text)
	if err != nil {
		b.Fatal(err)
	}
	at, n, _ := doc.Index.Span("1.2.3")
	buf := &metadata.Buffer{Part: text[at:][:n]}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := doc.Index.Decode("1.2.3", buf); !ok {
			b.Fatal("not decoded")
		}
	}
}
