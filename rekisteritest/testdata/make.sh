#!/bin/sh
# Makes the releases of the suite, with real signatures: sh make.sh (needs gpg
# and zip). Clients can install the zips; the programs in them do nothing. The
# keys and signatures differ from run to run, all else is the same. The catalog
# in releases.go describes the result: change both together.
set -eu
cd "$(dirname "$0")"
tmp=$(mktemp -d)
export GNUPGHOME="$tmp/gnupg" TZ=UTC
trap 'gpgconf --kill all; rm -rf "$tmp"' EXIT
mkdir -m 700 "$GNUPGHOME"
rm -rf releases

# key USER FILE makes a key that does not expire, and exports it.
key() {
	mkdir -p "releases/$(dirname "$2")"
	gpg --batch --quiet --passphrase '' --quick-generate-key "$1" ed25519 sign never
	gpg --batch --quiet --armor --export "=$1" >"releases/$2"
}

# release USER NAMESPACE/TYPE VERSION PROTOCOLS PLATFORM... makes a release, signed
# by USER. If PROTOCOLS is empty, it has no manifest.
release() {
	user=$1 provider=$2 version=$3 protocols=$4
	shift 4
	type=${provider#*/}
	dir=releases/$provider/$version
	prefix=terraform-provider-${type}_$version
	mkdir -p "$dir"
	for platform; do
		binary=terraform-provider-${type}_v$version
		case $platform in windows_*) binary=$binary.exe ;; esac
		build=$tmp/$provider/$version/$platform
		mkdir -p "$build"
		printf '#!/bin/sh\n# %s %s %s\necho "This provider is for tests of registries." >&2\nexit 1\n' \
			"$provider" "$version" "$platform" >"$build/$binary"
		chmod 755 "$build/$binary"
		touch -d 2026-01-01T00:00:00Z "$build/$binary"
		(cd "$build" && zip -qX package.zip "$binary")
		mv "$build/package.zip" "$dir/${prefix}_$platform.zip"
	done
	if [ -n "$protocols" ]; then
		printf '{"version":1,"metadata":{"protocol_versions":[%s]}}\n' "$protocols" >"$dir/${prefix}_manifest.json"
	fi
	(cd "$dir" && sha256sum -- * >"$tmp/SHA256SUMS")
	mv "$tmp/SHA256SUMS" "$dir/${prefix}_SHA256SUMS"
	gpg --batch --quiet --local-user "=$user" --detach-sign "$dir/${prefix}_SHA256SUMS"
	gpg --batch --quiet --verify "$dir/${prefix}_SHA256SUMS.sig" "$dir/${prefix}_SHA256SUMS" 2>/dev/null
}

key 'rekisteritest acme' acme/acme.asc
key 'rekisteritest foo-bar' acme/foo-bar/foo-bar.asc
key 'rekisteritest labs' acme-labs/labs.asc

release 'rekisteritest acme' acme/foo 1.0.0 '' darwin_arm64 linux_amd64 linux_arm64
release 'rekisteritest acme' acme/foo 2.0.0-rc.1 '"6.0"' linux_amd64
release 'rekisteritest acme' acme/foo 9.0.0 '"5.0","6.0"' linux_amd64 windows_amd64
release 'rekisteritest acme' acme/foo 10.0.0 '"6.0"' darwin_arm64 linux_amd64 linux_arm64 windows_amd64

release 'rekisteritest foo-bar' acme/foo-bar 1.0.0+build '' freebsd_386 linux_amd64
release 'rekisteritest foo-bar' acme/foo-bar 1.1.0 '"5.1"' linux_amd64
printf '{"warnings":["acme/foo-bar is deprecated: use acme/foo"]}\n' >releases/acme/foo-bar.json

release 'rekisteritest labs' acme-labs/foo 1.0.0 '' linux_amd64
release 'rekisteritest labs' acme-labs/foo 1.2.0 '"6.0"' darwin_arm64 linux_amd64
