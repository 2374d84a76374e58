# shellcheck shell=bash
# SPDX-FileCopyrightText: StarONNX developers
# SPDX-License-Identifier: Apache-2.0
#
# platform.sh - sourced by ./run: a place where the Debian 13 packages are.
#
# Either the host itself (Debian 13 or newer, packages from apt-get) or a Debian 13 root in the
# cache directory, entered with bubblewrap.  Every mount lives in a private mount namespace that
# ends with the command, so removing the root or the checkout never reaches the host.
#
# Needs $top, the checkout.  Sets $root, $cache and, in step, $log.
# shellcheck disable=SC2154

suite=trixie
cache=${STARONNX_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/staronnx}
root_needs_mib=2500

packages() { sed 's/#.*//' "$top/tools/packages.txt" | tr -s ' \n' '\n' | sed '/^$/d'; }

say() { printf '%s\n' "$*" >&2; }
die() { say "run: $1"; exit "${2:-1}"; }
die_cache() { die "cannot write to $cache: set STARONNX_CACHE to a folder of yours"; }

wait_for() { # wait_for LOCK WHOM: take the lock, and say so if somebody has it
    flock -n "$1" && return
    say "waiting for $2"
    flock "$1"
}

# step LABEL COMMAND...: run COMMAND with its output in $log.  One line, with the time that has
# passed and a percentage where the output has one; only when it takes longer than a second.
step() {
    local label=$1 rc=0 ticker
    shift
    log=$(mktemp "${TMPDIR:-/tmp}/staronnx.XXXXXX") || die "cannot write to ${TMPDIR:-/tmp}"
    ticker "$label" "$log" &
    ticker=$!
    "$@" >"$log" 2>&1 </dev/null || rc=$?
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    return "$rc"
}

ticker() {
    local start=$SECONDS percent shown='' sleeper
    trap 'kill "$sleeper" 2>/dev/null; [[ $shown ]] && [[ -t 2 ]] && printf "\n" >&2; exit 0' TERM
    while kill -0 $$ 2>/dev/null; do # a signal may have ended the shell between start and kill
        sleep 1 &
        sleeper=$!
        wait "$sleeper"
        percent=$(tail -c 400 "$2" 2>/dev/null | tr '\r' '\n' | grep -oE '[0-9]+(\.[0-9]+)?%' | tail -1) || true
        if [[ -t 2 ]]; then
            printf '\r%s: %d s %s \033[K' "$1" $((SECONDS - start)) "${percent:+($percent)}" >&2
        elif [[ ! $shown ]] || (((SECONDS - start) % 20 == 0)); then
            say "$1: $((SECONDS - start)) s${percent:+ ($percent)}"
        fi
        shown=yes
    done
    rm -f "$2"
}

host_is() { # host_is debian: os-release's ID, or one of ID_LIKE
    local words
    words=$(sed -n 's/^ID\(_LIKE\)\?=//p' /etc/os-release 2>/dev/null | tr -d '"' | tr '\n' ' ')
    [[ " $words" == *" $1 "* ]]
}

host_is_new_debian() {
    local version
    [[ $(sed -n 's/^ID=//p' /etc/os-release 2>/dev/null | tr -d '"') == debian ]] || return 1
    version=$(sed -n 's/^VERSION_ID=//p' /etc/os-release | tr -d '"')
    [[ -z $version ]] || ((${version%%.*} >= 13)) # testing and unstable have none
}

missing_packages() {
    local have
    have=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null |
        sed -n 's/ installed$//p')
    packages | grep -vxF -e "$have" || true
}

can_apt() {
    command -v apt-get >/dev/null && { ((EUID == 0)) || command -v sudo >/dev/null; }
}

apt_install() { # apt_install PACKAGE...
    local sudo=() lock
    mkdir -p "$cache" 2>/dev/null && [[ -w $cache ]] || die_cache
    exec {lock}>>"$cache/apt.lock"
    wait_for "$lock" "another ./run that installs packages"
    if ((EUID != 0)); then
        sudo=(sudo)
        sudo -v || die "this needs root: install with apt-get: $*"
    fi
    if ! step "apt-get update" "${sudo[@]}" apt-get update -q; then
        explain "apt-get update failed"
    fi
    step "apt-get install ($# packages)" "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=600 "$@" ||
        explain "apt-get install failed"
    exec {lock}>&-
}

