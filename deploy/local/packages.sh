#!/usr/bin/env bash
# Installs the Debian packages that Headwater's local runtime needs, and nothing else; with the
# argument `test` also the programs that only tests use (PgBouncer, docker compose).
#
# Says what it is about to do and asks first, unless YES=1 or standard input is no terminal.
# Debian 13 has PostgreSQL 17 and TimescaleDB itself. On Debian 12 they come from the trixie
# suite of the mirror that is already configured, pinned so low that nothing else moves there.
# No system cluster is created and no service is started: the runtime under .headwater/ has
# its own. A second run finds everything in place and returns at once. What apt says is in
# .headwater/log/setup.log, and on the screen only if it fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/local/quietly.sh

sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"

# Full editions of the database may stand elsewhere; then only the rest is installed.
pg_bindir="${HEADWATER_PG_BINDIR:-/usr/lib/postgresql/17/bin}"

have_package() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

database_packages=()
other_packages=()
# libpq5 comes along with the server; no client of the system is replaced.
if [ ! -x "$pg_bindir/postgres" ]; then
    database_packages+=(postgresql-17 postgresql-17-timescaledb)
elif [ "$pg_bindir" = /usr/lib/postgresql/17/bin ] &&
    ! ls /usr/share/postgresql/17/extension/timescaledb.control >/dev/null 2>&1; then
    database_packages+=(postgresql-17-timescaledb)
fi
# redis-tools holds the server's binary (as redis-check-rdb) without a system service.
if ! command -v redis-server >/dev/null && ! command -v valkey-server >/dev/null; then
    have_package redis-tools || other_packages+=(redis-tools)
fi
deploy/local/python.sh >/dev/null || other_packages+=(python3 python3-venv)
have_package ca-certificates || other_packages+=(ca-certificates)

test_packages=()
if [ "${1:-}" = test ]; then
    [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || test_packages+=(pgbouncer)
    docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1 ||
        test_packages+=(docker-compose)
fi
# On Debian 12 these come from trixie: they have to be as new as the database.
trixie_packages=("${database_packages[@]}" "${test_packages[@]}")

packages=("${trixie_packages[@]}" "${other_packages[@]}")
[ ${#packages[@]} -gt 0 ] || exit 0

# shellcheck disable=SC1091
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")
case "$codename" in
bookworm | trixie) ;;
*)
    echo "headwater: Debian 12 or 13 is needed for an automatic set-up, this is '$codename'." >&2
    echo "Install by hand: PostgreSQL 17, TimescaleDB, Redis or Valkey, Python 3.11+ with venv." >&2
    exit 1
    ;;
esac
# A Debian 12 that was set up before may call itself trixie: base-files came with the libraries.
sources=/etc/apt/sources.list.d/headwater-trixie.sources
[ ! -e "$sources" ] || codename=bookworm

echo "Headwater needs these Debian packages: ${packages[*]}"
if [ "$codename" = bookworm ] && [ ${#trixie_packages[@]} -gt 0 ]; then
    echo "On Debian 12 the database packages (and the libraries they need, libc6 among them) come"
    echo "from the trixie suite of your mirror: $sources,"
    echo "pinned at 100 in /etc/apt/preferences.d/headwater-trixie."
fi
echo "No database cluster is created and no service is started by this."
if [ "${YES:-}" != 1 ] && [ -t 0 ] && [ "${CI:-}" != true ]; then
    read -r -p "Go on? [y/N] " answer
    case "$answer" in [yY]*) ;; *) echo "Nothing was changed." && exit 1 ;; esac
fi

if [ -n "$sudo" ]; then
    command -v sudo >/dev/null || {
        echo "headwater: packages can be installed only as root or with sudo: run make setup so." >&2
        exit 1
    }
    sudo -v # its question must not go into the log
fi
# sudo drops the environment, so it is named for every call. A machine that has just started may
# be at its own upgrades: wait for them.
apt_get() {
    quietly $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@"
}
echo "Installing (a minute or two) …"
apt_get update

suite_option=()
if [ "$codename" = bookworm ] && [ ${#trixie_packages[@]} -gt 0 ]; then
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' \
        'Created-By: Packages' | awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')
    if [ -z "$mirror" ]; then
        echo "headwater: no configured apt source offers bookworm main; add one and try again." >&2
        exit 1
    fi
    printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: %s\n' \
        "$mirror" /usr/share/keyrings/debian-archive-keyring.gpg |
        $sudo tee "$sources" >/dev/null
    printf 'Package: *\nPin: release n=trixie\nPin-Priority: 100\n' |
        $sudo tee /etc/apt/preferences.d/headwater-trixie >/dev/null
    apt_get update
    suite_option=(-t trixie)
fi

if [ ${#other_packages[@]} -gt 0 ]; then
    apt_get install -y --no-install-recommends "${other_packages[@]}"
fi
if [ ${#trixie_packages[@]} -gt 0 ]; then
    # postgresql-common would make and start a cluster of its own; ours lives in .headwater/.
    drop_in=/etc/postgresql-common/createcluster.d/headwater.conf
    $sudo mkdir -p "$(dirname "$drop_in")"
    echo "create_main_cluster = false" | $sudo tee "$drop_in" >/dev/null
    trap '$sudo rm -f "$drop_in"' EXIT
    # PgBouncer's package would start a service: its program comes without one.
    apt_get install -y --no-install-recommends "${suite_option[@]}" \
        -o 'Dpkg::Options::=--path-exclude=/usr/lib/systemd/system/pgbouncer.*' \
        -o 'Dpkg::Options::=--path-exclude=/lib/systemd/system/pgbouncer.*' \
        -o 'Dpkg::Options::=--path-exclude=/etc/init.d/pgbouncer' \
        "${trixie_packages[@]}"
fi
echo "Packages installed."
