import os
import stat
import threading

import pytest

from querywatch.report.saving import save_report


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def names(directory):
    return [path.name for path in directory.iterdir()]


def test_only_the_owner_can_read_a_new_file(tmp_path):
    save_report(tmp_path / "report.html", "Grüße")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "Grüße"
    assert mode(tmp_path / "report.html") == 0o600


def test_replaces_a_file_that_others_could_read(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    path.chmod(0o644)
    save_report(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)
    assert names(tmp_path) == ["report.html"]


def test_a_reader_keeps_the_old_file_whole(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with path.open() as reader:
        save_report(path, "new")
        assert reader.read() == "old"


def test_follows_a_link(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    save_report(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_writes_into_a_pipe_and_does_not_replace_it(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=save_report, args=(pipe, "through"))
    writer.start()
    assert pipe.read_text() == "through"
    writer.join(10)
    assert pipe.is_fifo()


def test_text_that_is_no_utf_8_is_written_out(tmp_path):
    save_report(tmp_path / "report", "lone \udcff")
    assert (tmp_path / "report").read_text() == "lone \\udcff"


@pytest.mark.parametrize("path", ["missing/report.html", "."], ids=["no-directory", "a-directory"])
def test_an_error_leaves_nothing_behind(tmp_path, path):
    target = tmp_path / path
    before = names(tmp_path)
    with pytest.raises(OSError, match="directory"):
        save_report(target, "text")
    assert names(tmp_path) == before
