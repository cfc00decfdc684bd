package server

import (
	"encoding/hex"
	"fmt"
	"log/slog"

	"github.com/rekisteri/rekisteri/internal/secretfile"
)

// readLinkKeys reads a file of link keys. Its errors contain nothing of a key.
func readLinkKeys(name string, log *slog.Logger) ([][32]byte, error) {
	file, err := secretfile.Read(name)
	if err != nil {
		return nil, err
	}
	if file.Exposed {
		log.Warn("the link keys can be read by other users, who can then sign links to any file: run chmod go-r on the file", "file", name)
	}
	var keys [][32]byte
	for line := range file.Lines() {
		key, err := hex.DecodeString(line.Fields[0])
		if err != nil || len(key) != 32 || len(line.Fields) > 1 {
			return nil, fmt.Errorf("%s, line %d: a link key is 64 hexadecimal digits; make one with: openssl rand -hex 32", name, line.Number)
		}
		if [32]byte(key) == [32]byte{} {
			return nil, fmt.Errorf("%s, line %d: the key is all zeros; make one with: openssl rand -hex 32", name, line.Number)
		}
		keys = append(keys, [32]byte(key))
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no link key; make one with: openssl rand -hex 32", name)
	}
	return keys, nil
}
