#!/bin/sh
{ # A download that was cut short lacks the other brace: nothing of it runs, and the shell fails.
# Makes this host an agent of a releasehand controller: installs the package, joins, starts the agent and waits until it
# is online. Run it as root; it says what it does, a line for each step. Run again it upgrades where the controller has
# a newer package, and changes nothing else. Where it fails it says why and how to mend it, and enables nothing.
set -u

usage() {
    cat <<'END'
usage: install.sh [--token-file FILE] [--agent-id NAME] [--config FILE] [--without-root] [--ca-file FILE]

  --token-file FILE   the join token; without it the variable RELEASEHAND_JOIN_TOKEN is read
  --agent-id NAME     who this agent is to be, where the token does not say it
  --config FILE       becomes /etc/releasehand/agent.toml; without it one that says nothing is written
  --without-root      the agent runs as an account of its own: releasehand-agent-user.service
  --ca-file FILE      the authority (PEM) of the controller's API, where the system does not know it
END
}

api='@API@'
hub='@HUB@'
# Of each package: Python, architecture, version, bytes, SHA-256, file.
packages='@PACKAGES@'

etc=/etc/releasehand
config_file=$etc/agent.toml
step=start work='' tool='' token='' token_file='' config='' ca='' agent_id='' unit='' wanted_unit=releasehand-agent.service
wrote='' enabled='' started=''

say() { printf '  %-10s %s\n' "$step" "$*"; }

fail() { # WHY MEND
    printf '  %-10s failed: %s\n' "$step" "$1" >&2
    printf '\ncannot install the agent: step %s: %s\n  to mend it: %s\n' "$step" "$1" "$2" >&2
    exit 1
}

# shellcheck disable=SC2329 # leave calls it
take_back() { # WHAT COMMAND
    what=$1
    shift
    "$@" && printf '  taken back: %s\n' "$what" >&2
}

# Whatever ends this run: what it half did is taken back. An agent that ran before goes on running.
# shellcheck disable=SC2329 # the trap calls it
leave() {
    code=$?
    trap '' INT TERM HUP PIPE
    trap - EXIT
    if [ "$code" -ne 0 ]; then
        [ -z "$enabled" ] || take_back "$unit is disabled" systemctl --quiet disable "$unit"
        [ -z "$started" ] || take_back "$unit is stopped" systemctl stop "$unit"
        [ -z "$started" ] || systemctl --quiet reset-failed "$unit" 2>/dev/null
        [ -z "$wrote" ] || take_back "$wrote is removed" rm -f -- "$wrote"
    fi
    rm -f -- "$config_file.new"
    [ -z "$work" ] || rm -rf -- "$work"
    exit "$code"
}

read_options() {
    while [ $# -gt 0 ]; do
        case "$1" in
            --token-file | --agent-id | --config | --ca-file)
                [ $# -ge 2 ] || { usage >&2; exit 2; }
                case "$1" in
                    --token-file) token_file=$2 ;;
                    --agent-id) agent_id=$2 ;;
                    --config) config=$2 ;;
                    --ca-file) ca=$2 ;;
                esac
                shift 2 ;;
            --without-root) wanted_unit=releasehand-agent-user.service; shift ;;
            -h | --help) usage; exit 0 ;;
            *) printf 'unknown option: %s\n' "$1" >&2; usage >&2; exit 2 ;;
        esac
    done
}

