#!/bin/bash
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
#
# all.sh [STAGE...]: all tests, or those of some stages: style unit asan tsan e2e run.
# Called by ./run test.  One line for each part, details in build/test-logs, the output of what
# failed on the screen; the last line is "N passed, N failed", with ", N skipped" if any.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
logs=$top/build/test-logs
stages=" ${*:-style unit asan tsan e2e run} "
passed=0 failed=0 skipped=0

for stage in $stages; do
    [[ " style unit asan tsan e2e run " == *" $stage "* ]] ||
        { echo "no stage '$stage': style unit asan tsan e2e run" >&2; exit 2; }
done
wants() { [[ $stages == *" $1 "* ]]; }

mkdir -p "$logs"
rm -f "$logs"/*

export CLICOLOR=0 NO_COLOR=1 PYTHONDONTWRITEBYTECODE=1
suppressions=$top/tests/suppressions

# count NAME PASSED FAILED SKIPPED SECONDS: one line on the screen
count() {
    passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
    local skips=
    if (($4)); then skips=", $4 skipped"; fi
    printf '%-28s %4d passed, %d failed%s (%d s)\n' "$1" "$2" "$3" "$skips" "$5"
}

show() { # show LOG: the end of the output of what failed
    sed 's/^/    /' "$1" | tail -"${2:-60}"
    echo "    (all of it: ${1#"$top"/})"
}

# check NAME COMMAND...: one test that passes when the command does
check() {
    local name=$1 start=$SECONDS log
    shift
    log=$logs/${name//[ \/]/-}.log
    if "$@" >"$log" 2>&1 </dev/null; then
        count "$name" 1 0 0 $((SECONDS - start))
    else
        count "$name" 0 1 0 $((SECONDS - start))
        show "$log"
        return 1
    fi
}

# shellcheck disable=SC2317 # called by check
build_dir() { # build_dir DIR COMPILER MESON-ARGUMENTS...
    local dir=$1 compiler=$2
    shift 2
    CC=$compiler "$top/run" build "$dir" "$@" && ninja -C "$dir" meson-test-prereq
}

# shellcheck disable=SC2317 # called by check
check_manual() { # man says what it does not understand
    local words
    words=$(man --warnings=w -l docs/staronnx.1 2>&1 >/dev/null)
    [[ -z $words ]] || { echo "$words"; return 1; }
}

build_release() { check 'build release' build_dir build gcc; }
build_clang() { check 'build clang' build_dir build-clang clang; }
build_asan() {
    check 'build asan' build_dir build-asan gcc -Dbuildtype=debugoptimized \
        -Db_sanitize=address,undefined
}
build_tsan() {
    check 'build tsan' build_dir build-tsan clang -Dbuildtype=debugoptimized -Db_sanitize=thread
}

# unit NAME DIR TIMEOUT-FACTOR
unit() {
    local start=$SECONDS log=$logs/unit-$1.log rc=0 counts
    rm -f "$2"/meson-logs/testlog.junit.xml
    meson test -C "$2" --no-rebuild --print-errorlogs --timeout-multiplier "$3" \
        >"$log" 2>&1 </dev/null || rc=$?
    counts=$(python3 tests/count.py junit "$2/meson-logs/testlog.junit.xml" "$rc")
    # shellcheck disable=SC2086
    count "unit $1" $counts $((SECONDS - start))
    [[ $rc == 0 ]] || show "$log"
}

# e2e NAME DIR: the end-to-end tests against one build.  What a sanitizer reports in a program that
# goes on is a failed test, too.
e2e() {
    local name=$1 program=$top/$2/staronnx file start log rc counts packages reports
    packages=$(tools/python-packages 2>"$logs/python-packages.log") || cat "$logs/python-packages.log"
    reports=$logs/sanitizer-$name
    for file in tests/e2e/*_test.py; do
        [[ -e $file ]] || continue
        start=$SECONDS rc=0 log=$logs/e2e-$name-$(basename "$file" .py).log
        STARONNX=$program STARONNX_BUILD=$name \
            PYTHONPATH="$top/tests:$top/tests/e2e:$top/bench:$packages" \
            ASAN_OPTIONS="log_path=$reports" UBSAN_OPTIONS="print_stacktrace=1:log_path=$reports" \
            LSAN_OPTIONS="print_suppressions=0:suppressions=$suppressions/lsan.txt" \
            TSAN_OPTIONS="external_symbolizer_path=/usr/bin/addr2line:log_path=$reports:suppressions=$suppressions/tsan.txt" \
            timeout -k 10 600 python3 -m unittest -v "$file" >"$log" 2>&1 </dev/null || rc=$?
        counts=$(python3 tests/count.py unittest "$log" "$rc")
        # shellcheck disable=SC2086
        count "e2e $name $(basename "$file" _test.py)" $counts $((SECONDS - start))
        [[ $rc == 0 ]] || show "$log"
    done
    if compgen -G "$reports.*" >/dev/null; then
        cat "$reports".* >"$logs/e2e-$name-reports.log"
        count "e2e $name reports" 0 "$(compgen -G "$reports.*" | wc -l)" 0 0
        show "$logs/e2e-$name-reports.log" 100
    fi
}

# The tests of ./run print "ok NAME", "not ok NAME" or "skip NAME".
run_tests() {
    local file log start rc ok bad
    for file in tests/run/*.sh; do
        start=$SECONDS rc=0 log=$logs/run-$(basename "$file" .sh).log
        timeout -k 10 300 "$file" >"$log" 2>&1 </dev/null || rc=$?
        ok=$(grep -c '^ok ' "$log" || true) bad=$(grep -c '^not ok ' "$log" || true)
        ((rc == 0 || bad > 0)) || bad=1
        count "run $(basename "$file" .sh)" "$ok" "$bad" "$(grep -c '^skip ' "$log" || true)" \
            $((SECONDS - start))
        ((bad == 0)) || show "$log"
    done
}

finish() {
    local tail=
    ((skipped)) && tail=", $skipped skipped"
    echo
    echo "$passed passed, $failed failed$tail"
    exit $((failed > 0))
}

if wants style; then
    check 'style' tools/check-style || true
    check 'layers' tools/check-layers || true
    check 'commits' tools/check-commits || true
    check 'manual' check_manual || true
fi
if wants style || wants unit || wants e2e; then
    build_release || finish
fi
if wants style; then
    check 'headers' tools/check-headers build || true
    check 'symbols' tools/check-symbols build || true
    build_clang || true
fi
wants unit && unit release build 1
if wants e2e; then e2e release build; fi
if wants asan; then
    if build_asan; then
        unit asan build-asan 4
        e2e asan build-asan
    fi
fi
if wants tsan; then
    if build_tsan; then
        unit tsan build-tsan 8
        e2e tsan build-tsan
    fi
fi
if wants run; then run_tests; fi
finish
