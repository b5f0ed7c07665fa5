#!/bin/sh
# Install the Debian packages listed in $1 (- is stdin) that are not there yet.
#
# Each line is PACKAGE PROGRAM; a package is there if its program is. Nothing is
# started, and no package of yours is removed: where one would be (another mail
# server, say), nothing is installed. Not root, or not Debian: says what is missing.
# The exit status is 0 all the same, since tests skip what they cannot have; where
# they must not (CI=true) they fail, and say what they miss.
set -eu

missing=$(sed 's/#.*//' "$1" | while read -r package program; do
    [ -z "$package" ] || [ -x "$program" ] || printf ' %s' "$package"
done)
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed:$missing (tests that need them are skipped;" \
        "as root: apt-get install$missing)" >&2
    exit 0
fi

# A package starts its service when it is installed, unless this says no.
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
made=
cleanup() {
    rm -f "$log"
    [ -z "$made" ] || rm -f "$policy"
}
trap cleanup EXIT
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=yes
fi

echo "installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
{
    apt-get -q update || echo "apt-get update failed; trying with the lists at hand"
    # shellcheck disable=SC2086  # a list of names
    apt-get -q -y --no-install-recommends --no-remove install $missing
} >"$log" 2>&1 </dev/null || {
    cat "$log" >&2
    echo "could not install:$missing" >&2
}
