#!/usr/bin/env bash
# Every static check of this repository: ruff, mypy, yamllint, ansible-lint, shellcheck, changelog fragments.
# Runs them all, shows what fails, exits 1 if anything did.
#
#   tools/lint.sh             check
#   tools/lint.sh --fix       let ruff mend and format what it can, then check
#
# TOOLS_VENV names the environment made from tests/requirements/tools.lock (default: .cache/tools).
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd -- "$root"
tools=${TOOLS_VENV:-$root/.cache/tools}
if [[ ! -x $tools/bin/ansible-lint ]]; then
    echo "lint.sh: no ansible-lint in $tools/bin; install tests/requirements/tools.lock there or set TOOLS_VENV." >&2
    exit 2
fi
export PATH=$tools/bin:$PATH
if ! command -v shellcheck >/dev/null; then
    echo "lint.sh: shellcheck is not on this machine; apt-get install shellcheck." >&2
    exit 2
fi
# What ansible and its linter write for themselves belongs to this checkout, not to the home of whoever runs this.
export ANSIBLE_HOME=$root/.cache/ansible

if [[ ${1:-} == --fix ]]; then
    ruff check --quiet --fix . || true
    ruff format --quiet .
fi

# Files that git knows or would add; one that is deleted but still listed is left out, and so are links.
sources() {
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
        if [[ -f $file && ! -L $file ]]; then printf '%s\n' "$file"; fi
    done
}

# Programs without a suffix are known by their first line.
with_shebang() {
    local file line
    while IFS= read -r file; do
        line=''
        IFS= read -r line 2>/dev/null <"$file" || true
        if [[ $line =~ ^\#!.*$1 ]]; then printf '%s\n' "$file"; fi
    done
}

logs=$(mktemp -d)
trap 'rm -rf -- "$logs"' EXIT
sources >"$logs/sources"
mapfile -t yaml_files < <(grep -E '\.ya?ml$|^\.(ansible-lint|yamllint)$' "$logs/sources")
mapfile -t python_programs < <(grep -vE '\.[A-Za-z0-9]+$' "$logs/sources" | with_shebang python)
mapfile -t shell_programs < <({ grep -E '\.sh$' "$logs/sources" || true; grep -vE '\.[A-Za-z0-9]+$' "$logs/sources" | with_shebang '(ba|da)?sh\b'; } | sort -u)
# A module of ours is `ansible_collections.dataops.dagster.plugins...`, to mypy too: so it is passed by that path.
mapfile -t python_files < <({ grep -E '\.py$' "$logs/sources" || true; } | sed 's#^plugins/#.deps/ansible_collections/dataops/dagster/&#')

# Each is called by its name in `names` below.
# shellcheck disable=SC2317
check_ruff() { ruff check . "${python_programs[@]}"; }
# shellcheck disable=SC2317
check_format() { ruff format --check . "${python_programs[@]}"; }
# shellcheck disable=SC2317
check_mypy() { mypy "${python_files[@]}" "${python_programs[@]}"; }
# shellcheck disable=SC2317
check_yamllint() { yamllint --strict "${yaml_files[@]}"; }
# shellcheck disable=SC2317
check_shellcheck() { shellcheck "${shell_programs[@]}"; }
# shellcheck disable=SC2317
check_changelog() { antsibull-changelog lint; }
# --strict: a warning of the production profile is a failure too.
# shellcheck disable=SC2317
check_ansible_lint() { ansible-lint --strict --nocolor -q; }

# ansible-lint takes longer than all others together, which run beside it.
names=(ansible_lint ruff format mypy yamllint shellcheck changelog)
run() { if "check_$1" >"$logs/$1" 2>&1; then echo 0; else echo $?; fi >"$logs/$1.status"; }
run ansible_lint &
for name in "${names[@]:1}"; do run "$name"; done
wait

failed=0
for name in "${names[@]}"; do
    if [[ $(<"$logs/$name.status") == 0 ]]; then
        echo "ok    $name"
    else
        failed=1
        echo "FAIL  $name"
        sed 's/^/      /' "$logs/$name"
    fi
done
exit "$failed"
