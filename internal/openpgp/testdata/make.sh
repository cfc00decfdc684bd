#!/bin/sh
# make.sh makes the fixtures of this directory with GnuPG 2.2, in a temporary home.
#
#	make.sh [reading | verifying]
#
# The keys differ from run to run, so the tables of the tests must be adapted: gpg's account of
# each key is printed. To add fixtures and keep the others, add a group and make only that.
#
# Not made here are hashicorp-2014.asc, the key with which HashiCorp signed its first providers,
# and rfc9580.asc, rfc9580.sig and rfc9580, the samples of RFC 9580, appendices A.3 and A.6:
# GnuPG knows no version 6.
set -eu
cd "$(dirname "$0")"
group=${1:-all}
GNUPGHOME=$(mktemp -d)
export GNUPGHOME
trap 'gpgconf --kill all; rm -rf "$GNUPGHOME"' EXIT

# at TIME ARGS... runs gpg as if the clock stood at TIME.
at() {
	time=$1
	shift
	gpg --batch --quiet --no-tty --yes --pinentry-mode loopback --passphrase '' \
		--faked-system-time "$time!" "$@"
}
new() { at 20240101T000000 --quick-generate-key "$1 <$1@example.com>" "$2" "$3" "$4"; }
id() { gpg --batch --with-colons --list-keys "$1@example.com" | awk -F: '$1 == "fpr" { print $10; exit }'; }
# drive TIME NAME COMMAND... types the commands into gpg's key editor.
drive() {
	time=$1 name=$2
	shift 2
	printf '%s\n' "$@" | gpg --quiet --no-tty --yes --pinentry-mode loopback --passphrase '' \
		--faked-system-time "$time!" --command-fd 0 --edit-key "$name@example.com" >/dev/null
}
export_() { at 20240601T000000 --armor --export "$1@example.com" >"$1.asc"; }
sign() { at 20240601T000000 --output "$1.sig" --local-user "$1@example.com" --detach-sign document; }

printf 'what is signed\n' >document

reading() {
	new rsa rsa3072 sign,cert never
	sign rsa
	at 20240601T000000 --output rsa-armored.sig --local-user rsa@example.com --armor --detach-sign document
	at 20240601T000000 --output rsa-sha512.sig --local-user rsa@example.com --digest-algo SHA512 --detach-sign document
	at 20240601T000000 --output rsa-text.sig --local-user rsa@example.com --textmode --detach-sign document
	at 20240601T000000 --output rsa-expiring.sig --local-user rsa@example.com --default-sig-expire 30d --detach-sign document
	at 20240601T000000 --output rsa-critical.sig --local-user rsa@example.com --sig-notation '!n@example.com=v' --detach-sign document
	export_ rsa

	new ed25519 ed25519 sign,cert never
	at 20240101T000000 --quick-add-key "$(id ed25519)" cv25519 encr never
	sign ed25519
	export_ ed25519
	at 20240601T000000 --output two.sig --local-user rsa@example.com --local-user ed25519@example.com --detach-sign document

	new nistp256 nistp256 sign,cert never
	at 20240101T000000 --quick-add-key "$(id nistp256)" nistp256 encr never
	sign nistp256
	export_ nistp256

	new brainpool brainpoolP256r1 sign,cert never
	at 20240101T000000 --quick-add-key "$(id brainpool)" brainpoolP384r1 encr never
	at 20240101T000000 --quick-add-key "$(id brainpool)" secp256k1/ecdsa sign never
	export_ brainpool

	new dsa dsa2048 sign,cert never
	at 20240101T000000 --quick-add-key "$(id dsa)" elg2048 encr never
	sign dsa
	export_ dsa

	# The primary key only certifies; what signs is a subkey, and an older one is revoked.
	new subkey ed25519 cert never
	at 20240101T000000 --quick-add-key "$(id subkey)" ed25519 sign never
	drive 20240201T000000 subkey 'key 1' revkey y 0 '' y save
	at 20240301T000000 --quick-add-key "$(id subkey)" rsa2048 sign 2y
	sign subkey
	export_ subkey

	new expired ed25519 sign,cert 20240301T000000
	export_ expired

	new extended ed25519 sign,cert 20240301T000000
	at 20240201T000000 --output extended.sig --local-user extended@example.com --detach-sign document
	at 20240601T000000 --armor --export extended@example.com >extended-before.asc
	at 20240201T000000 --quick-set-expire "$(id extended)" 20300101T000000
	export_ extended
	at 20240301T000000 --quick-set-expire "$(id extended)" never
	at 20240601T000000 --armor --export extended@example.com >extended-for-ever.asc

	new revoked ed25519 sign,cert never
	sign revoked
	at 20240601T000000 --armor --export revoked@example.com >revoked-before.asc
	drive 20240301T000000 revoked revkey y 1 '' y save
	export_ revoked

	# Three user IDs of which one is revoked, and a photo.
	new uids ed25519 sign,cert 2y
	at 20240201T000000 --quick-add-uid "$(id uids)" 'second <second@example.com>'
	at 20240301T000000 --quick-add-uid "$(id uids)" 'third <third@example.com>'
	at 20240401T000000 --quick-revoke-uid "$(id uids)" 'second <second@example.com>'
	base64 -d >"$GNUPGHOME/photo.jpg" <<'JPEG'
/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkI
CQkKDA8MCgsOCwkJDRENDg8QEBEQCgwSExIQEw8QEBD/yQALCAABAAEBAREA/8wABgAQEAX/2gAI
AQEAAD8A0s8g/9k=
JPEG
	drive 20240401T000000 uids addphoto "$GNUPGHOME/photo.jpg" y save
	sign uids
	export_ uids
	# The same, without what is not in use: the revoked user ID keeps only its revocation.
	at 20240601T000000 --armor --export-options export-clean --export uids@example.com >uids-clean.asc

	# A key with a certification by another, and one that another may revoke.
	at 20240201T000000 --local-user rsa@example.com --quick-sign-key "$(id nistp256)" >/dev/null
	at 20240601T000000 --armor --export nistp256@example.com >certified.asc
	new revocable ed25519 sign,cert 2y
	drive 20240201T000000 revocable addrevoker rsa@example.com y save
	export_ revocable

	at 20240601T000000 --armor --export rsa@example.com ed25519@example.com >pair.asc
	{
		echo 'Our keys. The first signs releases up to 2024:'
		echo
		cat rsa.asc
		printf '\n-- and the second the others --\n'
		cat ed25519.asc
		echo 'Ask us if in doubt.'
	} >prose.asc
}

