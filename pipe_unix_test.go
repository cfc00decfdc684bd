//go:build unix

package rekisteri_test

import "syscall"

func makePipe(name string) error { return syscall.Mkfifo(name, 0o600) }

// maxFiles returns how many files the process may have open.
func maxFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur, 1<<20))
}
