#!/bin/bash
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
#
# ./run says in one line what to do when it cannot go on, and leaves no half-built root behind.
# Programs that say what the host has (uname, df, bwrap) are replaced by ones that lie.
# shellcheck disable=SC2016 # the scripts' own dollars
set -uo pipefail
run=$(cd "$(dirname "$0")/../.." && pwd)/run
bad=0
work=$(mktemp -d "${TMPDIR:-/tmp}/staronnx-run.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
unset STARONNX_INSIDE
export STARONNX_SANDBOX=1

pretend() { # pretend PROGRAM TEXT-OF-A-SCRIPT
    printf '#!/bin/sh\n%s\n' "$2" >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}

# expect NAME STATUS PATTERN COMMAND...: its status, and a line that matches among at most MAX
expect() {
    local name=$1 status=$2 pattern=$3 rc=0 out
    shift 3
    out=$("$@" 2>&1 </dev/null) || rc=$?
    if [[ $rc == "$status" ]] && grep -qE -e "$pattern" <<<"$out" && (($(wc -l <<<"$out") <= max)); then
        echo "ok $name"
    else
        printf 'not ok %s: status %s\n%s\n' "$name" "$rc" "$out"
        bad=1
    fi
}

fresh() {
    rm -rf --one-file-system "${work:?}/bin" "$work/cache"
    mkdir -p "$work/bin" "$work/cache"
    export PATH=$work/bin:$path STARONNX_CACHE=$work/cache
    pretend bwrap 'exit 0'
    pretend mmdebstrap 'exit 9'
    pretend df 'echo header; echo "disk 9999999 0 9999999 0% /"'
}
path=$PATH

max=40
fresh
expect 'help needs nothing' 0 '^usage: ./run' "$run" --help
expect 'help of a command of ours' 0 '^usage: ./run' "$run" build --help
max=1
STARONNX_INSIDE=x expect 'build takes no unknown option' 2 '^run: usage: ./run build' "$run" build -q
pretend uname 'case $1 in -m) echo riscv64;; *) echo Linux;; esac'
expect 'an unknown processor' 1 '^run: unsupported processor: riscv64' "$run" build
fresh
pretend uname 'case $1 in -m) echo x86_64;; *) echo Darwin;; esac'
expect 'another system' 1 '^run: StarONNX needs Linux' "$run" build
fresh
pretend bwrap 'exit 1'
expect 'no namespaces' 1 '^run: no root and no user namespaces here: run as root' "$run" build
fresh
pretend df 'echo header; echo "disk 100 0 100 99% /"'
expect 'disk full before' 1 '^run: the disk is full: .*100 MiB free' "$run" build
fresh
touch "$work/file"
STARONNX_CACHE=$work/file/below expect 'a cache that cannot be written' 1 \
    '^run: cannot write to .*STARONNX_CACHE' "$run" build

fresh
mkdir "$work/cache/$(top=$(dirname "$run") && . "$top/tools/platform.sh" && root_name)"
expect 'a file that the sandbox hides' 1 '^run: /usr/bin/.* cannot be used .*: move it' \
    "$run" inspect "$(realpath /usr/bin/env)"
expect 'the same as a value' 1 '^run: /usr/bin/.* cannot be used .*: move it' \
    "$run" serve --models="$(realpath /usr/bin/env)"
pretend bwrap 'case "$*" in *inspect*) echo here ;; esac'
expect 'no HOME' 0 '^here' env -u HOME "$run" inspect ''

# What ends ./run while a step runs ends the one that shows how far it is.
fresh
pretend unshare 'kill -TERM $(cat "$STARONNX_CACHE/../pid"); exit 1'
pretend mmdebstrap 'kill -TERM $(cat "$STARONNX_CACHE/../pid"); exit 1'
bash -c 'echo $$ >"$0/pid"; exec "$1" build' "$work" "$run" >/dev/null 2>&1 </dev/null
for ((i = 0; i < 50; i++)); do
    pgrep -f "$run build" >/dev/null || break
    sleep 0.1
done
if ((i < 50)); then echo 'ok a signal in a step leaves nothing running'; else
    echo 'not ok a signal in a step leaves nothing running'
    bad=1
fi

no_root() {
    local left
    left=$(find "$work/cache" -mindepth 1 ! -name '*.lock')
    if [[ -z $left ]]; then echo "ok $1"; else printf 'not ok %s\n%s\n' "$1" "$left"; bad=1; fi
}
max=3 # what it does, how long it takes, and why it stops
fresh
pretend unshare 'echo "E: Could not connect to 127.0.0.1:9: connection refused"; exit 25'
pretend mmdebstrap 'echo "E: Could not connect to 127.0.0.1:9: connection refused"; exit 25'
expect 'no network' 1 '^run: cannot build .*: the Debian mirror cannot be reached' "$run" build
no_root 'no network: nothing is left'
pretend unshare 'echo "tar: write: No space left on device"; exit 1'
pretend mmdebstrap 'echo "tar: write: No space left on device"; exit 1'
expect 'disk full on the way' 1 '^run: cannot build .*: the disk is full' "$run" build
no_root 'disk full on the way: nothing is left'
pretend unshare 'exit 0'
pretend mmdebstrap 'tar -c -T /dev/null'
expect 'a root without content' 1 '^run: cannot build' "$run" build
no_root 'a root without content: is not kept'
fresh
if PATH=$path command -v mmdebstrap >/dev/null && PATH=$path command -v bwrap >/dev/null &&
    PATH=$path bwrap --ro-bind / / --unshare-pid --proc /proc --dev /dev true 2>/dev/null; then
    rm "$work/bin/mmdebstrap" "$work/bin/bwrap"
    STARONNX_MIRROR=http://127.0.0.1:9/debian http_proxy='' expect 'no network, in earnest' 1 \
        'the Debian mirror cannot be reached' "$run" build
    no_root 'no network, in earnest: nothing is left'
else
    echo 'skip no network, in earnest: needs mmdebstrap and bwrap'
fi
rm -f "${TMPDIR:-/tmp}"/staronnx.?????? # the logs that the messages name
exit "$bad"
