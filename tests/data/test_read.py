import gzip

import pytest

from keras_attention.data import read_pairs


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        content = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
        return path

    return write


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.tsv.gz"])
def test_a_tsv_gives_its_first_two_columns(file, name):
    path = file(name, "hello\thallo\nthanks\tdanke\tnote\t\n")
    assert read_pairs(path) == [("hello", "hallo"), ("thanks", "danke")]
    assert read_pairs(str(path)) == read_pairs(path)


@pytest.mark.parametrize("names", [("a.en", "a.de"), ("a.en.gz", "a.de"), ("a.en.gz", "a.de.gz")])
def test_two_files_are_read_side_by_side(file, names):
    source = file(names[0], "hello\ngood day\n")
    target = file(names[1], "hallo\nguten Tag")
    assert read_pairs(f"{source},{target}") == [("hello", "hallo"), ("good day", "guten Tag")]


def test_byte_order_marks_and_windows_line_ends_disappear(file):
    path = file("w.tsv", "\ufeffhello\thallo\r\nthanks\tdanke\r\n")
    assert read_pairs(path) == [("hello", "hallo"), ("thanks", "danke")]
    source, target = file("w.en", "\ufeffhello\r\n"), file("w.de", "\ufeffhallo\r\n")
    assert read_pairs(f"{source},{target}") == [("hello", "hallo")]


def test_text_is_kept_as_it_is(file):
    source = " a\u2028b\x0cc\x85d\u3000 😀\ufeff"
    assert read_pairs(file("x.tsv", f"{source}\t猫\rß ")) == [(source, "猫\rß ")]


def test_blank_lines_are_skipped(file):
    assert read_pairs(file("x.tsv", "\n \na\tb\n\n\t\nc\td\n\n")) == [("a", "b"), ("c", "d")]
    source, target = file("x.en", "a\n\nc\n"), file("x.de", "b\n\nd\n")
    assert read_pairs(f"{source},{target}") == [("a", "b"), ("c", "d")]


def test_an_empty_side_is_kept(file):
    assert read_pairs(file("x.tsv", "\tb\na\t\n")) == [("", "b"), ("a", "")]
    source, target = file("x.en", "\na\n"), file("x.de", "b\n\n")
    assert read_pairs(f"{source},{target}") == [("", "b"), ("a", "")]


def test_a_file_with_a_comma_in_its_name_wins_over_splitting(file):
    path = file("a.en,a.de", "one\ttwo\n")
    file("a.en", "x\n"), file("a.de", "y\n")
    assert read_pairs(path) == [("one", "two")]


def test_two_files_with_commas_in_their_names_are_found(file):
    source, target = file("a,b.en", "one\n"), file("c,d.de", "two\n")
    assert read_pairs(f"{source},{target}") == [("one", "two")]


def test_a_line_with_one_column_is_named(file):
    with pytest.raises(ValueError, match=r"x\.tsv, line 3: .*'just this'.*tab"):
        read_pairs(file("x.tsv", "a\tb\n\njust this\n"))


def test_files_of_different_lengths_are_named_with_their_counts(file):
    source, target = file("a.en", "1\n2\n3\n"), file("a.de", "1\n2")
    with pytest.raises(ValueError, match=r"a\.en and .*a\.de .*3 and 2\. Line 3 has no partner"):
        read_pairs(f"{source},{target}")
    with pytest.raises(ValueError, match="0 and 3"):
        read_pairs(f"{file('empty', '')},{source}")


def test_a_missing_file_is_named(file, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.tsv.*does not exist"):
        read_pairs(tmp_path / "nowhere.tsv")
    with pytest.raises(ValueError, match=r"/gone\.de'.*does not exist"):
        read_pairs(f"{file('a.en', 'x')},{tmp_path / 'gone.de'}")
    with pytest.raises(ValueError, match="does not exist"):
        read_pairs("")


def test_a_directory_is_refused(file, tmp_path):
    with pytest.raises(ValueError, match="a directory"):
        read_pairs(tmp_path)
    with pytest.raises(ValueError, match="a directory"):
        read_pairs(f"{file('a.en', 'x')},{tmp_path}")


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "\t\n"])
def test_a_file_without_pairs_is_refused(file, content):
    with pytest.raises(ValueError, match=r"at least one pair.*none\.tsv"):
        read_pairs(file("none.tsv", content))


@pytest.mark.parametrize(
    "content, line",
    [
        ("a\tb\ngrün\tverde\n".encode("latin-1"), 2),
        ("a\tb\n".encode("utf-16"), 1),
        ("a\tb\n".encode("utf-16-le"), 1),
        (b"a\tb\na\tb\0c\n", 2),
        (b"a\tb\n\xed\xa0\x80\tsurrogate\n", 2),
        (gzip.compress(b"a\tb\n", mtime=0), 1),
    ],
)
def test_what_is_not_utf8_text_is_named_with_its_line(file, content, line):
    with pytest.raises(ValueError, match=rf"bad\.tsv, line {line}: expected UTF-8 text") as error:
        read_pairs(file("bad.tsv", content))
    assert "\n" not in str(error.value)


def test_a_damaged_gzip_file_is_named(file, tmp_path):
    path = file("cut.tsv.gz", "".join(f"{i}\t{i * i}\n" for i in range(5000)))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"Cannot read .*cut\.tsv\.gz"):
        read_pairs(path)
    (tmp_path / "plain.tsv.gz").write_bytes(b"a\tb\n")
    with pytest.raises(ValueError, match=r"Cannot read .*plain\.tsv\.gz"):
        read_pairs(tmp_path / "plain.tsv.gz")


def test_a_very_long_line_is_read_whole_and_shown_short(file):
    text = "long " * 200_000
    assert read_pairs(file("x.tsv", f"{text}\tb\n")) == [(text, "b")]
    with pytest.raises(ValueError) as error:
        read_pairs(file("x.tsv", text))
    assert len(str(error.value)) < 400