# explain WHAT: say in one line why the step whose output is in $log failed, and stop.
explain() {
    local why='its last words are above' last
    last=$(grep -aE '^(E|W|Err|error|E:)|rror:' "$log" | tail -5) || true
    if grep -qaE 'No space left|not enough free space' "$log"; then
        why='the disk is full: make room, or set STARONNX_CACHE to a folder on a larger disk'
    elif grep -qaiE 'could not resolve|temporary failure|unable to connect|could not connect|connection (refused|timed out|failed)|network is unreachable|cannot initiate the connection|(^|[^0-9,])407 +[a-z]*proxy' "$log"; then
        why='the Debian mirror cannot be reached: check the network or http_proxy, or set STARONNX_MIRROR'
    elif grep -qaE 'does not have a Release file|404 +Not Found' "$log"; then
        why="the mirror does not have $suite: set STARONNX_MIRROR to one that has"
    elif grep -qaE 'NO_PUBKEY|keyring|not signed' "$log"; then
        why='the keys of Debian are not here: install debian-archive-keyring'
    elif grep -qaiE 'newuidmap|subuid|unshare|user namespace' "$log"; then
        why='no root and no user namespaces: install uidmap and add yourself to /etc/subuid, or run this once as root'
    else
        say "${last:-$(tail -5 "$log")}"
    fi
    die "$1: $why (all of it: $log)"
}

# The host's own Debian mirror, if it is a Debian; else nothing, and mmdebstrap has a default.
mirror() {
    if [[ ${STARONNX_MIRROR:-} ]]; then
        printf '%s\n' "$STARONNX_MIRROR"
    elif [[ $(sed -n 's/^ID=//p' /etc/os-release 2>/dev/null) == debian ]]; then
        sed -n -e 's/^deb //p' -e 's/^URIs: *//p' /etc/apt/sources.list \
            /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
            grep -oE 'https?://[^] ]+/debian/?( |$)' | tr -d ' ' | head -1
    fi
}

# What the host's apt knows about proxies, certificates and clocks.
apt_options() {
    command -v apt-config >/dev/null || return 0
    apt-config dump 2>/dev/null |
        grep -E '^Acquire::(https?::[^ ]+|Retries|Check-[^ ]+|ForceIPv[46]) "[^"]+";$' || true
}

root_name() {
    printf 'root-%s\n' "$({ echo "$suite 1 $(uname -m)"; packages | sort; } | sha256sum | cut -c1-10)"
}

# As root, mmdebstrap mounts /proc and /sys below the new root: in a mount namespace of its own,
# with a process namespace that takes everything along when it ends.  As a user, it works in a user
# namespace and hands over an archive, so that the files belong to the user.
root_make() { # root_make DIR
    local dir=$1 args=() option uri
    while IFS= read -r option; do
        args+=("--aptopt=$option")
    done < <(apt_options)
    if [[ -r /etc/ssl/certs/ca-certificates.crt ]]; then
        # shellcheck disable=SC2016 # $1 is mmdebstrap's
        args+=('--setup-hook=mkdir -p "$1/etc/ssl/certs" && cp -L /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"')
    fi
    uri=$(mirror)
    # What nobody reads here is left out.  Not by --dpkgopt: mmdebstrap would then filter the essential
    # packages itself, which takes longer than all else with them.  dpkg need not wait for the disk: a
    # root that is not whole is thrown away.  Not all of Python is compiled: sympy is for tools of
    # python3-onnxruntime that we do not use.
    # shellcheck disable=SC2016
    args+=(--variant=apt --components=main
        --include="$(packages | paste -sd,)"
        --extract-hook='{ echo force-unsafe-io; printf "path-exclude=/usr/share/%s/*\n" doc locale man info; } >"$1/etc/dpkg/dpkg.cfg.d/staronnx"'
        --extract-hook='mkdir -p "$1/usr/share/python3/bcep" && echo "re|3.0-|/usr/lib/python3/dist-packages/|(sympy|mpmath|setuptools|.*/tests)/.*" >"$1/usr/share/python3/bcep/staronnx"'
        --customize-hook='rm -rf "$1"/usr/share/doc "$1"/usr/share/locale "$1"/usr/share/man/* "$1"/usr/share/info'
        --customize-hook='mkdir -p "$1/etc/pki" && rm -f "$1/etc/resolv.conf" && touch "$1/etc/resolv.conf" "$1/etc/hosts" "$1/etc/pip.conf"'
        --customize-hook='rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*')
    mkdir "$dir" || return
    if ((EUID == 0)); then
        unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
            mmdebstrap --mode=root "${args[@]}" "$suite" "$dir" ${uri:+"$uri"} || return
    else
        (
            set -o pipefail
            mmdebstrap --mode=unshare "${args[@]}" "$suite" - ${uri:+"$uri"} |
                tar -C "$dir" -x --no-same-owner --exclude='./dev/*'
        ) || return
        chmod -R u+rwX "$dir" || return
    fi
    [[ -e $dir/usr/bin/meson ]]
}