check_host() {
    step=check
    [ "$(id -u)" = 0 ] || fail 'only root can install it' 'run the same line in a root shell (sudo -i)'
    [ "$(uname -s)" = Linux ] || fail "this is $(uname -s), not Linux" 'install it on a Linux host'
    [ -d /run/systemd/system ] || fail 'systemd does not run here' 'install it on the host itself, not in a container'
    systemd=$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ "${systemd:-0}" -ge 247 ] || fail "systemd ${systemd:-of no version} is too old" 'systemd 247 or later: Debian 11, Ubuntu 22.04'
    command -v dpkg >/dev/null || fail 'dpkg is not here: the package is for Debian and its relatives' \
        'install the wheels by hand: docs/how-to/install-the-package.md'
    architecture=$(dpkg --print-architecture) || fail 'dpkg does not tell its architecture' 'dpkg --print-architecture'
    python=$(/usr/bin/python3 -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
        fail '/usr/bin/python3 is not here' 'apt-get install python3'
    if command -v curl >/dev/null; then
        tool=curl
    elif wget --version 2>/dev/null | grep -q '^GNU Wget'; then
        tool=wget
    else
        fail 'neither curl nor GNU wget is here' 'apt-get install curl ca-certificates'
    fi
    [ -z "$ca" ] || [ -r "$ca" ] || fail "$ca cannot be read" 'give the file of the authority with --ca-file'
    [ -z "$config" ] || [ -r "$config" ] || fail "$config cannot be read" 'give a readable file with --config'
    if [ -n "$config" ] && [ -e "$config_file" ] && ! cmp -s "$config" "$config_file"; then
        fail "$config_file is there already, and is not $config" 'compare the two, and leave --config out or move one away'
    fi
    choose_unit
    choose_package
    check_space
    say "systemd $systemd, $architecture, python $python, $tool"
}

# The agent runs in one of two ways; an upgrade keeps the one that was chosen before.
choose_unit() {
    unit=$wanted_unit
    for one in releasehand-agent.service releasehand-agent-user.service; do
        if systemctl --quiet is-enabled "$one" 2>/dev/null || systemctl --quiet is-active "$one" 2>/dev/null; then
            [ "$one" = "$unit" ] || [ "$unit" = releasehand-agent.service ] ||
                fail "$one is in use here" "systemctl disable --now $one, or leave --without-root out"
            unit=$one
        fi
    done
}

choose_package() {
    file='' version='' available=''
    while read -r py arch ver bytes sum name; do
        available="$available, $arch with python $py"
        [ "$py" = "$python" ] && [ "$arch" = "$architecture" ] || continue
        [ -z "$version" ] || dpkg --compare-versions "$ver" gt "$version" || continue
        version=$ver size=$bytes digest=$sum file=$name
    done <<END
$packages
END
    [ -n "$file" ] || fail "the controller has no package for $architecture with python $python, but for ${available#, }" \
        'build one on such a host (make dist), and put it into the install.folder of the controller'
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Version}' releasehand-daemons 2>/dev/null)
    case "$installed" in
        'installed '*) installed=${installed#installed } ;;
        *) installed='' ;;
    esac
    if [ -n "$installed" ] && dpkg --compare-versions "$installed" ge "$version"; then file=''; fi
}

check_space() {
    [ -z "$file" ] || has_room /opt $((size * 5 / 1024))
    has_room /var 102400
    work=$(umask 077 && mktemp -d "${TMPDIR:-/tmp}/releasehand.XXXXXX") || fail 'no folder can be made for the download' 'set TMPDIR'
    [ -z "$file" ] || has_room "$work" $((size / 1024 + 1024))
}

has_room() { # FOLDER KIB
    folder=$1
    [ -d "$folder" ] || folder=/
    free=$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')
    [ "${free:-0}" -ge "$2" ] ||
        fail "$1 has $((${free:-0} / 1024)) MiB of free disk, and $(($2 / 1024)) are needed" 'make room there, and run this again'
}

check_network() {
    step=reach
    fetch "$api/livez" "$work/livez" ||
        fail "$api does not answer as it should: $(grep -m 1 . "$work/said")" \
            'see DNS, firewall, proxy and clock of this host; --ca-file names an authority that the system does not know'
    served=$(tr -d '\r' <"$work/headers" | sed -n 's/^ *[Dd]ate: *//p' | tail -n 1)
    ahead=$(/usr/bin/python3 -I -c '
import sys, time, email.utils
print(round(time.time() - email.utils.parsedate_to_datetime(sys.argv[1]).timestamp()))' "$served" 2>/dev/null) || ahead=0
    [ "$ahead" -le 300 ] && [ "$ahead" -ge -300 ] ||
        fail "the clocks of this host and of the controller differ by ${ahead#-} s: certificates would not count" \
            'set the one that is wrong: timedatectl set-ntp true'
    /usr/bin/python3 -I -c '
import socket, sys, urllib.parse
parts = urllib.parse.urlsplit(sys.argv[1])
try:
    socket.create_connection((parts.hostname, parts.port), 15).close()
except OSError as exc:
    sys.exit(str(exc))' "$hub" 2>"$work/said" ||
        fail "$hub cannot be reached: $(cat "$work/said")" 'let this host connect to that port, the one of the agents'
    say "$api and $hub; the clocks differ by ${ahead#-} s"
}

# Over TLS whose certificate was verified, and from nowhere else. What a busy controller puts off is asked for again.
fetch() { # URL FILE
    for pause in 2 4 8 15 30 60 60 60 60 60 0; do
        try_fetch "$1" "$2" >"$work/said" 2>&1 && return 0
        code=$?
        case "$tool$code $(sed -n 's/^ *HTTP[^ ]* \([0-9]*\).*/\1/p' "$work/headers" | tail -n 1)" in
            *' 429' | *' 5'?? | curl18* | curl28* | curl52* | curl56*) sleep "$pause" ;;
            *) return 1 ;;
        esac
    done
    return 1
}