verifying() {
	# Every algorithm that Verify knows, and some that it does not.
	new rsa2048 rsa2048 sign,cert never
	sign rsa2048
	for digest in SHA1 SHA224 SHA256 SHA384 SHA512; do
		at 20240601T000000 --allow-weak-digest-algos --output "rsa2048-$digest.sig" --local-user rsa2048@example.com \
			--digest-algo "$digest" --detach-sign document
	done
	export_ rsa2048
	for curve in nistp384 nistp521 secp256k1; do
		new "$curve" "$curve" sign,cert never
		sign "$curve"
		export_ "$curve"
	done
	new brainpool-signer brainpoolP256r1 cert never
	at 20240101T000000 --quick-add-key "$(id brainpool-signer)" ed25519 sign never
	sign brainpool-signer
	export_ brainpool-signer

	# Text mode turns line ends into CRLF. GnuPG drops every carriage return in front of a line
	# feed, clients do not: they refuse its signature of a file with two of them.
	printf 'unix\nwindows\r\n\n\r\na carriage return\rin a line\na space at the end \nno line feed at the end' >text
	printf 'two carriage returns\r\r\n' >returns
	new text ed25519 sign,cert never
	at 20240601T000000 --output text.sig --local-user text@example.com --textmode --detach-sign text
	at 20240601T000000 --output text-binary.sig --local-user text@example.com --detach-sign text
	at 20240601T000000 --output returns.sig --local-user text@example.com --textmode --detach-sign returns
	export_ text

	# Subkeys that no longer sign, while their primary key is valid.
	for algo in rsa2048 ed25519; do
		new "$algo-lapsed" ed25519 cert never
		at 20240101T000000 --quick-add-key "$(id "$algo-lapsed")" "$algo" sign 20240301T000000
		at 20240201T000000 --output "$algo-lapsed.sig" --local-user "$algo-lapsed@example.com" --detach-sign document
		export_ "$algo-lapsed"
	done
	at 20240215T000000 --quick-set-expire "$(id ed25519-lapsed)" 20270101T000000 '*'
	at 20240601T000000 --armor --export ed25519-lapsed@example.com >ed25519-lapsed-extended.asc
	new rotated ed25519 cert never
	at 20240101T000000 --quick-add-key "$(id rotated)" ed25519 sign never
	at 20240115T000000 --output rotated-before.sig --local-user rotated@example.com --detach-sign document
	at 20240115T000000 --armor --export rotated@example.com >rotated-before.asc
	drive 20240201T000000 rotated 'key 1' revkey y 0 '' y save
	at 20240301T000000 --quick-add-key "$(id rotated)" nistp256/ecdsa sign never
	sign rotated
	export_ rotated

	# Two signatures of one file: by a revoked key and by a good one.
	new retired ed25519 sign,cert never
	new current ed25519 sign,cert never
	at 20240201T000000 --output handover.sig --local-user retired@example.com --local-user current@example.com --detach-sign document
	drive 20240301T000000 retired revkey y 1 '' y save
	export_ retired
	export_ current
}

case $group in
all)
	reading
	verifying
	;;
*) "$group" ;;
esac

for f in *.asc; do
	echo "== $f"
	at 20240601T000000 --with-colons --show-keys "$f" 2>/dev/null | grep -E '^(pub|sub|fpr)' || true
done
for f in *.sig; do
	echo "== $f"
	gpg --list-packets "$f" 2>/dev/null | grep -E 'keyid|subpkt (2|3|33) ' || true
done
