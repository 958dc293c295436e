"""Texts that break tokenizers, and one tokenizer of each kind."""

import pytest

from keras_attention.text import Characters, Subwords, Words

CRUEL = [
    "",
    "a",
    " ",
    "  leading, double  and trailing  ",
    "\t tabs\t\tand \r\n lines \n\n",
    "\n",
    "\x00 nul \x00\x1f\x7f\x85",
    "\u2028 line \u2029 paragraph \u000b\u000c separators \u3000\u00a0\u200b",
    "\ufeffbyte order mark\ufeff",
    "❤️ 👩‍👩‍👧‍👦 👩🏽‍💻 🏴󠁧󠁢󠁳󠁣󠁴󠁿 🇩🇪🇨🇳 1️⃣ ♥",
    "，。！？；：“引”‘号’（括）《书》【方】、……——～￥",
    "風急天高猿嘯哀，渚清沙白鳥飛回。",
    "𠀀𪚥𱍊 龘靐齉 葛󠄀 々〇",
    "ひらがな、カタカナー ｶﾀｶﾅﾞ ㄅㄆㄇ",
    "한국어 각 가",
    "e\u0301 é ß ẞ İ ı ſ ŉ ǆ Σας grüße",
    "שָׁלוֹם العَرَبِيَّة‎ می‌خواهم हिन्दी க்ஷ ไทย",
    "<s></s><unk><pad><0x41><0xE4> </s>",
    "\ufffd \ue000 \uffff \U0010ffff \u2585",
    'don\'t rock’n’roll e-mail 3.14 1,000 12:30 a@b.c "quoted" (x) [y] …',
    "long " * 2000,
]

PROSE = [
    "The quick brown fox jumps over the lazy dog.",
    "the dog, however, did not care (much)!",
    "你好，世界！今天天气很好。",
    "你吃了吗？我吃过了。",
] * 4


@pytest.fixture
def cruel():
    return CRUEL


@pytest.fixture(scope="session")
def characters():
    return Characters.train(CRUEL + PROSE)


@pytest.fixture(scope="session")
def words():
    return Words.train(CRUEL + PROSE)


@pytest.fixture(scope="session")
def subwords():
    pytest.importorskip("sentencepiece")
    pytest.importorskip("tensorflow_text")
    return Subwords.train(PROSE, vocab_size=400)  # knows none of the cruel texts


@pytest.fixture(params=["characters", "words", "subwords"])
def tokenizer(request):
    return request.getfixturevalue(request.param)
