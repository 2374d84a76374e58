#!/bin/bash
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
#
# Removing the checkout or the root while a command runs in the sandbox never reaches the host:
# its /dev and /sys, its mounts, its files elsewhere.  Tried on copies of both.
# shellcheck disable=SC2317 # called by verdict
set -uo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
bad=0
verdict() { # verdict NAME COMMAND...
    local name=$1
    shift
    if "$@"; then echo "ok $name"; else echo "not ok $name"; bad=1; fi
}

unset STARONNX_INSIDE STARONNX_SANDBOX
command -v bwrap >/dev/null || { echo 'skip sandbox: bwrap is not installed'; exit 0; }
bwrap --ro-bind / / --unshare-pid --proc /proc --dev /dev true 2>/dev/null ||
    { echo 'skip sandbox: no namespaces here'; exit 0; }

work=$(mktemp -d "${TMPDIR:-/tmp}/staronnx-sandbox.XXXXXX")
# --one-file-system: should the sandbox be wrong after all, this test must not do the damage
trap 'kill "$pid" 2>/dev/null; rm -rf --one-file-system "$work"' EXIT
root=$work/root top=$work/checkout kept=$work/kept
pid=

# a root that has just enough to run a shell
mkdir -p "$root"/{usr/bin,usr/lib,usr/lib64,etc/ssl/certs,var/lib,var/cache} "$top/tools" "$kept"
ln -s usr/bin "$root/bin"
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"
touch "$root"/etc/{resolv.conf,hosts,passwd,group,pip.conf} "$root/etc/ssl/certs/ca-certificates.crt"
for program in bash env sleep cat rm; do
    file=$(realpath "$(command -v $program)")
    cp "$file" "$root/usr/bin/$program"
    for library in $(ldd "$file" | grep -oE '/[^ ]+'); do
        copy=$root$library
        [[ $library == /usr/* ]] || copy=$root/usr$library
        mkdir -p "$(dirname "$copy")"
        cp -L "$library" "$copy"
    done
done
cp "$here/run" "$top/"
cp "$here/tools/platform.sh" "$here/tools/packages.txt" "$top/tools/"
echo kept >"$kept/file"

# shellcheck source=tools/platform.sh
. "$top/tools/platform.sh"

mounts_before=$(sort /proc/self/mounts)
cd "$top" || exit 1
(sandbox bash -c 'cat /proc/self/mounts >inside; : >/dev/null && echo up >up; sleep 60' </dev/null) &
pid=$!
for ((i = 0; i < 100; i++)); do
    [[ -s up ]] && break
    sleep 0.1
done
verdict 'sandbox: a command starts' test -s "$top/up"
verdict 'sandbox: it has mounts of its own' grep -q ' /sys ' "$top/inside"
verdict 'sandbox: its /usr is read-only' grep -qE ' /usr [^ ]+ ro' "$top/inside"
none_below() { ! grep -qF " $work" /proc/self/mounts; }
verdict 'sandbox: no mount of the host is below the root or the checkout' none_below

cd / || exit 1
rm -rf --one-file-system "$root"
verdict 'sandbox: the root can be removed while a command runs' test ! -e "$root"
rm -rf --one-file-system "$top"
verdict 'sandbox: the checkout can be removed while a command runs' test ! -e "$top"
verdict 'sandbox: the command still runs' kill -0 "$pid"
verdict 'host: /dev/null is there' test -c /dev/null
verdict 'host: /dev/null takes bytes' sh -c 'echo x >/dev/null'
verdict 'host: /dev/shm is there' test -d /dev/shm
verdict 'host: /sys is there' test -d /sys/devices/system/cpu
verdict 'host: other files are there' test -s "$kept/file"
kill -TERM "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
same_mounts() { [[ $(sort /proc/self/mounts) == "$mounts_before" ]]; }
verdict 'host: the mounts are what they were' same_mounts
gone() { ! pgrep -f "$work/root/usr" >/dev/null; }
verdict 'sandbox: nothing is left running' gone
exit "$bad"
