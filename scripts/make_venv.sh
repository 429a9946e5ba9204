#!/bin/sh
# make_venv.sh PYTHON FOLDER: a virtual environment, also on a Debian whose Python comes without its venv package.
set -u
"$1" -m venv "$2" && exit 0
rm -rf "$2" # a failed attempt leaves half of one
version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing python$version-venv"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "python$version-venv" >/dev/null &&
        "$1" -m venv "$2" && exit 0
fi
echo "$1 cannot make virtual environments; please run: sudo apt-get install python$version-venv" >&2
rm -rf "$2"
exit 1
