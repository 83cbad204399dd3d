#!/bin/sh
# Makes the virtual environment of one version of Dagster, with the packages of a lock:
#   install.sh FOLDER VERSION LOCK MARK...
# The first mark is that of Dagster itself, the others are those of more packages. Each is an empty file in the environment.
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
version=$2 lock=$3 uv=uv/bin/uv
shift 3

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

lacking=
for mark; do
    [ -e "$version/$mark" ] || lacking="$lacking $version/$mark"
done
[ -n "$lacking" ] || exit 0

# The marks come last: an environment without the first was interrupted, and --clear starts it again. Any other gets what it lacks.
[ -e "$version/$1" ] || $uv venv --quiet --clear --python /usr/bin/python3 "$PWD/$version"
$uv pip install --quiet --require-hashes --python "$version/bin/python" \
    ${WHEELHOUSE:+--no-index --find-links "$WHEELHOUSE"} -r "locks/$lock.txt"

# The services may not write here, so without bytecode each start would compile all that it imports. To import it once as they do
# compiles just that; all that the lock brings is four times as much.
PYTHONDONTWRITEBYTECODE='' "$version/bin/python" -W ignore - 2>/dev/null <<'IMPORTS' || true
import contextlib, importlib, importlib.metadata

libraries = {found.name.replace("-", "_") for found in importlib.metadata.distributions() if found.name.startswith("dagster")}
programs = {"dagster._cli", "dagster._core.instance.factory", "dagster._daemon.cli", "dagster_webserver.cli", "dagster_webserver.webserver"}
for module in sorted(libraries | programs):
    with contextlib.suppress(Exception):
        importlib.import_module(module)
IMPORTS

for mark in $lacking; do
    : >"$mark"
done
echo "$lock"