try_fetch() { # URL FILE
    : >"$work/headers"
    if [ "$tool" = curl ]; then
        curl -q --fail --silent --show-error --proto '=https' --tlsv1.2 --connect-timeout 15 --speed-limit 500 --speed-time 30 \
            ${ca:+--cacert "$ca"} --dump-header "$work/headers" --output "$2" "$1"
    else
        wget --no-config --no-verbose --server-response --no-hsts --max-redirect=0 --tries=1 --timeout=30 \
            ${ca:+--ca-certificate="$ca"} -O "$2" "$1" 2>"$work/headers"
        set -- $?
        grep -v '^  ' "$work/headers"
        return "$1"
    fi
}

install_package() {
    step=fetch
    if [ -z "$file" ]; then
        step=install
        say "already: releasehand-daemons $installed$([ "$installed" = "$version" ] || echo ", newer than $version")"
        return
    fi
    fetch "$api/install/$file" "$work/$file" ||
        fail "$file did not come: $(grep -m 1 . "$work/said")" 'run this again; the controller log tells its side'
    found=$(sha256sum "$work/$file" | cut -d ' ' -f 1)
    [ "$found" = "$digest" ] || fail "$file is not what the controller named: sha256 is $found, expected $digest" \
        'run the whole line again: the package may have been replaced meanwhile. Else somebody changes it on its way'
    say "$file, $((size / 1048576)) MiB, sha256 verified"
    step=install
    if command -v apt-get >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get -q -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=120 \
            -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
            install -y --no-install-recommends "$work/$file" >"$work/said" 2>&1
    else
        dpkg --force-confdef --force-confold -i "$work/$file" >"$work/said" 2>&1
    fi || fail "the package was not installed: $(grep -v '^$' "$work/said" | tail -n 3 | tr '\n' ' ')" \
        'mend what it says, then dpkg --configure -a, and run this again'
    rm -f -- "$work/$file"
    say "releasehand-daemons $version${installed:+, $installed before}"
}

write_config() {
    step=configure
    if [ -e "$config_file" ]; then
        said="already: $config_file"
    else
        mkdir -p "$etc" && chmod 755 "$etc"
        place_config || fail "$config_file cannot be written" "make room, or see $etc"
        said="wrote $config_file"
    fi
    releasehand-agent config check --config "$config_file" >"$work/said" 2>&1 ||
        fail "$(tr '\n' ' ' <"$work/said")" "correct it, and run this again"
    # Whoever closed it may have meant it: it is not opened behind his back.
    account=$(systemctl show --property=User --value "$unit")
    [ "${account:-root}" = root ] || runuser -u "$account" -- test -r "$config_file" ||
        fail "$config_file cannot be read by $account, the account that the agent runs as" \
            "chgrp $(id -gn "$account") $config_file && chmod 640 $config_file; run this again"
    say "$said"
}

# It may hold secrets, so it is for root and for the agent's account alone.
place_config() {
    (umask 077 && if [ -n "$config" ]; then cat -- "$config"; else empty_config; fi >"$config_file.new") || return 1
    [ "$unit" = releasehand-agent.service ] || chgrp releasehand-agent "$config_file.new" || return 1
    chmod 640 "$config_file.new" && wrote=$config_file && mv -- "$config_file.new" "$config_file"
}

