#!/bin/sh
# Installs the Debian packages for rendering without a screen where it may; otherwise names those that are missing.
set -u
[ "$(uname -s)" = Linux ] || exit 0
missing=""
library() { # library package...
    ldconfig -p 2>/dev/null | grep -q "$1" && return
    shift
    missing="$missing $*"
}
PATH="$PATH:/sbin:/usr/sbin"
if [ -e /dev/nvidia0 ]; then
    library libEGL.so.1 libegl1
    library libGL.so.1 libgl1
fi
library libOSMesa.so libosmesa6
library libusb-1.0.so.0 libusb-1.0-0 # for pyrealsense2
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing for rendering without a screen:$missing"
    # shellcheck disable=SC2086
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
fi
echo "missing for rendering without a screen; please run: sudo apt-get install$missing" >&2
exit 1
