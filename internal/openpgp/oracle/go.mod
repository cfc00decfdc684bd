module github.com/rekisteri/rekisteri/internal/openpgp/oracle

go 1.26.0

require (
	// Clients are built with versions from v1.1.3 on, with which the tests pass too.
	// Versions from v1.5.0 on also know post-quantum algorithms, and stop at a damaged
	// signature of one, which package openpgp skips.
	github.com/ProtonMail/go-crypto v1.4.1
	github.com/rekisteri/rekisteri v0.0.0
)

replace github.com/rekisteri/rekisteri => ../../..

require (
	github.com/cloudflare/circl v1.6.3 // indirect
	golang.org/x/crypto v0.41.0 // indirect
	golang.org/x/sys v0.35.0 // indirect
)
