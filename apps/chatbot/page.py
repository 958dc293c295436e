"""`--mode=serve --page`: chat with the served model in a browser.

The page calls the model in the same process, within the limits of the REST API, on the same port.
It loads nothing from other machines.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from apps.chatbot.page_gate import Gate
from apps.chatbot.page_layout import CSS, TITLE, Parts, lay_out
from apps.chatbot.page_parts import (
    choices,
    conversation,
    encodable,
    looked_at,
    n_best,
    problem,
    question,
)
from apps.chatbot.talk import Talk
from keras_attention.export import Settings
from keras_attention.export.server import Overloaded, Versions

_AT_A_TIME, _WAITING = 8, 256  # concurrent lines, and waiting events


def add(app: Any, versions: Versions, talk: Talk) -> None:
    """Add the page at `/` to the FastAPI application of a server.

    Raises ImportError without the extra [demo].
    """
    gradio = _gradio()
    shown = blocks(versions, talk, app.state.answer)
    gradio.mount_gradio_app(
        app,
        shown,
        path="/",
        app_kwargs={"openapi_url": None},  # its page loads scripts from other machines
        footer_links=[],  # links to other machines
        run_history=False,
        max_file_size=1,  # uploads are not used
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gradio.themes.Base(font=["sans-serif"], font_mono=["monospace"]),  # pyright: ignore
        css=CSS,
    )
    mounted = app.router.routes[-1]
    inputs = {event: len(function.inputs) for event, function in shown.fns.items()}
    mounted.app = Gate(mounted.app, inputs)


def blocks(versions: Versions, talk: Talk, answer: Callable[..., Awaitable]) -> Any:
    """The page, as Gradio Blocks. The conversation is stored in the browser only.

    `answer`: a signature and its inputs -> its outputs.
    """
    gradio = _gradio()
    start = _that_fit(talk.settings, versions)
    with gradio.Blocks(title=TITLE[talk.couplet], analytics_enabled=False) as page:
        parts = lay_out(gradio, talk.couplet, start)
        state = [parts.shown, parts.kept, parts.found, parts.picked, parts.look, parts.wrong]
        # Values from the browser are checked here, because Gradio would print tracebacks.
        event = parts.line.submit(
            _replying(parts, versions, talk._replace(settings=start), answer),
            [parts.line, parts.kept, *parts.controls],
            [*state, parts.answered],
            preprocess=False,
            concurrency_limit=_AT_A_TIME,
        )
        if not talk.couplet:  # keep a line without an answer, and text typed in the meantime
            event.then(
                None,
                [parts.line, parts.answered],
                parts.line,
                js="(now, done) => now === done ? '' : now",
            )
        parts.picked.input(
            _pick,
            [parts.picked, parts.found, parts.kept],
            [parts.shown, parts.kept, parts.look],
            preprocess=False,
        )
        parts.again.click(_forget, None, state)
    return page.queue(max_size=_WAITING)


def _replying(parts: Parts, versions, talk, answer) -> Callable[..., AsyncIterator[dict]]:
    """The event of a sent line: each dict updates components."""

    async def reply(text, before, *values):
        if not (isinstance(text, str) and _are_texts(before)):
            raise _refused("a line, and the conversation before it")
        yield {parts.wrong: "", parts.answered: ""}
        text = encodable(text)
        settings, turns = Settings(*values), [*before, text]
        try:
            drafted = ""
            pieces = talk.draft(turns) if talk.draft and settings == talk.settings else ()
            async for piece in _in_thread(iter(pieces)):
                drafted += piece
                yield {parts.shown: conversation([*turns, drafted])}
            request = question(versions.get(), turns[-1 - talk.context_turns :], settings)
            best = n_best(await answer(*request), text, talk.couplet)
        except (ValueError, Overloaded, TimeoutError) as error:
            yield {parts.wrong: problem(error), parts.shown: conversation(before)}
            return
        turns = [*([] if talk.couplet else before), text, best["replies"][0]["reply"]]
        yield {
            parts.shown: conversation(turns),
            parts.kept: turns,
            parts.found: best,
            parts.picked: _gradio().Radio(choices(best), value=0),
            parts.look: looked_at(best, 0),
            parts.answered: text,
        }

    return reply


def _pick(place, best, turns) -> tuple:
    try:
        if place not in range(len(best["replies"])) or not _are_texts(turns):
            raise ValueError
        turns = [*turns[:-1], best["replies"][place]["reply"]]
        return conversation(turns), turns, looked_at(best, place)
    except (ValueError, TypeError, LookupError, AttributeError):
        raise _refused("the place of one of the replies") from None


def _are_texts(value) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _refused(expected: str) -> Exception:
    return _gradio().Error(f"Expected {expected}. Reload the page.", print_exception=False)


def _forget() -> tuple:
    return "", [], None, _gradio().Radio([], value=None), "", ""


async def _in_thread(pieces: Iterator[str]) -> AsyncIterator[str]:
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def _that_fit(settings, versions) -> Settings:
    """Limit the length of answers to that of the export."""
    signature = versions.get().signatures.get("generate")
    longest = signature.outputs["ids"].shape[2] if signature else None
    return settings._replace(max_length=min(settings.max_length, longest or settings.max_length))


def _gradio():
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    try:
        import gradio
    except ImportError as error:
        raise ImportError(
            "The page needs gradio: pip install 'keras-attention-seq2seq[demo]'"
        ) from error
    return gradio
