"""What nncf prints while it works, and what others print meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from rerank_plugins.export.quantization import _redirect_output


@pytest.fixture
def other_thread() -> Iterator[threading.Event]:
    """Set the event, and a thread that was there before prints."""
    asked, printed = threading.Event(), threading.Event()

    def work() -> None:
        asked.wait(10)
        print("from another thread")  # noqa: T201 - printing is the subject
        printed.set()

    thread = threading.Thread(target=work)
    thread.start()

    class Speaks(threading.Event):
        def set(self) -> None:
            asked.set()
            printed.wait(10)

    yield Speaks()
    asked.set()
    thread.join()


@pytest.mark.parametrize("progress", [False, True])
def test_only_its_own_output_is_taken_aside(
    other_thread: threading.Event, capsys: pytest.CaptureFixture[str], *, progress: bool
) -> None:
    """Bars go to standard error or nowhere; another thread's words stay on standard output."""
    with _redirect_output(progress=progress):
        print("a bar")  # noqa: T201 - printing is the subject
        other_thread.set()
        late = threading.Thread(target=print, args=("a bar's own thread",))
        late.start()
        late.join()
    captured = capsys.readouterr()
    assert captured.out == "from another thread\n"
    assert captured.err == ("a bar\na bar's own thread\n" if progress else "")
