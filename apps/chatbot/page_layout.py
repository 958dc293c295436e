"""The layout and style of the page."""

from typing import Any, NamedTuple

from keras_attention.export import Settings

EXPLAINED = Settings(
    length_penalty="0 prefers short answers.",
    coverage_penalty="What it costs to leave a part of the line unread.",
    temperature="Below 1 the likely becomes likelier, above 1 all more alike.",
    top_k="Only the k likeliest tokens; 0: all.",
    top_p="Only the likeliest tokens of this probability together; 1: all.",
    max_length="Tokens of an answer, its end counted.",
    seed="From 0 on: draws, the same for the same seed. Below: the exported search.",
)
TITLE = {False: "Chat", True: "Couplets"}  # whether it is for couplets
_THEN = "Choose another of its replies in the list, or change its search with the numbers."
HINT = {
    False: f"Type a line and press Enter: the model replies. {_THEN}",
    True: f"Type a couplet's first line and press Enter: the model writes the second. {_THEN}",
}
CSS = """
.chat p {width: fit-content; max-width: 85%; padding: 0.4em 0.8em; margin: 0.5em;
  border: 1px solid var(--border-color-primary); border-radius: 0.5em; white-space: pre-wrap;
  overflow-wrap: anywhere}
.chat .line {margin-left: auto; background: var(--background-fill-secondary)}
.couplets p {font-size: 1.8em; letter-spacing: 0.3em; margin: 0.3em}
.problem p {padding: 0.5em; color: var(--error-text-color);
  background: var(--error-background-fill); overflow-wrap: anywhere}
.replies .wrap {flex-direction: column}
.map {overflow-x: auto}
.map th, .map td {border: 1px solid var(--border-color-primary); padding: 0.1em 0.3em;
  min-width: 1.7em; font-weight: normal; text-align: center}
"""


class Parts(NamedTuple):
    """The components that events read and write."""

    shown: Any  # the conversation
    line: Any  # the text field
    wrong: Any
    picked: Any  # which of the n best
    look: Any  # its heat map
    kept: Any  # the conversation, as a list
    found: Any  # the n best, as JSON
    answered: Any  # the line that was answered
    controls: list
    again: Any


def lay_out(gradio: Any, couplet: bool, settings: Settings) -> Parts:
    """Add the components to the current Blocks."""
    # A State would keep a connection open, and delay the shutdown of the server.
    kept, found = gradio.JSON([], visible=False), gradio.JSON(visible=False)
    answered = gradio.Textbox(visible=False)
    gradio.HTML(f"<h1>{TITLE[couplet]}</h1><p>{HINT[couplet]}</p>", elem_classes="hint")
    with gradio.Row():
        with gradio.Column(scale=3):
            shown = gradio.HTML(
                elem_classes="couplets" if couplet else "chat",
                min_height=120,
                max_height=400,
                autoscroll=True,
            )
            line = gradio.Textbox(
                label="First line" if couplet else "You say",
                placeholder="Type a line and press Enter",
                max_lines=1,
                submit_btn=True,
            )
            wrong = gradio.HTML(elem_classes="problem")
            picked = gradio.Radio(
                [], label="Replies and their scores, the answer first", elem_classes="replies"
            )
            look = gradio.HTML(elem_id="look")
        with gradio.Column(scale=1, min_width=220):
            controls = [
                gradio.Number(
                    value, label=name, info=info, step=0.1 if isinstance(value, float) else 1
                )
                for name, value, info in zip(Settings._fields, settings, EXPLAINED)
            ]
            again = gradio.Button("New conversation")
    return Parts(shown, line, wrong, picked, look, kept, found, answered, controls, again)
