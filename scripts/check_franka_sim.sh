#!/usr/bin/env bash
# Runs the Franka driver against franky-sim, a simulated FR3 that speaks libfranka's protocol.
#
#     scripts/check_franka_sim.sh [folder of its environment, default ~/.cache/equidiff/franky-sim]
#
# franky-sim needs a newer numpy than equidiff: it gets an environment of its own, outside the repository. Needs the
# extra franka (pip install "equidiff[franka,dev]") in the environment of `python`, or in $PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/equidiff/franky-sim}
python=${PYTHON:-python}
address=${FRANKA_SIM_ADDRESS:-127.0.0.33} # a loopback address of its own: libfranka's ports are fixed
log=$(mktemp)

"$python" -c "import franky" || { echo 'franky-control is missing: pip install "equidiff[franka]"'; exit 2; }
if [ ! -x "$folder/bin/franky-sim" ]; then
    if command -v uv > /dev/null; then
        uv venv --quiet "$folder" && uv pip install --quiet --python "$folder/bin/python" "franky-sim==1.0.4"
    else
        "$python" -m venv "$folder" && "$folder/bin/pip" install --quiet "franky-sim==1.0.4"
    fi
fi

# "auto" takes the first simulator it finds, installed or not
"$folder/bin/franky-sim" --simulator mujoco --hostname "$address" > "$log" 2>&1 &
server=$!
trap 'kill -CONT $server 2> /dev/null || true; kill $server 2> /dev/null || true; rm -f "$log"' EXIT
for _ in $(seq 120); do
    grep -q "Connect to the server" "$log" && break
    kill -0 $server 2> /dev/null || { cat "$log"; exit 1; }
    sleep 0.5
done
FRANKA_SIM=$address FRANKA_SIM_PID=$server "$python" -m pytest -q -s -p no:cacheprovider tests/real_robot/test_franka_sim.py
