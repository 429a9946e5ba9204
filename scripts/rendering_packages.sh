#!/bin/sh
# Installs the Debian packages that equidiff's libraries need where it may; otherwise names those that are missing.
# Without those for rendering without a screen nothing runs; those for one kind of hardware are only noted.
set -u
[ "$(uname -s)" = Linux ] || exit 0
PATH="$PATH:/sbin:/usr/sbin" # where ldconfig is, for a user who is not root

lacks() { # lacks LIBRARY
    ! ldconfig -p 2>/dev/null | grep -q "$1"
}
updated=no
install() { # install PACKAGES: true if they were installed
    { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || return 1
    echo "installing$1"
    [ "$updated" = yes ] || apt-get update -qq || return 1
    updated=yes
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $1 >/dev/null
}

rendering=""
if [ -e /dev/nvidia0 ]; then
    lacks libEGL.so.1 && rendering="$rendering libegl1"
    lacks libGL.so.1 && rendering="$rendering libgl1"
fi
lacks libOSMesa.so && rendering="$rendering libosmesa6"
realsense=""
lacks libusb-1.0.so.0 && realsense=" libusb-1.0-0" # pyrealsense2 loads it

if [ -n "$realsense" ] && ! install "$realsense"; then
    echo "note: RealSense cameras, and nothing else, need one more package: sudo apt-get install$realsense"
fi
if [ -n "$rendering" ] && ! install "$rendering"; then
    echo "missing for rendering without a screen; please run: sudo apt-get install$rendering" >&2
    exit 1
fi
