package openpgp

import (
	"errors"
	"fmt"
)

// Packet types (RFC 9580, section 5).
const (
	tagSignature     = 2
	tagSecretKey     = 5
	tagPublicKey     = 6
	tagSecretSubkey  = 7
	tagMarker        = 10
	tagTrust         = 12
	tagUserID        = 13
	tagPublicSubkey  = 14
	tagUserAttribute = 17
	tagPadding       = 21
	tagNonCritical   = 40 // and all above
)

// A packet is the unit of everything in OpenPGP.
type packet struct {
	tag  byte
	body []byte
}

// nextPacket returns the first packet of b and the bytes after it.
func nextPacket(b []byte) (p packet, rest []byte, err error) {
	f := fields{b: b}
	first := f.byte()
	var size uint
	switch {
	case first&0x80 == 0:
		return p, nil, fmt.Errorf("byte %#02x where a packet should begin", first)
	case first&0x40 != 0:
		p.tag = first & 0x3F
		size = f.number(1)
		switch {
		case size == 255:
			size = f.number(4)
		case size >= 224: // meant for data, not for keys and signatures
			return p, nil, errors.New("packet of partial length")
		case size >= 192:
			size = (size-192)<<8 + f.number(1) + 192
		}
	case first&3 == 3:
		return p, nil, errors.New("packet of indeterminate length")
	default:
		p.tag = first >> 2 & 0x0F
		size = f.number(1 << (first & 3))
	}
	p.body = f.take(size)
	if f.short {
		return p, nil, errors.New("packet longer than its block")
	}
	if p.tag == tagMarker && string(p.body) != "PGP" {
		return p, nil, errors.New("malformed marker packet")
	}
	return p, f.b, nil
}

// ignored reports whether clients skip p wherever it is.
func (p packet) ignored() bool {
	return p.tag == tagMarker || p.tag == tagTrust || p.tag >= tagNonCritical
}

// fields takes one field after the other off the front of b. Past the end it returns zeros
// and stays short, so that a series of fields needs one check only.
type fields struct {
	b     []byte
	short bool
}

func (f *fields) take(n uint) []byte {
	if n > uint(len(f.b)) {
		f.b, f.short = nil, true
		return nil
	}
	field := f.b[:n]
	f.b = f.b[n:]
	return field
}

func (f *fields) rest() []byte { return f.take(uint(len(f.b))) }

// number takes a big-endian number of up to four bytes.
func (f *fields) number(size uint) uint {
	var n uint
	for _, c := range f.take(size) {
		n = n<<8 | uint(c)
	}
	return n
}

func (f *fields) byte() byte { return byte(f.number(1)) }

// mpi takes a multiprecision integer.
func (f *fields) mpi() []byte { return f.take((f.number(2) + 7) / 8) }

// subpacket takes a subpacket of a signature or of a user attribute. A subpacket without a
// type makes f short.
func (f *fields) subpacket() []byte {
	size := f.number(1)
	switch {
	case size == 255:
		size = f.number(4)
	case size >= 192:
		size = (size-192)<<8 + f.number(1) + 192
	}
	f.short = f.short || size == 0
	return f.take(size)
}

// check returns an error unless the fields taken were complete and nothing is left.
func (f *fields) check(what string) error {
	switch {
	case f.short:
		return fmt.Errorf("%s is cut short", what)
	case len(f.b) > 0:
		return fmt.Errorf("%s has bytes after its last field", what)
	}
	return nil
}
