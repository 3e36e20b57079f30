#!/bin/sh
# Makes the vectors of this folder anew with the C minisign tool (0.11), GNU tar and gzip, in the current
# directory. The secret keys are thrown away: what was signed once needs them no more.
set -eu

keys=$(mktemp -d)
trap 'rm -rf "$keys"' EXIT

for key in release stranger revoked; do
    minisign -G -W -f -p "$key.pub" -s "$keys/$key" >"$keys/log"
done

printf v1 >"$keys/VERSION"
tar --create --directory "$keys" --format ustar --owner 0 --group 0 --mode 644 --mtime 2026-01-01T00:00Z VERSION |
    gzip --no-name >web-v1.tar.gz
size=$(stat --format %s web-v1.tar.gz)
sha256=$(sha256sum web-v1.tar.gz | cut -d ' ' -f 1)

comment() { # service, version, time
    printf 'releasehand1 service=%s version=%s size=%s sha256=%s time=%s' "$1" "$2" "$size" "$sha256" "$3"
}
sign() { # vector, key, comment, further options
    vector=$1 key=$2 text=$3
    shift 3
    minisign -S -s "$keys/$key" -m web-v1.tar.gz -x "$vector.minisig" -t "$text" "$@"
}

good=$(comment web v1 2026-11-21T10:00:00Z)
sign good release "$good"
sign stranger stranger "$good"
sign revoked revoked "$good"
sign legacy release "$good" -l
sign other-service release "$(comment api v1 2026-11-21T10:00:00Z)"
sign other-version release "$(comment web v0 2026-11-21T10:00:00Z)"
sign old release "$(comment web v1 2025-01-01T00:00:00Z)"
sign other-form release "timestamp:1795255200	file:web-v1.tar.gz	hashed"

# The comment describes web-v1.tar.gz, the signature covers something else.
printf 'something else' >"$keys/else"
minisign -S -s "$keys/release" -m "$keys/else" -x other-bytes.minisig -t "$good"
