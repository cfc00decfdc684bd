package server

import (
	"os"
	"runtime/debug"
)

// defaultCacheMiB is what the library's two caches take by default: 32 MiB for
// the tree and 16 MiB for encoded documents.
const defaultCacheMiB = 48

// cacheSizes divides a number of MiB among the caches of the backend and of the
// registry.
func cacheSizes(mib int) (tree, documents int64) {
	bytes := int64(mib) << 20
	return bytes * 2 / 3, bytes / 3
}

// memoryLimit returns the memory that the process should stay below, when its
// caches take a number of MiB. The rest of it is room for connections and for
// garbage.
func memoryLimit(mib int) int64 {
	return max(int64(mib), defaultCacheMiB) << 20 * 104 / defaultCacheMiB
}

// limitMemory has the garbage collector run rarely, and more often as the
// process nears its limit: nearly all of the memory is cached, and bounded.
// Settings in the environment take precedence.
func limitMemory(mib int) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(memoryLimit(mib))
}