root_needs_room() { # root_needs_room DIR VARIABLE
    local free
    free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
    ((free >= root_needs_mib)) ||
        die "the disk is full: $1 has $free MiB free, a Debian 13 root needs $root_needs_mib: make room or set $2"
}

root_remove() { rm -rf --one-file-system -- "$@"; }

# Set $root to a Debian 13 root that is whole; build it if there is none.
root_ready() {
    local lock tools=()
    root=$cache/$(root_name)
    command -v mmdebstrap >/dev/null || [[ -d $root ]] || tools+=(mmdebstrap)
    command -v bwrap >/dev/null || tools+=(bubblewrap)
    if ((${#tools[@]})); then
        { can_apt && host_is debian; } ||
            die "please install ${tools[*]} with this system's package manager, then run this again"
        ((EUID == 0)) || tools+=(uidmap)
        apt_install "${tools[@]}"
    fi
    bwrap --ro-bind / / --unshare-pid --proc /proc --dev /dev true 2>/dev/null ||
        die 'no root and no user namespaces here: run as root, allow user namespaces (in a container: --privileged), or use a Debian 13 host'
    [[ -d $root ]] && return

    { mkdir -p "$cache" && : >>"$root.lock"; } 2>/dev/null || die_cache
    exec {lock}>>"$root.lock"
    wait_for "$lock" "another ./run that builds the Debian 13 root"
    if [[ ! -d $root ]]; then
        root_needs_room "$cache" STARONNX_CACHE
        ((EUID == 0)) || root_needs_room "${TMPDIR:-/tmp}" TMPDIR # mmdebstrap works there first
        root_remove "$root".tmp.* # what a killed run has left
        root_tmp=$root.tmp.$$
        trap 'root_remove "$root_tmp"' EXIT
        say "building a Debian 13 root in $root (once, one to two minutes)"
        step "mmdebstrap" root_make "$root_tmp" || explain "cannot build the Debian 13 root"
        mv -T "$root_tmp" "$root" || die "cannot rename $root_tmp"
        trap - EXIT
        rm -f "$log"
    fi
    exec {lock}>&-
}

# What the command sees of the environment.
environment() {
    local name
    for name in TERM COLUMNS LINES HOME USER LOGNAME CI NO_COLOR TMPDIR XDG_CACHE_HOME TZ \
        CURL_CA_BUNDLE REQUESTS_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR \
        {http,https,ftp,all,no}_proxy {HTTP,HTTPS,FTP,ALL,NO}_PROXY \
        "${!STARONNX_@}" "${!PIP_@}" "${!STARPU_@}" "${!PYTHON@}"; do
        [[ -v $name ]] && printf '%s\0' "$name=${!name}"
    done
    printf '%s\0' LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin
}

# Where the host's files are hidden by the root's.
hidden() { # hidden PATH
    case $1 in
    /run/user | /run/user/* | /run/media | /run/media/*) return 1 ;;
    /boot/* | /etc/* | /run/* | /usr/*) [[ ! -e $root$1 ]] ;;
    *) return 1 ;;
    esac
}

# Fill $mounts with bwrap's arguments, for a command with the arguments ARGS.
sandbox_mounts() { # sandbox_mounts ARGS...
    local path real name
    mounts=(--ro-bind "$root/usr" /usr --ro-bind "$root/etc" /etc
        --tmpfs /var --bind-try /var/tmp /var/tmp --proc /proc --dev /dev --ro-bind /sys /sys --tmpfs /run
        --bind-try /run/user /run/user --bind-try /run/media /run/media)
    for path in "$root"/{bin,sbin,lib,lib32,lib64,libx32}; do
        [[ -L $path ]] && mounts+=(--symlink "$(readlink "$path")" "/${path##*/}")
    done
    # the rest of the host, where models, checkouts and homes are
    for path in /*; do
        case $path in
        /bin | /boot | /dev | /etc | /lib | /lib[36x]* | /lost+found | /proc | /run | /sbin | /sys | /usr | /var) ;;
        *)
            if [[ -L $path ]]; then
                mounts+=(--symlink "$(readlink "$path")" "$path")
            elif [[ -d $path ]]; then
                mounts+=(--bind "$path" "$path")
            fi
            ;;
        esac
    done
    for path in "$root"/var/{lib,cache}/*; do
        [[ -d $path ]] && mounts+=(--ro-bind "$path" "${path#"$root"}")
    done
    for path in "${HOME:-/root}" "$PWD" "$top" "$cache" "${@#--*=}"; do # a home below /var, say
        real=$(realpath -m -- "$path" 2>/dev/null) || continue
        [[ $real == /var/?* && -e $real ]] && mounts+=(--bind "$real" "$real")
        [[ -e $real ]] && hidden "$real" &&
            die "$real cannot be used from within the Debian 13 root, which has its own /$(cut -d/ -f2 <<<"$real"): move it, below /opt or a home, say"
    done
    # what a machine behind a company's proxy needs
    for path in /etc/resolv.conf /etc/hosts /etc/passwd /etc/group /etc/pip.conf /etc/pki; do
        [[ -e $path && -e $root$path ]] && mounts+=(--ro-bind "$(realpath "$path")" "$path")
    done
    if [[ -f /etc/ssl/certs/ca-certificates.crt ]]; then
        mounts+=(--ro-bind "$(realpath /etc/ssl/certs)" /etc/ssl/certs)
        [[ -d /usr/local/share/ca-certificates && -d $root/usr/local/share/ca-certificates ]] &&
            mounts+=(--ro-bind /usr/local/share/ca-certificates /usr/local/share/ca-certificates)
    else
        for path in /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
            [[ -f $path ]] || continue
            mounts+=(--ro-bind "$(realpath "$path")" /etc/ssl/certs/ca-certificates.crt)
            break
        done
    fi
    # files named by the environment that are not visible by now appear below /run/host
    for name in SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE REQUESTS_CA_BUNDLE PIP_CERT \
        PIP_CONFIG_FILE PIP_FIND_LINKS; do
        path=${!name:-}
        case $path in
        /usr/* | /etc/* | /run/* | /var/*)
            [[ -e $path && ! -e $root$path && $path != /etc/ssl/certs/* && $path != /etc/pki/* ]] ||
                continue
            mounts+=(--ro-bind "$(realpath "$path")" "/run/host/$name" --setenv "$name" "/run/host/$name")
            ;;
        esac
    done
    return 0
}

# sandbox COMMAND...: run it inside $root, in the current directory; its exit status is ours.
# With a terminal the command gets Ctrl-C from there; else it has a session of its own, and
# signals reach it from here, once.
sandbox() {
    local mounts variables rc=0 session=(--new-session)
    sandbox_mounts "$@"
    mapfile -d '' variables < <(environment)
    tty=
    [[ -t 0 ]] && tty=yes session=()
    (
        trap '' INT TERM HUP QUIT # bwrap itself must outlive the command
        exec env -i "${variables[@]}" STARONNX_INSIDE="${root##*/}" PATH="$PATH" \
            bwrap --die-with-parent --unshare-pid "${session[@]}" "${mounts[@]}" --chdir "$PWD" \
            --setenv PATH /usr/local/bin:/usr/bin:/usr/sbin:/bin \
            env --default-signal=INT,TERM,HUP,QUIT "$@"
    ) <&0 &
    bwrap_pid=$!
    trap 'forward INT' INT
    trap 'forward TERM' TERM
    trap 'forward HUP' HUP
    while :; do
        rc=0 signalled=
        wait "$bwrap_pid" || rc=$?
        [[ $signalled ]] || return "$rc" # else a signal ended the wait, not the command
    done
}

