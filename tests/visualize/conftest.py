import warnings

import pytest


@pytest.fixture
def chinese_font():
    """Skips where no installed font can write Chinese."""
    from keras_attention.visualize.fonts import font_families

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return font_families(["春风得意马蹄疾秋水多情雁字长对联"])[-1]
        except UserWarning as no_font:
            pytest.skip(str(no_font))
