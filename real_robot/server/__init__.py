"""One policy behind a socket: authenticated, size-limited, msgpack without pickle. See docs/policy_server.md."""
