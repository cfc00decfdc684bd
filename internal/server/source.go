package server

import (
	"context"
	"flag"

	"github.com/rekisteri/rekisteri"
)

// A Source is where a command's providers come from.
type Source interface {
	// Flags defines the source's own flags.
	Flags(*flag.FlagSet)

	// Open opens the tree that the flags name. The source may add to the
	// options.
	Open(context.Context, *rekisteri.FSOptions) (*Tree, error)
}

// A Tree is what a [Source] opens.
type Tree struct {
	Backend *rekisteri.FSBackend
	Name    string // for the log
	Sample  bool   // it is a sample, not the operator's own providers

	// CheckStore returns nil if releases can be published. It is called at the
	// start if somebody may publish. A nil function is not called.
	CheckStore func(context.Context) error
}
