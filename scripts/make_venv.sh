#!/bin/sh
# Make a virtual environment of this project from constraints.txt, or leave a finished one as it is.
#
#   sh scripts/make_venv.sh DIRECTORY demo|test|sqlalchemy20|newest
#
#   demo          querywatch and what `querywatch demo` needs
#   test          every extra and the tools of the tests
#   sqlalchemy20  the same with the newest SQLAlchemy 2.0
#   newest        the same without constraints.txt, to make a new one
#
# PYTHON names the Python to make it with; the system's own packages are never touched.
set -eu

venv=$1
purpose=$2
python=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

fail() {
    echo "error: $*" >&2
    exit 2
}

version_of() {
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null
}

# What the environment is made of. A copied directory counts as another one: its querywatch is the original's.
made_of=$(cat pyproject.toml constraints.txt "$0" | cksum | tr -d ' ')-$(pwd | cksum | tr -d ' ')
is_ready() {
    [ "$(cat "$venv/.ready-$1" 2>/dev/null)" = "$made_of" ] && have=$(version_of "$venv/bin/python") &&
        # A Python that was asked for by name has to be this one.
        { [ -z "${PYTHON:-}" ] || [ "$have" = "$(version_of "$PYTHON")" ]; }
}
# What serves the tests serves the demo too.
if is_ready "$purpose" || { [ "$purpose" = demo ] && is_ready test; }; then
    exit 0
fi

command -v "$python" >/dev/null || fail "$python is not on PATH; on Debian or Ubuntu: apt-get install python3 python3-venv"
version=$(version_of "$python") || fail "$python does not run"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$python is Python $version, querywatch needs 3.11 or newer; name one: make PYTHON=python3.12 ..."
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python has no venv module; on Debian or Ubuntu: apt-get install python${version%.*}-venv"

began=$(date +%s)
echo "[1/3] making $venv with Python $version"
if [ "$(version_of "$venv/bin/python")" != "$version" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    "$python" -m venv --clear "$venv"
fi
rm -f "$venv"/.ready-*

case $purpose in
    demo) wanted='-e .[demo]' ;;
    *) wanted='-e . --group dev' ;;
esac
case $purpose in
    newest) : >"$venv/constraints.txt" ;;
    sqlalchemy20)
        grep -iv '^sqlalchemy==' constraints.txt >"$venv/constraints.txt"
        echo 'sqlalchemy>=2.0.20,<2.1' >>"$venv/constraints.txt"
        ;;
    *) cp constraints.txt "$venv/constraints.txt" ;;
esac

install() {
    "$venv/bin/python" -m pip install -qq -c "$venv/constraints.txt" "$@" ||
        fail "pip could not install; its lines above say why, and the same command starts again where it stopped"
}
echo "[2/3] installing pip and the build tools"
# pip of Debian 12 knows no --group. The build tools stand in constraints.txt too, so nothing is built with others.
install --upgrade pip hatchling editables

echo "[3/3] installing querywatch for: $purpose (half a minute or so)"
# shellcheck disable=SC2086  # two words and more
install --no-build-isolation $wanted

echo "$made_of" >"$venv/.ready-$purpose"
echo "$venv is ready after $(($(date +%s) - began)) s"
