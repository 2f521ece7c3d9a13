#!/usr/bin/env bash
# From a corpus to a scored model: strings the `asr` commands together. `./run.sh --help` explains it.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STAGES=(install prepare train lm tune decode score transcribe)
LAST_STAGE=$((${#STAGES[@]} - 1))

usage() {
    cat <<EOF
./run.sh                     the quickstart recipe, end to end, on synthetic speech
./run.sh RECIPE [OPTIONS] [KEY=VALUE …]
                             any recipe: $(known_recipes)
./run.sh test [ARGUMENTS]    run the tests; arguments go to pytest

KEY=VALUE, or --set KEY=VALUE as the asr commands have it, are settings that override conf/RECIPE.yaml, e.g.
model.hidden_size=320.

Options
  --corpus-dir DIR   the published corpus; without it, \$ASR_CORPORA/RECIPE
  --data DIR         the manifests, default data/RECIPE; needed for custom, which takes any data
  --out DIR          the model folder, default exp/RECIPE
  --seed N           the seed of training; the model folder becomes exp/RECIPE-seedN
  --stage N          start at this stage, default 0
  --stop-stage N     stop after this stage, default $LAST_STAGE
  -h, --help         this page

Stages
  0 install      make .venv and install the package into it
  1 prepare      corpus → manifests  (custom: look through the manifests)
  2 train        manifests → acoustic model; continues a run that was cut off
  3 lm           training text → n-gram language model
  4 tune         choose the settings of the beam search on dev
  5 decode       recognise test, greedily and by beam search
  6 score        word error rates
  7 transcribe   the first recording of test

A stage whose output stands is not redone, unless its data, its settings or an earlier stage changed; 6 and 7 only
show results and always run. To redo one of stages 3 to 5, remove OUT/.done-N; to train anew, name another --out. A
model of other settings or data that is in the way is set aside, not overwritten. Logs are in OUT/log.

Environment
  ASR_VENV       use this virtual environment, in which the package is installed, instead of .venv
  ASR_CORPORA    folder of the corpora, one in a sub-folder for each recipe
  NO_COLOR       no colour
EOF
}

# ---------------------------------------------------------------------------------------------- small things

if [ -t 1 ]; then
    TERMINAL=1
else
    TERMINAL=
fi
if [ -n "$TERMINAL" ] && [ -z "${NO_COLOR:-}" ]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
    BOLD='' DIM='' RED='' PLAIN=''
fi

complain() { printf '%serror:%s %s\n' "$RED" "$PLAIN" "$1" >&2; }

misused() {
    complain "$1"
    printf 'See ./run.sh --help\n' >&2
    exit 2
}

known_recipes() { (cd "$ROOT/recipes" && echo *); }

# A path that the caller gave, as seen from the checkout.
from_root() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) if [ "$PWD" = "$ROOT" ]; then printf '%s\n' "$1"; else printf '%s\n' "$PWD/$1"; fi ;;
    esac
}

duration() {
    if [ "$1" -lt 60 ]; then printf '%d s\n' "$1"; else printf '%d min %02d s\n' $(($1 / 60)) $(($1 % 60)); fi
}

# A short name for all that is read from stdin.
fingerprint() { cksum | tr ' ' '-'; }

# The settings without their comments, so that editing those redoes nothing.
settings() {
    sed -e '/^[[:space:]]*#/d' -e '/^[[:space:]]*$/d' "$CONFIG"
    printf '%s\n' ${OVERRIDES[@]+"${OVERRIDES[@]}"}
}

manifests() { for split in "$@"; do { cksum <"$DATA/$split.jsonl.gz" || true; } 2>/dev/null; done; }

asr() { "$VENV/bin/asr" "$@"; }

# ------------------------------------------------------------------------------------------------- stages
# For each stage: `run_…` does it, `key_…` prints all it depends on, `made_…` succeeds if its output is there.

find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    complain "no Python 3.10 or later among python3, python3.10 … python3.14; install one" && return 1
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

run_install() {
    if ! new_enough "$VENV/bin/python"; then
        local python
        python=$(find_python)
        echo "$("$python" --version) → $VENV"
        "$python" -m venv --clear "$VENV"
    fi
    echo "pip install -e '.[quickstart,dev]' (minutes, when torch must be downloaded)"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --log "$VENV/pip.log" \
        --editable "${ROOT}[quickstart,dev]"
}
key_install() { cat "$ROOT/pyproject.toml" && "$VENV/bin/python" --version 2>&1; }
made_install() { [ -x "$VENV/bin/asr" ]; }

run_prepare() {
    if [ "$RECIPE" = custom ]; then
        asr check "$DATA" --config "$CONFIG" ${SETS[@]+"${SETS[@]}"} && return
        echo "asr check $DATA --out DIR writes manifests without the faulty utterances. Training itself leaves out"
        echo "those of a length that it cannot use, and stops at a recording that cannot be read. To go on all the same:"
        printf './run.sh%s --stage 2\n' "$(printf ' %q' "${ARGUMENTS[@]}")"
        return 1
    fi
    asr prepare "$RECIPE" --out "$DATA" ${CORPUS_DIR:+--corpus-dir "$CORPUS_DIR"}
}
key_prepare() {
    if [ "$RECIPE" = custom ]; then settings && manifests train dev test; fi
    printf '%s\n' "$RECIPE" "$DATA" "$CORPUS_DIR" "${ASR_CORPORA:-}"
    cat "recipes/$RECIPE"/*.py 2>/dev/null || true
}
made_prepare() { [ -e "$DATA/train.jsonl.gz" ] && [ -e "$DATA/dev.jsonl.gz" ] && [ -e "$DATA/test.jsonl.gz" ]; }

run_train() {
    local resume=''
    if [ -e "$OUT/checkpoints/last.safetensors" ]; then resume=--resume; fi
    key_train | fingerprint >"$OUT/.began-2"
    asr train --config "$CONFIG" --data "$DATA" --out "$OUT" $resume ${SETS[@]+"${SETS[@]}"}
}
key_train() { settings && manifests train dev; }
made_train() { [ -e "$OUT/model.safetensors" ]; }

run_lm() { asr lm ngram "$DATA/train.jsonl.gz" --model "$OUT"; }
key_lm() { manifests train; }
made_lm() { [ -e "$OUT/lm.arpa.gz" ]; }

run_tune() { asr tune "$OUT" "$DATA/dev.jsonl.gz"; }
key_tune() { manifests dev; }
made_tune() { [ -e "$OUT/tune.json" ]; }

run_decode() {
    asr decode "$OUT" "$DATA/test.jsonl.gz" --method greedy --out "$OUT/decode_test_greedy"
    asr decode "$OUT" "$DATA/test.jsonl.gz" --method beam --out "$OUT/decode_test"
}
key_decode() { manifests test; }
made_decode() { [ -e "$OUT/decode_test_greedy/hyp.trn" ] && [ -e "$OUT/decode_test/hyp.trn" ]; }

run_score() {
    asr score "$OUT/decode_test_greedy"
    echo
    asr score "$OUT/decode_test"
    if [ "$RECIPE" = quickstart ]; then
        printf '\nThis is synthetic speech: the chain works, but the figures say nothing about the speech of people.\n'
    fi
}

run_transcribe() {
    local audio reference
    { read -r audio && read -r reference; } < <(first_utterance) || return 1
    printf 'file        %s\nreference   %s\ntranscript  ' "$audio" "$reference"
    asr transcribe "$OUT" "$audio"
}

# The recording of the first test utterance that fills its recording, and what is said in it.
first_utterance() {
    gzip -dc "$DATA/test.jsonl.gz" | "$VENV/bin/python" -c '
import json, sys

cuts = [json.loads(line) for line in sys.stdin if line.strip()]
whole = [cut for cut in cuts if cut["start"] == 0 and cut["duration"] > 0.99 * cut["recording"]["duration"]]
for cut in whole[:1] or cuts[:1]:
    print(cut["recording"]["sources"][0]["source"])
    part = "" if whole else "(of a part of it) "
    print(part + " ".join(supervision["text"] for supervision in cut["supervisions"]))
'
}

# ---------------------------------------------------------------------------------------- how a stage is run

marker() { if [ "$1" = 0 ]; then printf '%s\n' "$VENV/.done-install"; else printf '%s\n' "$OUT/.done-$1"; fi; }

stands() {
    local number=$1 name=${STAGES[$1]}
    [ "$number" -lt 6 ] && "made_$name" && [ -e "$(marker "$number")" ] &&
        [ "$("key_$name" | fingerprint)" = "$(cat "$(marker "$number")")" ]
}

# What a model folder holds of a run with other settings or other data would be lost by training into it.
set_aside() {
    if [ -e "$OUT/checkpoints" ] && [ -e "$OUT/.began-2" ] &&
        [ "$(cat "$OUT/.began-2")" != "$(key_train | fingerprint)" ]; then
        local elsewhere
        elsewhere="$OUT.$(date +%Y%m%d-%H%M%S)"
        mv "$OUT" "$elsewhere"
        mkdir -p "$OUT"
        if [ -e "$elsewhere/.done-1" ]; then cp "$elsewhere/.done-1" "$OUT"; fi
        echo "$OUT held a model of other settings or data; it is now $elsewhere"
    fi
}

run_stage() {
    local number=$1 name=${STAGES[$1]} log began=$SECONDS status later
    printf '%s%d %s%s\n' "$BOLD" "$number" "$name" "$PLAIN"
    if [ "$number" = 0 ] && [ -n "${ASR_VENV:-}" ]; then
        made_install || { complain "ASR_VENV=$ASR_VENV: there is no bin/asr in it" && exit 1; }
        printf '%s  stands: %s%s\n' "$DIM" "$VENV" "$PLAIN"
        return
    fi
    if stands "$number"; then
        printf '%s  stands%s\n' "$DIM" "$PLAIN"
        return
    fi
    if [ "$name" = train ]; then set_aside; fi
    rm -f "$(marker "$number")"
    # Later stages know new data by themselves, but not a new model.
    if [ "$number" -ge 2 ]; then
        for ((later = number + 1; later <= LAST_STAGE; later++)); do rm -f "$(marker "$later")"; done
    fi
    log=$OUT/log/$number-$name.log
    mkdir -p "$OUT/log"
    # A sub-shell, and not in a condition: only so does the first command that fails end the stage.
    set +e
    (
        set -e
        if [ -n "$TERMINAL" ]; then export FORCE_COLOR=1; fi # so that progress bars show through tee
        "run_$name"
    ) 2>&1 | tee -i "$log"
    status=${PIPESTATUS[0]}
    set -e
    plain_log "$log"
    if [ "$status" != 0 ]; then
        complain "stage $number ($name) failed with status $status; its log: $log"
        exit "$status"
    fi
    if [ "$number" -lt 6 ]; then "key_$name" | fingerprint >"$(marker "$number")"; fi
    printf '%s  %s: %s%s\n' "$DIM" "$name" "$(duration $((SECONDS - began)))" "$PLAIN"
}

# Of a line that a progress bar drew many times over, keep what was seen last; drop colours.
plain_log() {
    sed -e $'s/.*\r//' -e $'s/\e\\[[0-9;?]*[a-zA-Z]//g' "$1" >"$1.part" && mv "$1.part" "$1"
}

# ------------------------------------------------------------------------------------------- the command line

RECIPE=quickstart CORPUS_DIR='' DATA='' OUT='' SEED='' STAGE=0 STOP_STAGE=$LAST_STAGE
OVERRIDES=() SETS=() PYTEST=()

number_within() {
    case $2 in
        '' | *[!0-9]*) misused "$1 $2: a whole number is needed" ;;
    esac
    [ "$2" -le "$3" ] || misused "$1 $2: at most $3"
}

parse() {
    if [ $# -gt 0 ] && [ "$1" = test ]; then
        RECIPE="test"
        shift
        PYTEST=("$@")
        return
    fi
    if [ $# -gt 0 ] && [[ $1 != -* && $1 != *=* ]]; then
        RECIPE=$1
        shift
        case " $(known_recipes) " in
            *" $RECIPE "*) ;;
            *) misused "no recipe '$RECIPE'; known: $(known_recipes)" ;;
        esac
    fi
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage && exit ;;
            --set=*) OVERRIDES+=("${1#*=}") && shift ;;
            --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
            --set)
                [ $# -gt 1 ] || misused "$1 needs a value"
                OVERRIDES+=("$2") && shift 2
                ;;
            --corpus-dir | --data | --out | --seed | --stage | --stop-stage)
                [ $# -gt 1 ] || misused "$1 needs a value"
                case $1 in
                    --corpus-dir) CORPUS_DIR=$(from_root "$2") ;;
                    --data) DATA=$(from_root "$2") ;;
                    --out) OUT=$(from_root "$2") ;;
                    --seed) number_within "$1" "$2" 2147483647 && SEED=$2 ;;
                    --stage) number_within "$1" "$2" "$LAST_STAGE" && STAGE=$2 ;;
                    --stop-stage) number_within "$1" "$2" "$LAST_STAGE" && STOP_STAGE=$2 ;;
                esac
                shift 2
                ;;
            -*) misused "unknown option $1" ;;
            [a-z]*=*) OVERRIDES+=("$1") && shift ;;
            *) misused "'$1' is neither an option nor KEY=VALUE" ;;
        esac
    done
}

main() {
    local number
    ARGUMENTS=("$@")
    parse "$@"
    VENV=$(from_root "${ASR_VENV:-$ROOT/.venv}")
    VENV=${VENV#"$ROOT/"}
    cd "$ROOT"
    CONFIG=conf/$RECIPE.yaml
    if [ ! -e "$CONFIG" ]; then CONFIG=conf/custom.yaml; fi
    if [ "$RECIPE" = custom ] && [ -z "$DATA" ]; then
        misused "custom needs --data DIR, a folder with {train,dev,test}.jsonl.gz; recipes/custom/README.md says how to make it"
    fi
    DATA=${DATA:-data/$RECIPE}
    OUT=${OUT:-exp/$RECIPE${SEED:+-seed$SEED}}
    if [ "$STAGE" -gt "$STOP_STAGE" ]; then misused "--stage $STAGE is after --stop-stage $STOP_STAGE"; fi
    if [ "${#OVERRIDES[@]}" -gt 0 ] && [ "$STAGE" -gt 2 ]; then
        misused "${OVERRIDES[0]} is a setting of training, which --stage $STAGE leaves out"
    fi
    if [ -n "$SEED" ]; then OVERRIDES=("training.seed=$SEED" ${OVERRIDES[@]+"${OVERRIDES[@]}"}); fi
    for override in ${OVERRIDES[@]+"${OVERRIDES[@]}"}; do SETS+=(--set "$override"); done

    if [ "$STAGE" -gt 0 ] && ! made_install; then misused "$VENV: nothing is installed there; start at stage 0"; fi
    if [ "$RECIPE" = test ]; then
        run_stage 0
        exec "$VENV/bin/python" -m pytest ${PYTEST[@]+"${PYTEST[@]}"}
    fi
    for ((number = STAGE; number <= STOP_STAGE; number++)); do run_stage "$number"; done
    printf '%sall: %s%s   model: %s\n' "$BOLD" "$(duration $SECONDS)" "$PLAIN" "$OUT"
}

main "$@"
