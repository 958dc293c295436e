import gzip
import os
import threading
import tracemalloc

import pytest

from keras_attention.data import Limits, PairStream, lines, read_lines, read_pair_file, read_pairs


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
    assert read_pairs(file("x.tsv", f"{source}\t猫ß ")) == [(source, "猫ß ")]


def test_blank_lines_are_skipped(file):
    assert read_pairs(file("x.tsv", "\n \na\tb\n\n\t\nc\td\n\n")) == [("a", "b"), ("c", "d")]
    source, target = file("x.en", "a\n\nc\n"), file("x.de", "b\n\nd\n")
    assert read_pairs(f"{source},{target}") == [("a", "b"), ("c", "d")]


def test_pairs_without_a_source_or_a_target_are_skipped_and_counted(file):
    found = read_pair_file(file("x.tsv", "\tb\na\t\n\nc\td\te\n \tb\n"))
    assert found.pairs == [("c", "d")] and found.lines == 5 and found.ignored == 1
    assert found.skipped == {"no source": (2, 1), "no target": (1, 2), "blank": (1, 3)}
    assert "2 skipped: no source (first: line 1)" in found.summary()
    source, target = file("x.en", "\na\nc\n"), file("x.de", "b\n\nd\n")
    assert read_pairs(f"{source},{target}") == [("c", "d")]
    with pytest.raises(ValueError, match="holds none.*2 skipped: no target"):
        read_pairs(file("none.tsv", "a\t\nb\t \n"))


def test_marks_without_width_are_no_text_and_joined_files_have_no_marks(file):
    content = "\ufeffa\tb\n\ufeffc\td\ne\t\ufeff\nf\t\u200b \n\x1a"
    found = read_pair_file(file("x.tsv", content))
    assert found.pairs == [("a", "b"), ("c", "d")] and found.skipped == {
        "no target": (2, 3),
        "blank": (1, 5),
    }


def test_an_empty_turn_of_a_conversation_is_skipped(file):
    path = file("x.tsv", "a\tb\t\tc\td\n")
    assert read_pairs(path, 1) == [("a", "b"), ("\u241ec", "d")]


def test_carriage_returns_are_ends_of_lines_or_no_part_of_a_text(file):
    expected = [("hello", "hallo"), ("good day", "guten Tag")]
    for content in (
        "hello\r\thallo\r\r\ngood\rday\tguten Tag\r\n",  # stray ones
        "hello\thallo\rgood day\tguten Tag\r",  # nothing else ends a line
        "hello\thallo\r\rgood day\tguten Tag",
        "hello\thallo\rgood day\tguten Tag\r\n",  # an LF was added to CRs
    ):
        assert read_pairs(file("x.tsv", content)) == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_a_byte_order_mark_gives_the_encoding(file, encoding):
    mark = "\ufeff" * (encoding == "utf-16-be")
    path = file("x.tsv.gz", f"{mark}你好\t您好\r\na\t\U0001f600\n".encode(encoding))
    assert read_pairs(path) == [("你好", "您好"), ("a", "😀")]


@pytest.mark.parametrize(
    "content, pairs",
    [
        ('"He said ""hi"""\tfine\nb\tc\n', [('He said "hi"', "fine"), ("b", "c")]),
        ('"a\tb"\tc\nd\te\n', [("a b", "c"), ("d", "e")]),
        ('a\t"one\r\ntwo"\r\nb\tc\r\n', [("a", "one two"), ("b", "c")]),
        ('"all"\t"quoted"\n"b"\t"c"\n', [("all", "quoted"), ("b", "c")]),
        ('"with, comma"\tb\nc\td\n', [("with, comma", "b"), ("c", "d")]),
    ],
)
def test_cells_are_unquoted_where_a_file_quotes_as_spreadsheets_do(file, content, pairs):
    found = read_pair_file(file("x.tsv", content))
    assert found.pairs == pairs and "quoted cells" in found.form


