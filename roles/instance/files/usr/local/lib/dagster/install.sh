#!/bin/sh
# Makes the virtual environment of one version of Dagster, in which each file of locks is one installation:
#   install.sh FOLDER VERSION [LIBRARY ...]
# WHEELHOUSE may name a folder of packages to install from. Says what it has installed, and nothing when all was there.
set -eu
umask 022
# The proxy of the site, if there is one.
downloads=$(dirname "$0")/downloads
if [ -e "$downloads" ]; then
    set -a
    # shellcheck source=/dev/null
    . "$downloads"
    set +a
fi
cd "$1"
version=$2 uv=uv/bin/uv
shift 2

# A play may start this in the background and wait for it later, and a play that was killed leaves it running.
exec 9>installation.lock
flock 9

export TMPDIR="$PWD" # pip then renames into place, so an interrupted installation leaves no partial uv
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt # the host's own trust, company CAs included
export PIP_CERT=$SSL_CERT_FILE UV_LINK_MODE=copy UV_NO_PROGRESS=1

# Debian's wheel of pip runs as it is. So installing uv needs neither a virtual environment nor python3-venv.
if [ ! -e $uv ]; then
    PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) python3 -m pip install --quiet --disable-pip-version-check \
        --root-user-action=ignore --no-compile --require-hashes --target "$PWD/uv" \
        ${WHEELHOUSE:+--no-index --find-links "$WHEELHOUSE"} -r locks/uv.txt
    echo uv
fi

# The mark comes last: an environment without .complete was interrupted, and --clear starts it again.
install_lock() {
    $uv pip install --quiet --compile-bytecode --require-hashes --python "$version/bin/python" \
        ${WHEELHOUSE:+--no-index --find-links "$WHEELHOUSE"} -r "locks/$1.txt"
    : >"$version/$2"
    echo "$1"
}

if [ ! -e "$version/.complete" ]; then
    $uv venv --quiet --clear --python /usr/bin/python3 "$PWD/$version"
    install_lock "dagster-$version" .complete
fi
# The lock of a library has all packages of Dagster's lock in the same versions, so it only adds packages.
for library; do
    [ -e "$version/.complete-$library" ] || install_lock "dagster-$version-$library" ".complete-$library"
done
