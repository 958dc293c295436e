"""`--mode=serve --page`: talk to the served model in a browser.

The page asks the model in the same process and shares the port of the REST API. Nothing on it comes
from another machine.
"""

import os
from typing import Any

from apps.chatbot.page_parts import ask, choices, conversation, looked_at, problem
from apps.chatbot.talk import Talk
from keras_attention.export import Settings
from keras_attention.export.server import NotServed, Versions

EXPLAINED = Settings(
    length_penalty="0 prefers short answers.",
    coverage_penalty="What it costs to leave a part of the line unread.",
    temperature="Below 1 the likely becomes likelier, above 1 all more alike.",
    top_k="Only the k likeliest tokens; 0: all.",
    top_p="Only the likeliest tokens of this probability together; 1: all.",
    max_length="Tokens of an answer, its end counted.",
    seed="From 0 on: draws, the same for the same seed. Below: the exported search.",
)
CSS = """
.chat p {width: fit-content; max-width: 85%; padding: 0.4em 0.8em; margin: 0.5em;
  border: 1px solid var(--border-color-primary); border-radius: 0.5em; white-space: pre-wrap}
.chat .line {margin-left: auto; background: var(--background-fill-secondary)}
.couplets p {font-size: 1.8em; letter-spacing: 0.3em; margin: 0.3em}
.problem p {padding: 0.5em; color: var(--error-text-color);
  background: var(--error-background-fill)}
.replies .wrap {flex-direction: column}
#look {overflow-x: auto}
#look th, #look td {border: 1px solid var(--border-color-primary); padding: 0.1em 0.3em;
  min-width: 1.7em; font-weight: normal; text-align: center}
"""


def add(app: Any, versions: Versions, talk: Talk) -> None:
    """Have the FastAPI application of a server show the page at `/`.

    Raises ImportError without the extra [demo].
    """
    gradio = _gradio()

    async def not_offered(path: str):
        raise NotServed(f"Nothing is served at /v1/{path}")

    # Or the page would answer what is no request of the API, and not in its words.
    app.add_api_route("/v1/{path:path}", not_offered, methods=["GET", "POST"])
    gradio.mount_gradio_app(
        app,
        blocks(versions, talk),
        path="/",
        footer_links=[],  # they lead to other machines
        run_history=False,
        max_file_size=1,  # nothing is to be uploaded
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gradio.themes.Base(font=["sans-serif"], font_mono=["monospace"]),
        css=CSS,
    )


def blocks(versions: Versions, talk: Talk) -> Any:
    """The page, as Blocks of Gradio. What was said is kept by the browser alone."""
    gradio = _gradio()
    start = _that_fit(talk.settings, versions)
    title = "Couplets" if talk.couplet else "Chat"

    def answer(text, before, *values):
        yield {wrong: "", answered: ""}
        settings, said = Settings(*values), [*before, text]
        try:
            reply = ""
            for piece in talk.draft(said) if talk.draft and settings == start else ():
                reply += piece
                yield {shown: conversation([*said, reply])}
            turns = said[-1 - talk.context_turns :]
            best = ask(versions.get(), turns, settings, talk.couplet)
        except ValueError as error:
            yield {wrong: problem(error), shown: conversation(before)}
            return
        said = [*([] if talk.couplet else before), text, best["replies"][0]["reply"]]
        yield {
            shown: conversation(said),
            kept: said,
            found: best,
            picked: gradio.Radio(choices(best), value=0),
            look: looked_at(best, 0),
            answered: text,
        }

    def pick(place, best, said):
        said = [*said[:-1], best["replies"][place]["reply"]]
        return conversation(said), said, looked_at(best, place)

    def forget():
        return "", [], None, gradio.Radio([], value=None), "", ""

    with gradio.Blocks(title=title, analytics_enabled=False) as page:
        # A State in their place would hold a connection open, and so the server's end up.
        kept, found = gradio.JSON([], visible=False), gradio.JSON(visible=False)
        answered = gradio.Textbox(visible=False)
        with gradio.Row():
            with gradio.Column(scale=3):
                shown = gradio.HTML(
                    elem_classes=title.lower(), min_height=120, max_height=400, autoscroll=True
                )
                line = gradio.Textbox(
                    label="First line" if talk.couplet else "You say", max_lines=1, submit_btn=True
                )
                wrong = gradio.HTML(elem_classes="problem")
                picked = gradio.Radio(
                    [], label="Replies and their scores, best first", elem_classes="replies"
                )
                look = gradio.HTML(elem_id="look")
            with gradio.Column(scale=1, min_width=220):
                controls = [
                    gradio.Number(
                        value, label=name, info=info, step=0.1 if isinstance(value, float) else 1
                    )
                    for name, value, info in zip(Settings._fields, start, EXPLAINED)
                ]
                again = gradio.Button("Begin anew")
        state = [shown, kept, found, picked, look, wrong]
        asked = line.submit(answer, [line, kept, *controls], [*state, answered])
        if not talk.couplet:  # what got no answer stays there, and what was typed meanwhile
            asked.then(None, [line, answered], line, js="(now, done) => now === done ? '' : now")
        picked.input(pick, [picked, found, kept], [shown, kept, look])
        again.click(forget, None, state)
    return page


def _that_fit(settings, versions) -> Settings:
    """No longer answers than the export has room for."""
    signature = versions.get().signatures.get("generate")
    longest = signature.outputs["ids"].shape[2] if signature else None
    return settings._replace(max_length=min(settings.max_length, longest or settings.max_length))


def _gradio():
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    try:
        import gradio
    except ImportError as error:
        raise ImportError("The page needs gradio: pip install 'keras_attention[demo]'") from error
    return gradio
