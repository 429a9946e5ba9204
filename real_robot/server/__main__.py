"""Serve a checkpoint to planners, on this machine unless told otherwise.

    python -m real_robot.server make_token=token.txt                # once; copy the file to the client, mode 0600
    python -m real_robot.server checkpoint=outputs/train/run/checkpoints/final token_file=token.txt
    EQUIDIFF_TOKEN=... python -m real_robot.server checkpoint=...
    python -m real_robot.server checkpoint=... token_file=token.txt host=0.0.0.0 \
        tls.certificate=server.pem tls.key=server.key               # to other machines: only with TLS

A client is real_robot.planners.RemotePlanner. GET /health tells whether the server is up; with the token also how it
does. Ctrl-C or SIGTERM ends it.
Keys: checkpoint, device, seed (of the noise; null: a new one each time), host, port (0: any free one), token_file
(null: from EQUIDIFF_TOKEN), tls.certificate, tls.key (PEM files), insecure (true: other machines without TLS), limits
(connections, max_hz, burst, handshake_s, plan_s, keepalive_s), make_token.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from omegaconf import DictConfig

from equidiff.hydra_app import run_app
from real_robot.server.access import AccessError, make_token, read_token, server_tls


def main(config: DictConfig) -> int:
    """Serve as `config` says until a signal; the exit code."""
    try:
        if config.make_token is not None:
            make_token(Path(config.make_token))
            print(f"wrote a new token to {config.make_token}; copy it to the client as it is, mode 0600")
            return 0
        return _serve(config)
    except (AccessError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2


def _serve(config: DictConfig) -> int:
    if config.checkpoint is None:
        raise AccessError("checkpoint is not set; give it on the command line: checkpoint=DIRECTORY")
    if (config.tls.certificate is None) != (config.tls.key is None):
        raise AccessError("tls.certificate and tls.key: give both or none")
    token = read_token(None if config.token_file is None else Path(config.token_file))
    tls = None if config.tls.key is None else server_tls(Path(config.tls.certificate), Path(config.tls.key))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    print(f"loading {config.checkpoint} ...", flush=True)
    from equidiff.checkpoint import load_policy
    from real_robot.server.limits import Limits
    from real_robot.server.serve import PolicyServer

    try:
        limits = Limits(**config.limits)
    except ValueError as error:
        raise AccessError(str(error)) from error
    policy = load_policy(config.checkpoint, config.device)
    server = PolicyServer(policy, token, limits=limits, seed=config.seed)
    print(f"warm after {server.warmed_up_in:.2f} s", flush=True)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        port = await server.start(config.host, config.port, tls, config.insecure)
        print(f"serving at {'ws' if tls is None else 'wss'}://{config.host}:{port}", flush=True)
        await stop.wait()
        await server.close()

    asyncio.run(run())
    if server.busy:
        print("the policy is stuck; ended without it", flush=True)
        os._exit(1)  # Python would wait for its thread
    return 0


if __name__ == "__main__":
    run_app(main, "serve", __doc__)
