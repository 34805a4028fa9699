"""The small parts beside the worker: its mailbox, its log and the dumps it leaves."""

from __future__ import annotations

from pathlib import Path

from diagnose.worker.death import parse_dump, user_frames
from diagnose.worker.log import CappedLog
from diagnose.worker.mailbox import Tail, append


def test_an_earlier_log_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_text("earlier\n")
    log = CappedLog(path)
    log.write(b"token=abc later\n")
    log.close(lambda text: text.replace("abc", "*"))
    assert path.read_text() == "earlier\ntoken=* later\n"


def test_mailbox_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "box.jsonl"
    tail = Tail(path)
    assert tail.read() == []
    append(path, {"a": 1})
    with path.open("ab") as file:
        file.write(b'{"b": ')
    assert tail.read() == [{"a": 1}]
    append(path, {"c": "é\ud800\n"})
    assert tail.read() == [{"c": "é\ud800\n"}]
    assert tail.read() == []


DUMP = """Timeout (0:00:01)!
Thread 0x00000000000000bb (most recent call first):
  File "/x/loader.py", line 5 in fetch

Thread 0x00000000000000aa [main] (most recent call first):
  File "/x/caf\\xe9.py", line 2 in inner
  File "/x/main.py", line 1 in <module>
"""


def test_the_thread_that_matters() -> None:
    main = [("/x/main.py", 1, "<module>"), ("/x/café.py", 2, "inner")]
    assert parse_dump(DUMP, 0xAA) == main
    assert parse_dump(DUMP) == main
    fatal = "Fatal Python error: Aborted\n\n" + DUMP.replace("Thread 0x00000000000000bb", "Current thread 0x0bb")
    assert parse_dump(fatal, 0xAA) == [("/x/loader.py", 5, "fetch")]
    assert parse_dump("nothing of the kind") == []
    assert user_frames(main)[-1].text == "in inner"
