package metadata

import (
	"encoding/json"
	"hash/maphash"
	"slices"
	"strings"
)

// An Index knows the position of each version in a document, and what versions
// inherit from it. With an Index, one version can be decoded without reading the
// rest of the document. It is immutable and does not retain the text.
type Index struct {
	spans     []span // by version
	seed      maphash.Seed
	inherited sharedJSON
	armors    map[string]armor
}

// A span is the part of a document that describes a version.
type span struct {
	version string
	offset  int64
	length  int32
	good    bool // nothing in it was left out
	hash    uint64
}

// Span returns the position of a version in the document.
func (ix *Index) Span(version string) (offset int64, length int, ok bool) {
	at, ok := ix.find(version)
	return at.offset, int(at.length), ok
}

func (ix *Index) find(version string) (at span, ok bool) {
	i, ok := slices.BinarySearchFunc(ix.spans, version, func(s span, version string) int {
		return strings.Compare(s.version, version)
	})
	if !ok {
		return span{}, false
	}
	return ix.spans[i], true
}

// A Buffer is memory that [Index.Decode] uses. Its zero value is ready to use. It
// must not be used concurrently.
type Buffer struct {
	Part      []byte // of the document
	platforms []platformJSON
}

// Decode decodes a version from the part of the document at its [Index.Span],
// which is buf.Part. It reports false if the part has changed since the document
// was decoded. The version does not retain memory of buf.
func (ix *Index) Decode(version string, buf *Buffer) (v *Version, ok bool) {
	at, ok := ix.find(version)
	if !ok || maphash.Bytes(ix.seed, buf.Part) != at.hash {
		return nil, false
	}
	d := newDecoder(ix.armors) // which has all of the document's, so it is not changed
	d.checked = at.good
	e := versionJSON{Platforms: buf.platforms[:0]}
	json.Unmarshal(buf.Part, &e) // an error has been reported
	found := d.version(at.version, &e, ix.inherited)
	buf.platforms = e.Platforms[:cap(e.Platforms)]
	clear(buf.platforms) // json.Unmarshal would merge old values with new ones
	return &found, true
}

// Size returns the memory that ix takes, in bytes. It is an estimate.
func (ix *Index) Size() int64 {
	const ( // in bytes
		fixed    = 800 // ix and a small map
		perSpan  = 48
		perArmor = 80
		perKey   = 100
	)
	size := fixed + len(ix.spans)*perSpan + len(ix.inherited.SHASumsURL) + len(ix.inherited.SHASumsSignatureURL)
	for _, s := range ix.spans {
		size += len(s.version)
	}
	for text, a := range ix.armors {
		size += perArmor + len(text)
		for _, key := range a.keys {
			size += perKey
			if key.ASCIIArmor != text {
				size += len(key.ASCIIArmor)
			}
		}
	}
	return int64(size)
}
