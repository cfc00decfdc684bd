#!/bin/sh
# Makes the sample's signed release, demo/hello: sh make-sample.sh (needs gpg and zip).
# What is in the zips can be installed, not run.
set -eu
cd "$(dirname "$0")/sample/demo"
version=1.0.0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export GNUPGHOME="$tmp/gnupg" TZ=UTC
mkdir -m 700 "$GNUPGHOME"
rm -rf hello && mkdir -p "hello/$version"

for platform in darwin_amd64 darwin_arm64 linux_amd64 linux_arm64 windows_amd64 windows_arm64; do
	binary=terraform-provider-hello_v$version
	case $platform in windows_*) binary=$binary.exe ;; esac
	mkdir "$tmp/$platform"
	printf '#!/bin/sh\n# %s\necho "This provider is a sample: it can be installed, not run." >&2\nexit 1\n' "$platform" >"$tmp/$platform/$binary"
	chmod 755 "$tmp/$platform/$binary"
	touch -d 2026-01-01T00:00:00Z "$tmp/$platform/$binary"
	(cd "$tmp/$platform" && zip -qX "$tmp/terraform-provider-hello_${version}_$platform.zip" "$binary")
done
mv "$tmp"/*.zip "hello/$version/"

sums=terraform-provider-hello_${version}_SHA256SUMS
(cd "hello/$version" && sha256sum -- *.zip >"$sums")
# The release tool sums the manifest under the name that it is uploaded by, and
# leaves it where it is.
printf '{"version": 1, "metadata": {"protocol_versions": ["5.0"]}}\n' | sha256sum |
	sed "s/-$/terraform-provider-hello_${version}_manifest.json/" >>"hello/$version/$sums"
gpg --batch --quiet --passphrase '' --quick-generate-key 'rekisteri sample' ed25519 sign never
gpg --batch --quiet --detach-sign "hello/$version/$sums"
gpg --batch --quiet --armor --export >demo.asc
