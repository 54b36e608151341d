"""The verb `serve`: a model behind the HTTP interfaces of OpenAI and Anthropic, from socket to the signal that ends it.

The port is taken before the model is loaded, so that a taken one costs nothing; a client that connects meanwhile
waits in the socket's queue and is answered when the model is ready. `--probe` starts the same server, asks it one
question over HTTP twice, streamed and whole, and stops it: what a recipe uses to prove that serving works.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ingot.core.options import Options, argument, option, verb
from ingot.infer.memory import Memory
from ingot.infer.options import Weights
from ingot.infer.speculation.options import Speculation
from ingot.serve.limits import LimitOptions

if TYPE_CHECKING:
    from ingot.serve.server import Session


class ServeOptions(Options):
    """Options of `ingot serve`."""

    model: str = argument("model to serve: DIR or DIR+ADAPTER")
    host: str = option("127.0.0.1", "address to listen on; the default is reachable from this machine only")
    port: int = option(8000, "port to listen on (0: any free one, printed)", ge=0, le=65535)
    name: str | None = option(None, "model id that clients ask for (default: the directory's name)", min_length=1)
    adapter: list[str] = option([], "answer requests for the model NAME by this adapter: NAME=DIR (may be repeated)")
    slots: int = option(8, "sequences that run at once", ge=1, le=1024)
    policy: str = option("default", 'guard policy for requests and answers: a name, a file, or "off"')
    api_key_file: Path | None = option(None, "file with accepted API keys, one a line (default: no key needed)")
    limits: LimitOptions = option(
        LimitOptions(), "how much may wait, how large requests may be, how long things may take"
    )
    cache: Memory = option(Memory(), "keys and values: --cache.gib and so on")
    speculation: Speculation = option(Speculation(), "guess what follows: --speculation.kind and so on")
    place: str = option("cpu", "where to run: cpu, cuda, cuda:1, 2xcuda, auto, or sizes such as cuda=8GiB,cpu=4GiB")
    weights: Weights = option("auto", "layers multiply by: dense, int8 or int4; auto: the codes a directory stores")
    probe: str | None = option(None, "ask this over HTTP, streamed and whole, print the answer, and stop", min_length=1)
    probe_tokens: int = option(64, "longest answer to --probe, tokens", ge=1)


@verb(ServeOptions)
def serve(options: ServeOptions) -> Session:
    """Serve a model until SIGTERM or Ctrl-C; returns what was served."""
    from ingot.serve.server import listen, run

    with listen(options.host, options.port) as socket:
        return run(options, socket)
