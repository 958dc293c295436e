"""The check of the initial state of a search or a decoder."""

from keras_attention.backend.keras import in_xla
from keras_attention.backend.states import check_dtypes, check_state, count_rows


def check_initial_state(cell, state, rows=None, beam_width=None):
    """The state; an error if its structure, shapes or dtypes do not match the cell's.

    rows: N, a number or a tensor, or None. beam_width: K of a beam search, which N includes.
    """
    if hasattr(cell, "checked_state"):
        checked = cell.checked_state(state, rows, beam_width)
        check_dtypes(cell.cell, checked.cell_state, "cell_state")
    else:
        check_state(cell, state, rows=rows, beam_width=beam_width)
        check_dtypes(cell, state)
    if rows is None or in_xla() or not hasattr(cell, "state_size"):
        return state  # XLA compiles for one batch size, and has no assertions
    return count_rows(state, rows, "initial_state", beam_width)
