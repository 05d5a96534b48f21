#!/bin/sh
# Install the servers that the tests start and this machine lacks: as root on Debian or Ubuntu, else say which.
#
# A further server is one more `need` line. Nothing of the system changes but its packages: no service starts, no
# database cluster is made, and the two files that see to it are gone afterwards.
# Exit code 1: something is still missing and CI=true, where tests fail that have no server. Elsewhere they skip.
set -u

# Tell of each server that is not here, as "name package"; as tests/servers.py looks for them.
list_missing() {
    postgres=$(find_program postgres '/usr/lib/postgresql/*/bin')
    need PostgreSQL "$postgres" postgresql
    need HypoPG "$(postgres_share "$postgres")/extension/hypopg.control" "postgresql-$(postgres_version "$postgres")-hypopg"
    need Redis "$(command -v redis-server)" redis-server
}

# need NAME FILE PACKAGE: the server is here when FILE is.
need() {
    [ -e "$2" ] || echo "$1 $3"
}

# find_program NAME PLACES: its path, on PATH or else in the highest version of PLACES, a glob.
find_program() {
    # shellcheck disable=SC2086  # the glob
    command -v "$1" || ls -d $2/"$1" 2>/dev/null | sort -V | tail -n 1
}

postgres_share() {
    [ -z "$1" ] || "$(dirname "$(readlink -f "$1")")/pg_config" --sharedir
}

# The major version of the PostgreSQL here, or else of the one that the distribution would install.
postgres_version() {
    if [ -n "$1" ]; then
        "$1" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'
    else
        apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | grep . || echo 'VERSION'
    fi
}

# Packages ask these two whether to start a service and whether to make a cluster.
policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.d/querywatch-tests.conf
made_policy=
made_cluster=

hold_services() {
    # A container's own policy stays as it is: it says no already, or its owner wants it so.
    if [ ! -e "$policy" ] && [ ! -L "$policy" ]; then
        made_policy=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    fi
    if [ ! -e "$cluster" ]; then
        made_cluster=yes
        mkdir -p "${cluster%/*}" && echo 'create_main_cluster = false' >"$cluster"
    fi
}

release_services() {
    [ -z "$made_policy" ] || rm -f "$policy"
    if [ -n "$made_cluster" ]; then
        rm -f "$cluster"
        rmdir "${cluster%/*}" 2>/dev/null
    fi
    made_policy=
    made_cluster=
}

apt() {
    apt-get -qq -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

install_packages() {
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt install -y --no-install-recommends "$@" >"$log" 2>&1
}

missing=$(list_missing)
[ -n "$missing" ] || exit 0
names=$(echo "$missing" | cut -d' ' -f1 | paste -sd, - | sed 's/,/, /g')

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    log=$(mktemp)
    trap 'release_services; rm -f "$log"' EXIT
    trap 'exit 130' INT TERM HUP
    echo "installing for the tests, with apt-get: $names (services stay off)"
    # Without package lists (a container image) no version is known; old lists name files that are gone.
    apt-cache show postgresql >/dev/null 2>&1 || apt update >"$log" 2>&1
    hold_services
    # shellcheck disable=SC2046  # one word a package
    install_packages $(list_missing | cut -d' ' -f2) || { apt update && install_packages $(list_missing | cut -d' ' -f2); }
    [ -z "$(list_missing)" ] || tail -n 15 "$log" >&2
    missing=$(list_missing)
    [ -n "$missing" ] || exit 0
fi

packages=$(echo "$missing" | cut -d' ' -f2 | paste -sd' ' -)
[ "${CI:-}" = true ] && then_what='fail' || then_what='are skipped'
echo "missing: $names (the tests that need it $then_what). Run as root: apt-get install $packages" >&2
[ "${CI:-}" != true ]
