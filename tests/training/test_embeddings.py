import bz2
import gzip
import zipfile

import numpy as np
import pytest

from keras_attention.training import read_embeddings


@pytest.fixture
def file(tmp_path):
    def write(content, name="vectors.txt"):
        path = tmp_path / name
        content = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


def test_rows_come_in_the_order_of_the_words(file):
    path = file("the 1 2\ncat 3 4\ndog 5 6\n")
    matrix, found = read_embeddings(path, ["dog", "the"])
    assert matrix.dtype == np.float32 and found.all()
    assert matrix.tolist() == [[5, 6], [1, 2]]


@pytest.mark.parametrize("name", ["v.txt", "v.txt.gz"])
def test_a_header_gives_the_width(file, name):
    matrix, found = read_embeddings(file("2 3\nthe 1 2 3\ncat 4 5 6\n", name), ["cat", "2"])
    assert matrix[0].tolist() == [4, 5, 6]
    assert found.tolist() == [True, False]


def test_a_header_that_contradicts_the_width_is_refused(file):
    with pytest.raises(ValueError, match="expected width 300. Received: 3"):
        read_embeddings(file("2 3\nthe 1 2 3\n"), ["the"], width=300)


def test_words_may_hold_spaces_and_any_script(file):
    path = file("the 1 2\n. . . 3 4\nNew\u00a0York 5 6\n猫\u3000犬 7 8 \r\n")
    matrix, found = read_embeddings(path, [". . .", "New\u00a0York", "猫\u3000犬"])
    assert found.all()
    assert matrix.tolist() == [[3, 4], [5, 6], [7, 8]]


def test_of_a_repeated_line_the_first_counts(file):
    matrix, _ = read_embeddings(file("a 1\na 2\nb 3\n"), ["a", "b"])
    assert matrix.tolist() == [[1], [3]]


def test_a_word_wanted_twice_is_found_twice(file):
    matrix, found = read_embeddings(file("a 1 2\n"), ["a", "x", "a", "x"])
    assert found.tolist() == [True, False, True, False]
    assert matrix[0].tolist() == matrix[2].tolist() and matrix[1].tolist() == matrix[3].tolist()


def test_missing_words_have_the_scale_of_the_found_ones(file):
    values = np.random.default_rng(0).normal(0, 0.3, [50, 20])
    lines = [f"w{i} " + " ".join(map(str, row)) for i, row in enumerate(values)]
    words = [f"w{i}" for i in range(50)] + [f"missing{i}" for i in range(200)]
    path = file("\n".join(lines))
    matrix, found = read_embeddings(path, words)
    assert found.sum() == 50
    np.testing.assert_allclose(matrix[50:].std(), matrix[:50].std(), rtol=0.05)
    np.testing.assert_array_equal(matrix, read_embeddings(path, words)[0])
    assert (matrix[50:] != read_embeddings(path, words, seed=1)[0][50:]).any()


def test_when_no_word_is_found_the_values_are_still_finite(file):
    matrix, found = read_embeddings(file("a 1 2\n"), ["x", "y"])
    assert not found.any() and np.isfinite(matrix).all() and matrix.std() > 0


def test_no_words_give_no_rows(file):
    matrix, found = read_embeddings(file("a 1 2\n"), [])
    assert matrix.shape == (0, 2) and found.shape == (0,)


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("cat 1 2", "line 3: expected a word and 3 numbers. Received: 3 fields"),
        ("cat 1 2 3 4", "line 3: expected a word and 3 numbers. Received: 5 fields"),
        ("", "line 3: expected a word and 3 numbers"),
        ("cat 1 two 3", "line 3: expected numbers"),
        ("cat 1 nan 3", "line 3: expected finite numbers"),
        (b"c\xe4t 1 2 3", "line 3: expected UTF-8"),
    ],
)
def test_a_bad_line_is_named(file, line, complaint):
    line = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(ValueError, match=complaint) as error:
        read_embeddings(file(b"2 3\nthe 1 2 3\n" + line + b"\n"), ["cat"])
    assert "vectors.txt" in str(error.value)


def test_an_empty_or_missing_or_damaged_file_is_named(file, tmp_path):
    with pytest.raises(ValueError, match="vectors.txt is empty"):
        read_embeddings(file(""), ["a"])
    with pytest.raises(ValueError, match="nowhere.txt"):
        read_embeddings(tmp_path / "nowhere.txt", ["a"])
    path = file("a 1 2\n" * 1000, "cut.txt.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="cut.txt.gz"):
        read_embeddings(path, ["b"])
    (tmp_path / "plain.gz").write_bytes(b"a 1 2\n")
    with pytest.raises(ValueError, match="plain.gz"):
        read_embeddings(tmp_path / "plain.gz", ["a"])


def test_words_may_come_from_a_generator_or_as_bytes(file):
    path = file("the 1 2\n猫 3 4\n")
    for words in (
        (word for word in ["猫", "the"]),
        ["猫".encode(), b"the"],
        np.array(["猫", "the"]),
    ):
        matrix, found = read_embeddings(path, words)
        assert found.all() and matrix.tolist() == [[3, 4], [1, 2]]
    for words in ("the", b"the", [1]):
        with pytest.raises(ValueError, match="words must be"):
            read_embeddings(path, words)


@pytest.mark.parametrize("content", ["\ufeffthe 1 2\n", "\ufeff1 2\nthe 1 2\n"])
def test_a_byte_order_mark_belongs_to_no_word(file, content):
    matrix, found = read_embeddings(file(content), ["the"])
    assert found.all() and matrix.tolist() == [[1, 2]]


@pytest.mark.parametrize("promised, lines", [(400_000, 1), (1, 2), (3, 0)])
def test_a_header_that_promises_another_number_of_lines_is_refused(file, promised, lines):
    path = file(f"{promised} 2\n" + "the 1 2\n" * lines)
    with pytest.raises(ValueError, match=f"promises {promised} vectors. Received: {lines}."):
        read_embeddings(path, ["the", "missing"])


def test_the_content_decides_how_a_file_is_decompressed(file, tmp_path):
    for content in (bz2.compress(b"the 1 2\n"), gzip.compress(b"the 1 2\n"), b"the 1 2\n"):
        assert read_embeddings(file(content), ["the"])[0].tolist() == [[1, 2]]
    path = tmp_path / "glove.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("glove.txt", "the 1 2\n")
    with pytest.raises(ValueError, match="plain or compressed by gzip or bzip2. Received: a zip"):
        read_embeddings(path, ["the"])


@pytest.mark.parametrize("vector", ["1", "2 2 2"])
def test_missing_words_vary_where_the_found_ones_do_not(file, vector):
    matrix, _ = read_embeddings(file(f"the {vector}\n"), ["the", *map(str, range(200))])
    scale = (len(vector.split())) ** -0.5
    np.testing.assert_allclose(matrix[1:].std(), scale, rtol=0.15)
