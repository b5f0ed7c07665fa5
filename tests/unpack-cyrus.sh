#!/bin/sh
# Unpack Debian's cyrus-imapd into the directory $1, with the libraries that it lacks here.
#
# It cannot be installed: Debian lets no two IMAP servers stand beside each other, and
# Dovecot is one. Unpacked it runs as well, and nothing outside of $1 changes. Where it
# cannot be had this says so; the exit status is 0 all the same, as in install-packages.sh.
set -eu

target=$1
[ ! -x "$target/usr/lib/cyrus/bin/imapd" ] || exit 0
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "not unpacked: cyrus-imapd, which needs Debian (tests that need it are skipped)" >&2
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt-get downloads as a user of its own

fetch() {
    libraries=$(apt-cache show --no-all-versions cyrus-imapd cyrus-common |
        sed -n 's/^Depends: //p' | tr ',' '\n' |
        sed -n 's/^ *\(lib[^ ]*\).*/\1/p' | grep -v '^libclamav' | sort -u) # for a program we leave
    # shellcheck disable=SC2086  # lists of names
    missing=$(apt-get -q -s --no-install-recommends --no-upgrade install $libraries |
        sed -n 's/^Inst \([^ ]*\).*/\1/p') &&
        (cd "$work" && apt-get -q download cyrus-imapd cyrus-common $missing)
}

echo "unpacking cyrus-imapd" >&2
{
    fetch || { [ "$(id -u)" = 0 ] && apt-get -q update && fetch; }
} >"$work/log" 2>&1 </dev/null || {
    cat "$work/log" >&2
    echo "could not download: cyrus-imapd (tests that need it are skipped)" >&2
    exit 0
}
for package in "$work"/*.deb; do
    dpkg -x "$package" "$work/root"
done
mkdir -p "$(dirname "$target")"
rm -rf "$target"
cp -R "$work/root" "$target.new"
mv "$target.new" "$target"