empty_config() {
    cat <<'END'
# What this host lets its controller do. "releasehand-agent config check" looks at this file, a restart of the agent reads
# it. All keys are told in docs/reference/configuration.md; an instance is one copy of a service, like this:
#
# [[instance]]
# id = "shop-1"
# service = "shop"
# port = 8080
# root = "/srv/shop/shop-1"
# driver = { type = "systemd", unit = "shop.service" }
# check = { type = "http", url = "http://127.0.0.1:8080/health", contains = "{version}" }
END
}

# Who this host is stands in the state directory, which agent.toml may have named; that may also say where its controller
# is now.
find_identity() {
    identity=$(/usr/bin/python3 -I -c '
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    print(tomllib.load(file).get("state_dir", "/var/lib/releasehand-agent") + "/identity")' "$1" 2>/dev/null) ||
        identity=/var/lib/releasehand-agent/identity
    joined=$(/usr/bin/python3 -I -c '
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    print(tomllib.load(file)["controller"]["url"].rstrip("/"))' "$1" 2>/dev/null) || joined=$(cat "$identity/controller.url" 2>/dev/null)
}

read_token() {
    step=token
    find_identity "${config:-$config_file}"
    if [ -s "$identity/agent.pem" ]; then
        # Before anything of this controller's comes here.
        [ "$joined" = "$hub" ] || fail "this host is an agent of $joined already" \
            "releasehand-agent join --again --url $hub, with a new token, if it is to change"
        return
    fi
    if [ -n "$token_file" ]; then
        token=$(cat -- "$token_file") || fail "$token_file cannot be read" 'give a readable file with --token-file'
    fi
    [ -n "$token" ] || fail 'there is no join token' \
        'make one (releasehand-controller join-token create), and give it with --token-file or in RELEASEHAND_JOIN_TOKEN'
    case $token in
        rhj1.*.*) ;;
        *) fail 'what was given is no join token: those begin with rhj1.' 'copy the whole of one line, from rhj1. on' ;;
    esac
}

join() {
    step='join'
    if [ -s "$identity/agent.pem" ]; then
        say "already: an agent of $hub"
        return
    fi
    state=${identity%/identity}
    [ "$unit" = releasehand-agent.service ] || install -d -m 700 -o releasehand-agent -g releasehand-agent "$state"
    # printf is the shell's own: the token stands in no list of processes.
    printf '%s\n' "$token" | releasehand-agent join --config "$config_file" --url "$hub" --token-file - \
        ${agent_id:+--agent-id "$agent_id"} >"$work/said" 2>&1 ||
        fail "$(tr '\n' ' ' <"$work/said")" 'make a new token where this one is of no use, and run this again'
    say "$(tail -n 1 "$work/said")"
}

start() {
    step=start said=already
    if ! systemctl --quiet is-enabled "$unit" 2>/dev/null; then
        enabled=yes said='enabled'
        systemctl --quiet enable "$unit" 2>"$work/said" || fail "$(tail -n 1 "$work/said")" "systemctl status $unit"
    fi
    if ! systemctl --quiet is-active "$unit"; then
        started=yes said="${enabled:+enabled and }started"
        systemctl start "$unit" 2>"$work/said" ||
            fail "$unit does not start: $(journalctl -q -u "$unit" -n 3 -o cat --no-pager | tr '\n' ' ')" "journalctl -u $unit"
    fi
    say "$said: $unit"
    step=online
    releasehand-agent status --wait 60s >"$work/said" 2>&1 ||
        fail "the agent is not online: $(tail -n 1 "$work/said")" "journalctl -u $unit; what is joined stays so: run this again"
    say "at $hub"
}

main() {
    token=${RELEASEHAND_JOIN_TOKEN:-}
    unset RELEASEHAND_JOIN_TOKEN
    read_options "$@"
    umask 022
    export LC_ALL=C PATH="$PATH:/usr/sbin:/usr/bin:/sbin:/bin"
    trap leave EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 141' PIPE # a lost ssh
    trap 'exit 143' TERM
    echo "an agent of $api on $(uname -n)"
    check_host
    read_token
    check_network
    install_package
    write_config
    join
    start
    enabled='' started='' wrote=''
    if grep -q '^\[\[instance\]\]' "$config_file"; then
        printf '\nnext: releasehand-agent status\n'
    else
        printf '\nnext: write into %s what this host is to run, then: systemctl restart %s\n' "$config_file" "$unit"
    fi
}

main "$@" </dev/null; exit; }
