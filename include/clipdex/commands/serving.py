"""The commands clipdex serve, clipdex token and clipdex mcp."""

import argparse
import json
import logging
import sys
import time
from datetime import UTC, datetime

from rich.table import Table

from clipdex.commands.terminal import console
from clipdex.config import Settings
from clipdex.errors import ConfigurationError
from clipdex.pipeline import Pipeline
from clipdex.sanitize import escape_line
from clipdex.serve import tokens


def serve(args: argparse.Namespace) -> int:
    """Serve the web app until a signal; print its address."""
    try:
        from clipdex.serve.peer import LOOPBACK_NAMES
        from clipdex.serve.server import run
    except ImportError as error:
        raise _not_installed(error) from None
    logging.getLogger("clipdex.serve").setLevel(logging.INFO)  # the access log
    settings = Settings.load()
    if args.host not in LOOPBACK_NAMES and not settings.serve.hosts:
        print(
            escape_line(
                f"clipdex serve: {args.host} is reached by address alone: set CLIPDEX_SERVE__HOSTS to the names of "
                "this server. Tokens are not encrypted: put a reverse proxy with TLS before it (docs/serve.md)"
            ),
            file=sys.stderr,
        )

    def announce(url: str) -> None:
        print(json.dumps({"url": url}) if args.json else f"clipdex serves {url}; Ctrl-C stops it", flush=True)

    run(settings, args.host, args.port, announce)
    return 0


def token(args: argparse.Namespace) -> int:
    """Make, list or revoke tokens."""
    path = tokens.token_file(Settings.load())
    match args.action:
        case "create":
            try:
                secret = tokens.create(path, args.name, args.days)
            except ImportError as error:
                raise _not_installed(error) from None
            print(json.dumps({"name": args.name, "token": secret}) if args.json else secret)
            print("shown once, store it now; send it as: Authorization: Bearer TOKEN", file=sys.stderr)
        case "list":
            _list(tokens.read(path), args.json)
        case "revoke":
            tokens.revoke(path, args.name)
            print(json.dumps({"revoked": args.name}) if args.json else f"{args.name} is revoked, and its sessions")
    return 0


def mcp(args: argparse.Namespace) -> int:
    """Serve the index to agents until the client, or a signal, ends it."""
    if not args.http and not (args.host is None and args.port is None):
        args.error("arguments --host and --port: only with --http")
    try:
        from clipdex.mcp.transports import serve_http, serve_stdio
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"the package {error.name} is not installed: pip install 'clipdex[mcp]'") from None
    pipeline = Pipeline.open()
    try:
        if args.http:
            serve_http(pipeline, args.host, args.port)
        else:
            serve_stdio(pipeline)
    except KeyboardInterrupt:
        return 130  # the usual end of a server: nothing to run again
    return 0


def _list(known: list[tokens.Token], as_json: bool) -> None:
    if as_json:
        print(json.dumps([{"name": one.name, "created": one.created, "expires": one.expires or None} for one in known]))
        return
    table = Table("name", "created", "expires")
    for one in known:
        ended = " (expired)" if one.expires_at <= time.time() else ""
        table.add_row(one.name, _minute(one.created), (_minute(one.expires) if one.expires else "never") + ended)
    console.print(table if known else "there is no token: clipdex token create NAME makes one")


def _minute(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _not_installed(error: ImportError) -> ConfigurationError:
    return ConfigurationError(f"{error.name} is not installed: pip install 'clipdex[web]'")
