#!/bin/sh
# Make the virtual environment $1 with the first Python here that can.
set -eu

fit() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

choose() {
    for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if fit "$python"; then
            echo "$python"
            return
        fi
    done
    return 1
}

if ! python=$(choose); then
    sh "$(dirname "$0")/install-packages.sh" - <<PACKAGES
python3-venv -
PACKAGES
    if ! python=$(choose); then
        echo "mailflow needs Python 3.11 or newer with its venv module;" \
            "on Debian: apt-get install python3-venv" >&2
        exit 1
    fi
fi
# What does not become whole is taken away again, so that the next try starts anew.
"$python" -m venv "$1" || { rm -rf "$1"; exit 1; }
