module github.com/rekisteri/rekisteri

// The older of the two Go releases that the Go project supports.
go 1.26.0

require golang.org/x/mod v0.42.0
