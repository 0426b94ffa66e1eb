"""Writing an export: a file as a whole or not at all, and into what is no regular file."""

import errno
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from todo.users import files

PIECES = [b"one\n", b"two\n"]
TEXT = b"one\ntwo\n"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def open_umask():
    """Let the umask forbid nothing."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_new_file_can_be_read_by_its_owner_alone(tmp_path):
    files.write(str(tmp_path / "x"), PIECES)
    assert ((tmp_path / "x").read_bytes(), mode(tmp_path / "x")) == (TEXT, 0o600)


@pytest.mark.parametrize("before", [0o600, 0o640, 0o644, 0o666, 0o755, 0o200])
def test_file_that_is_replaced_keeps_its_mode(tmp_path, before):
    file = tmp_path / "x"
    file.write_bytes(b"old")
    file.chmod(before)
    files.write(str(file), PIECES)
    assert mode(file) == before
    file.chmod(0o600)
    assert file.read_bytes() == TEXT


def test_file_of_somebody_else_keeps_its_owner_or_becomes_private(tmp_path, monkeypatch):
    file, seen = tmp_path / "x", []
    file.write_bytes(b"old")
    file.chmod(0o664)
    owner = file.stat()
    monkeypatch.setattr(os, "fchown", lambda _descriptor, *ids: seen.append(ids))
    files.write(str(file), PIECES)
    assert (mode(file), seen) == (0o664, [(owner.st_uid, owner.st_gid)])

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    files.write(str(file), PIECES)
    assert (mode(file), file.read_bytes()) == (0o600, TEXT)


def test_file_that_may_not_be_written_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError):
        files.write(str(tmp_path / "x"), PIECES)
    assert (tmp_path / "x").read_bytes() == b"old"


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    others = ["x.part", ".x.part", "x.tmp", "x~", ".todo-export-"]
    for name in others:
        (tmp_path / name).write_bytes(b"of somebody else")
    files.write(str(tmp_path / "x"), PIECES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "x"])
    assert {(tmp_path / name).read_bytes() for name in others} == {b"of somebody else"}


def test_name_may_be_as_long_as_a_name_can_be(tmp_path):
    files.write(str(tmp_path / ("x" * 255)), PIECES)
    assert (tmp_path / ("x" * 255)).read_bytes() == TEXT


def test_failure_between_two_pieces_leaves_all_as_it_was(tmp_path):
    def broken():
        yield b"one\n"
        raise KeyboardInterrupt

    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        files.write(str(tmp_path / "x"), broken())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("links", [["x"], ["other", "x"], ["../folder/x"]], ids=str)
def test_link_stays_and_its_file_is_replaced(tmp_path, exists, links):
    folder = tmp_path / "folder"
    folder.mkdir()
    if exists:
        (folder / "x").write_bytes(b"old")
        (folder / "x").chmod(0o640)
    (folder / "link").symlink_to(links[0])
    if len(links) > 1:
        (folder / links[0]).symlink_to(links[1])
    files.write(str(folder / "link"), PIECES)
    assert (folder / "link").is_symlink()
    assert not (folder / "x").is_symlink()
    assert ((folder / "x").read_bytes(), mode(folder / "x")) == (TEXT, 0o640 if exists else 0o600)


def test_link_into_another_folder_leaves_nothing_beside_the_link(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "b" / "x")
    files.write(str(tmp_path / "a" / "link"), PIECES)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["link"]
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["x"]


def test_named_pipe_is_written_into(tmp_path):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    files.write(str(tmp_path / "link"), PIECES)
    reader.join()
    assert received == [TEXT]
    assert pipe.is_fifo()


def test_device_is_written_into():
    files.write(os.devnull, PIECES)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_device_that_is_full_says_so():
    with pytest.raises(OSError, match="No space left"):
        files.write("/dev/full", PIECES)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_socket_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
            files.write("socket", PIECES)
    assert (tmp_path / "socket").is_socket()


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
def test_open_file_is_written_into_where_it_is(tmp_path, folder):
    with (tmp_path / "log").open("ab") as appended:
        appended.write(b"before\n")
        appended.flush()
        (tmp_path / "link").symlink_to(f"{folder}/{appended.fileno()}")
        files.write(str(tmp_path / "link"), PIECES)
        files.write(f"{folder}/{appended.fileno()}", PIECES)
        appended.write(b"after\n")
    assert (tmp_path / "log").read_bytes() == b"before\n" + 2 * TEXT + b"after\n"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        pytest.param("", errno.ENOENT, id="empty"),
        pytest.param("none/x", errno.ENOENT, id="in no folder"),
        pytest.param("none/", errno.ENOENT, id="a folder that is none"),
        pytest.param("file/x", errno.ENOTDIR, id="below a file"),
        pytest.param("file/", errno.ENOTDIR, id="a file as a folder"),
        pytest.param("loop", errno.ELOOP, id="links in a circle"),
        pytest.param("x" * 256, errno.ENAMETOOLONG, id="a name too long"),
        pytest.param(".", errno.EISDIR, id="a folder"),
        pytest.param("/dev/fd/999", errno.EBADF, id="not an open file"),
    ],
)
def test_path_that_cannot_be_written_is_an_error_and_changes_nothing(tmp_path, monkeypatch, path, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match=os.strerror(error)):
        files.write(path, PIECES)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_bytes() == b"old"
