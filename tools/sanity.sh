#!/usr/bin/env bash
# `ansible-test sanity` on this collection. Needs a package index for pip (a mirror will do), and no other server.
#
#   tools/sanity.sh [arguments of ansible-test sanity, e.g. --test validate-modules]
#
# TOOLS_VENV names the environment made from tests/requirements/tools.lock (default: .cache/tools).
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
tools=${TOOLS_VENV:-$root/.cache/tools}
if [[ ! -x $tools/bin/ansible-test || ! -x $tools/bin/uv ]]; then
    echo "sanity.sh: no ansible-test and uv in $tools/bin; install tests/requirements/tools.lock there or set TOOLS_VENV." >&2
    exit 2
fi
export PATH=$tools/bin:$PATH
if ! command -v shellcheck >/dev/null; then
    echo "sanity.sh: shellcheck is not on this machine, and ansible-test would skip its test; apt-get install shellcheck." >&2
    exit 2
fi

# ansible-test keeps its environments in $HOME/.ansible/test: ours are in this checkout, and go with it.
work=$root/.cache/sanity
home=$work/home
copy=$work/ansible_collections/dataops/dagster

# It accepts a collection only in a real folder of this name, and takes from git which files are part of it: a copy,
# and a repository of its own there, since this one ignores everything below .cache.
rm -rf -- "$copy"
mkdir -p -- "$copy" "$home/.ansible/test/cache"
cd -- "$root"
git ls-files -z --cached --others --exclude-standard -- . ':!:.deps' ':!:.ci' |
    while IFS= read -r -d '' file; do
        # Listed by git but deleted from the work tree: not part of what is tested.
        if [[ -e $file || -L $file ]]; then printf '%s\0' "$file"; fi
    done | tar --null --files-from=- --create | tar -C "$copy" --extract
git -C "$copy" init --quiet

# Its environments start with a get-pip script that it downloads from a server of its own. It looks into its cache
# first, so a stand-in goes there: the same pip, from the package index.
pip_version=$(python -c 'import re, sys, pathlib, ansible_test._internal as i
text = pathlib.Path(i.__file__).with_name("python_requirements.py").read_text()
found = re.search(r"""pip=.([0-9.]+).,""", text)
sys.exit("sanity.sh: cannot read from ansible-test which pip it wants.") if found is None else print(found[1])')
pip_folder=$work/pip-$pip_version
if [[ ! -d $pip_folder/pip ]]; then
    rm -rf -- "$pip_folder"
    uv pip install --quiet --no-deps --python "$tools/bin/python" --target "$pip_folder" "pip==$pip_version"
fi
cat >"$home/.ansible/test/cache/get_pip_${pip_version//./_}.py" <<PYTHON
"""Stand-in for get-pip.py $pip_version: installs that pip from the package index with a copy of itself."""
import runpy
import sys

# Options of get-pip that say what to leave out; with this one there is nothing else to begin with.
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.argv[1:] = ["install", "--upgrade", "--force-reinstall", *arguments]
sys.path.insert(0, "$pip_folder")
runpy.run_module("pip", run_name="__main__", alter_sys=True)
PYTHON

# It hides the environment from pip, so what the caller's PIP_* variables say (a mirror, a CA) goes into a pip.conf.
mkdir -p -- "$home/.config/pip"
(
    umask 077
    echo '[global]'
    env | grep -E '^PIP_[A-Z_]+=.' | grep -vE '^PIP_(CONFIG_FILE|REQUIRE_VIRTUALENV|TARGET|USER|PREFIX)=' |
        while IFS='=' read -r key value; do
            key=${key#PIP_} key=${key,,}
            echo "${key//_/-} = $value"
        done
) >"$home/.config/pip/pip.conf"

cd -- "$copy"
# The Python of the tools only: of others it would find what is on PATH, which on a machine with pyenv is a stub.
HOME=$home exec ansible-test sanity --color no --python "$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" "$@"