@pytest.mark.parametrize(
    "source, target",
    [
        ('"Hello," she said.', "Why?"),
        ('"Hello."', "Hi."),
        ('"Well', 'and then"'),
        ('a 5" nail', 'a ""nail""'),
        ('"never closed', "b"),
        ('"Yes, sir"', "no, sir"),
    ],
)
def test_quotation_marks_of_a_text_are_kept(file, source, target):
    assert read_pairs(file("x.tsv", f"{source}\t{target}\nc\td\n")) == [
        (source, target),
        ("c", "d"),
    ]


@pytest.mark.parametrize(
    "content",
    ['"We go\there\nand\tthere."\tthen\n', 'said\t"We go\nhere\tand there"\n'],
)
def test_a_speech_over_several_rows_is_no_quoted_cell(file, content):
    rows = [tuple(line.split("\t")[:2]) for line in content.splitlines()]
    assert read_pairs(file("x.tsv", content)) == rows


def test_texts_that_are_not_the_first_columns_of_a_tsv_are_refused(file):
    with pytest.raises(ValueError, match="line 1: expected the texts in the first two columns"):
        read_pairs(file("x.tsv", "\tQuestion\tAnswer\n0\thi\thello\n"))


@pytest.mark.parametrize(
    "content",
    ['"a, b","c ""d"""\n', '"a, b";"c ""d"""\r\n', 'question,answer\n"a, b","c ""d"""\n'],
)
def test_csv_has_commas_or_semicolons(file, content):
    assert read_pairs(file("x.csv", content)) == [("a, b", 'c "d"')]


@pytest.mark.parametrize(
    "content, pairs",
    [
        (
            "Hello, Tom;Hi, Ann\nBye, Tom;Bye, Ann\n",
            [("Hello, Tom", "Hi, Ann"), ("Bye, Tom", "Bye, Ann")],
        ),
        ("Hello, Tom;Hi\n", [("Hello, Tom", "Hi")]),
        ("1;Hello, Tom;Hi\n", [("1", "Hello, Tom")]),
        ("a;b,c;d\ne;f,g;h\n", [("a;b", "c;d"), ("e;f", "g;h")]),
        ("Well; yes, no; well\n", [("Well; yes", " no; well")]),
        ("sep=;\nquestion;answer\na,b;c,d\n", [("a,b", "c,d")]),
        ('a, "b, c"\n"d" , "e ""f"""\n', [("a", "b, c"), ("d", 'e "f"')]),
        ('a, "b" c\n', [("a", ' "b" c')]),
    ],
)
def test_a_csv_is_separated_as_its_first_rows_are(file, content, pairs):
    assert read_pairs(file("x.csv", content)) == pairs


@pytest.mark.parametrize("turns", [0, 1])
def test_column_names_select_the_columns(file, turns):
    found = read_pair_file(file("x.csv", "id,Answer,Question\n1,b,a\n2,d,c\n"), turns)
    assert found.pairs == [("a", "b"), ("c", "d")]
    assert "columns 'Question' and 'Answer'" in found.summary()
    assert found.ignored == (0 if turns else 2)


@pytest.mark.parametrize(
    "content, words",
    [
        ("a,b\nc,d,e\n", "line 2: expected 2 columns.*Received: 3"),
        ('a,b\nc,"d\n', "line 2: a quoted cell does not end"),
        ('a,b\nc,"d"e\n', "line 2: a text stands behind"),
        ("a\n", "line 1: expected two columns"),
    ],
)
def test_csv_that_is_surely_read_wrong_is_refused(file, content, words):
    with pytest.raises(ValueError, match=words):
        read_pairs(file("x.csv", content))


