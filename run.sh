#!/usr/bin/env bash
# Makes .venv and installs the package into it, once; then runs `asr run`. `./run.sh --help` explains all options.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VENV=${ASR_VENV:-$ROOT/.venv}

fail() { printf 'error: %s\n' "$1" >&2 && exit 1; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if new_enough "$candidate"; then printf '%s\n' "$candidate" && return; fi
    done
    fail "no Python 3.10 or later among python3, python3.10 … python3.14; install one"
}

# All that an installation depends on, as a short name.
wanted() { { cat "$ROOT/pyproject.toml" && "$VENV/bin/python" --version && printf '%s\n' "$ROOT"; } 2>&1 | cksum; }

installed() { [ -x "$VENV/bin/asr" ] && [ "$(wanted)" = "$(cat "$VENV/.done-install" 2>/dev/null)" ]; }

install() {
    local python status=0
    if ! new_enough "$VENV/bin/python"; then
        python=$(find_python)
        echo "$("$python" --version) → $VENV"
        "$python" -m venv --clear "$VENV"
    fi
    echo "pip install -e '.[quickstart,dev]' (takes minutes if torch must be downloaded)"
    rm -f "$VENV/.done-install"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --log "$VENV/pip.log" \
        --editable "${ROOT}[quickstart,dev]" || status=$?
    [ "$status" = 0 ] || fail "stage 0 (install) failed with status $status; its log: $VENV/pip.log"
    wanted >"$VENV/.done-install"
    echo "installed in $((SECONDS / 60)) min $((SECONDS % 60)) s"
    printf 'to type asr in this shell: . %q\n' "$VENV/bin/activate"
}

HELP=
case " $* " in " test "*) ;; *" -h "* | *" --help "*) HELP=wanted ;; esac
if [ -n "${ASR_VENV:-}" ]; then
    [ -x "$VENV/bin/asr" ] || fail "ASR_VENV=$ASR_VENV: there is no bin/asr in it; install the package there"
    VENV=$(cd "$VENV" && pwd)
elif [ -n "$HELP" ] && ! [ -x "$VENV/bin/asr" ]; then
    echo "./run.sh installs the package into .venv and runs a recipe, from a corpus to a scored model."
    echo "To see all options: ./run.sh --stop-stage 0 (which only installs), then ./run.sh --help"
    exit
elif [ -z "$HELP" ] && ! installed; then
    install
fi
if [ "${1:-}" = test ]; then
    shift
    cd "$ROOT" && exec "$VENV/bin/python" -m pytest "$@"
fi
[ "$PWD" -ef "$ROOT" ] || set -- --home "$ROOT" "$@"
exec "$VENV/bin/asr" run "$@"
