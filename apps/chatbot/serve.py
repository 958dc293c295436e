"""`--mode=serve`: an exported directory behind TF Serving's REST API."""

import functools
import json
import shlex
from collections.abc import Sequence

from apps.chatbot import page
from apps.chatbot.talk import Talk
from keras_attention.export import server

_LINE = {"instances": ["Hello!"]}


def run(
    export_dir: str,
    host: str,
    port: int,
    name: str,
    limits: dict,
    talk: Talk | None = None,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serve `export_dir` until Ctrl-C or SIGTERM, which let running requests finish.

    `limits`: values of `server.Limits` other than the defaults. `talk`: for the page.
    """

    def announce(url: str) -> None:
        asked = shlex.quote(json.dumps(_LINE))
        print(
            f"Serving {export_dir} at {url}/v1/models/{name}. Example:\n"
            f"curl -d {asked} {url}/v1/models/{name}:predict",
            flush=True,
        )
        if talk:
            print(f"Chat page: {url}/", flush=True)

    server.serve(
        export_dir,
        host=host,
        port=port,
        name=name,
        limits=server.Limits(**limits),
        announce=announce,
        add=functools.partial(page.add, talk=talk) if talk else None,
        allowed_hosts=allowed_hosts,
    )
