#!/usr/bin/env bash
# Build the collection and put it through galaxy-importer, the check that a Galaxy server runs on an upload.
# Anything the importer warns of fails here. Offline. The built collection is left in .cache/importer/.
#
# TOOLS_VENV names the environment made from tests/requirements/tools.lock (default: .cache/tools).
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
tools=${TOOLS_VENV:-$root/.cache/tools}
if [[ ! -x $tools/bin/ansible-galaxy ]]; then
    echo "importer.sh: no ansible-galaxy in $tools/bin; install tests/requirements/tools.lock there or set TOOLS_VENV." >&2
    exit 2
fi
export PATH=$tools/bin:$PATH
work=$root/.cache/importer
rm -rf -- "$work"
mkdir -p -- "$work/tmp"
export ANSIBLE_HOME=$work/ansible

ansible-galaxy collection build --output-path "$work" "$root"
tarball=$(echo "$work"/dataops-dagster-*.tar.gz)

# A copy of this checkout inside the collection, or a cache, would make every download larger: look, do not hope.
if tar -tzf "$tarball" | grep -E '^(\.[a-z]*cache|\.deps|\.ansible/|\.git/|\.ci/)|__pycache__|\.pyc$'; then
    echo "importer.sh: the files above do not belong in the collection; add them to build_ignore in galaxy.yml." >&2
    exit 1
fi

cat >"$work/galaxy-importer.cfg" <<CONFIG
[galaxy-importer]
ansible_local_tmp = $work/tmp
check_changelog = True
check_required_tags = True
log_level_main = INFO
run_ansible_doc = True
# tools/lint.sh and tools/sanity.sh do both, of the same files and more strictly.
run_ansible_lint = False
run_ansible_test = False
tmp_root_dir = $work/tmp
CONFIG
export GALAXY_IMPORTER_CONFIG=$work/galaxy-importer.cfg

# It writes importer_result.json to the current folder.
cd -- "$work"
python -m galaxy_importer.main "$tarball" | tee "$work/importer.log"
if [[ ! -s importer_result.json ]]; then
    echo "importer.sh: the importer refused the collection, see above." >&2
    exit 1
fi
if grep -qE '^(WARNING|ERROR|CRITICAL)' "$work/importer.log"; then
    echo "importer.sh: the importer took the collection but warns, see above; a Galaxy server would show this." >&2
    exit 1
fi
echo "importer.sh: $(basename -- "$tarball") passed ($(du -h -- "$tarball" | cut -f1))"