@pytest.mark.parametrize(
    "limits, words",
    [
        (Limits(max_line_bytes=9), "line 2: more bytes than max_line_bytes=9"),
        (Limits(max_data_bytes=19), "more bytes than max_data_bytes=19"),
        (Limits(max_data_lines=2), "more lines than max_data_lines=2"),
    ],
)
def test_more_text_than_the_limits_allow_is_refused(file, limits, words):
    for name in ("x.tsv", "x.tsv.gz"):
        path = file(name, "a\tb\nlonger\tline\nc\td\n")
        assert len(read_pairs(path)) == 3
        with pytest.raises(ValueError, match=rf"{name}.*{words}.*raise"):
            read_pairs(path, limits=limits)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
def test_a_file_without_end_is_refused():
    with pytest.raises(ValueError, match="/dev/zero.*max_line_bytes=1,000,000"):
        read_pairs("/dev/zero", limits=Limits(max_line_bytes=1_000_000))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_with_a_writer_is_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(lines, "WAIT", 0.1)
    with pytest.raises(ValueError, match="pipe.*nothing was written"):
        read_pairs(tmp_path / "pipe")
    monkeypatch.setattr(lines, "WAIT", 10)
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=["a\tb\n"])
    writer.start()
    assert read_pairs(tmp_path / "pipe") == [("a", "b")]
    writer.join()


def test_a_line_is_given_as_soon_as_it_is_complete():
    class Terminal:
        def __init__(self):
            self.typed = [b"\xef\xbb", b"\xbfa\r\nb", b"c\n", b"d"]

        def read1(self, size):
            return self.typed.pop(0) if self.typed else b""

    terminal = Terminal()
    found = read_lines(terminal)
    assert next(found) == b"a" and len(terminal.typed) == 2
    assert list(found) == [b"bc", b"d"]


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


# -- read as a stream

FORMS = {
    "x.tsv": "a\tb\n\nc\t\nd\te\tf\n",
    "x.tsv.gz": 'a\t"b\nc\td"\n',
    "quoted.tsv": '"He said ""hi"""\tfine\nb\t"c\nd"\n',
    "x.csv": 'question,answer\n"a, b","c ""d"""\n',
    "hint.csv": "sep=;\nquestion;answer\na,b;c,d\n",
    "columns.csv": "id,Answer,Question\n1,b,a\n2,d,c\n",
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("turns", [0, 1])
def test_a_stream_gives_what_a_list_has_each_time(file, name, turns):
    path = file(name, FORMS[name])
    expected = read_pair_file(path, turns)
    stream = PairStream(path, turns)
    for _ in range(2):
        assert list(stream) == expected.pairs and stream.count == len(expected.pairs)
        assert stream.summary() == expected.summary()


def test_a_stream_of_two_files_and_of_a_pipe(file, tmp_path):
    source, target = file("a.en", "1\n2\n"), file("a.de", "3\n4\n")
    assert list(PairStream(f"{source},{target}")) == [("1", "3"), ("2", "4")]
    file("a.de", "3\n")
    with pytest.raises(ValueError, match="2 and 1. Line 2 has no partner"):
        PairStream(f"{source},{target}")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="pipe. Write it into a file first, or pass keep"):
            PairStream(tmp_path / "pipe")


def test_the_errors_of_a_stream_are_those_of_a_list(file):
    for content in (b"a\tb\nc\n", b"a\tb\n\xff\tc\n", b"\n", b"\ta\tb\n"):
        path = file("x.tsv", content)
        with pytest.raises(ValueError) as expected:
            read_pairs(path)
        with pytest.raises(ValueError) as found:
            list(PairStream(path))
        assert str(found.value) == str(expected.value)
    with pytest.raises(ValueError, match="line 1: more bytes than max_line_bytes=2"):
        PairStream(path, limits=Limits(max_line_bytes=2))


def test_a_stream_does_not_keep_what_it_has_read(file):
    path = file("x.tsv", "".join(f"{i} {'x' * 60}\t{i}\n" for i in range(20_000)))
    stream = PairStream(path)
    tracemalloc.start()
    try:
        for _ in stream:
            pass
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 700_000 < os.path.getsize(path)