# bwrap -> its init, the first process of the namespace -> the command
forward() {
    local init command tries
    signalled=yes
    [[ $tty && $1 != TERM ]] && return 0
    for ((tries = 0; tries < 40; tries++)); do # it may not have started yet
        init=$(child_of "$bwrap_pid") && command=$(child_of "$init") &&
            kill -"$1" "$command" 2>/dev/null && return 0
        sleep 0.05
    done
}

child_of() {
    local child=
    { read -r child _ <"/proc/$1/task/$1/children"; } 2>/dev/null # ends without a newline
    [[ $child ]] && echo "$child"
}

# platform ARGS...: return where the packages are; elsewhere run ./run ARGS there and exit.
platform() {
    local missing rc=0
    [[ ${STARONNX_INSIDE:-} ]] && return
    [[ $(uname -s) == Linux ]] || die "StarONNX needs Linux"
    case $(uname -m) in
    x86_64 | aarch64) ;;
    *) die "unsupported processor: $(uname -m); StarONNX is built for x86_64 and aarch64" ;;
    esac
    if host_is_new_debian && [[ ! ${STARONNX_SANDBOX:-} ]]; then
        missing=$(missing_packages)
        [[ $missing ]] || return 0
        if can_apt; then
            say "installing Debian packages: $(tr '\n' ' ' <<<"$missing")"
            # shellcheck disable=SC2086
            apt_install $missing
            return
        fi
    fi
    root_ready
    sandbox "$top/run" "$@" || rc=$?
    exit "$rc"
}
