#!/usr/bin/env bash
# Makes .venv with the packages of requirements.lock and Headwater itself, editable.
#
# A stamp says which checkout and which lock it was made for, so a second run returns at once, and
# one that was interrupted, moved or removed is made again.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/local/quietly.sh

stamp=.venv/headwater-stamp
wanted="$PWD $(cat requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1)"
works() { .venv/bin/python -c 'import pip' 2>/dev/null; }

if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ -x .venv/bin/headwater ] && works; then
    exit 0
fi

python=$(deploy/local/python.sh) || {
    echo "headwater: no Python 3.11 or later with venv: run make setup, or set HEADWATER_PYTHON" >&2
    exit 1
}
echo "Python packages into .venv …"
case "$(cat "$stamp" 2>/dev/null)" in
"$PWD "*) works || quietly "$python" -m venv --clear .venv ;;
*) quietly "$python" -m venv --clear .venv ;;
esac
rm -f "$stamp"
pip() { quietly .venv/bin/python -m pip --disable-pip-version-check --no-input "$@"; }
pip install -r requirements.lock
pip install --no-build-isolation --no-deps -e .
echo "$wanted" >"$stamp"
