"""Stand-ins for what a `FileSystem` needs of its neighbours: a small facility in memory.

A datafile's name decides how reading it goes, so that a test in another process can choose::

    blocked*       waits until the file ``release`` appears in the control folder
    archived*      is on tape: the recall waits until ``restored`` appears in the control folder
    busy*          is locked for the first two attempts
    locked*        is locked for ever
    denied* damaged* unreachable* timeout* gone* failed* bug*
                   fail with the error of that kind
    unknown*       has a size that the catalogue does not know
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field, replace
from dataclasses import replace as replace_node
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from icatfs.catalogue.node import Glimpse, Node, NodeKey
from icatfs.content.pages import Pages
from icatfs.errors import (
    AccessDenied,
    Busy,
    Damaged,
    DataArchived,
    Exists,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    NotEmpty,
    NotFound,
    NotOnline,
    NotPermitted,
    NotSupported,
    RecallFailed,
    RecallTimeout,
)
from icatfs.fs.filesystem import FileSystem, FsOptions
from icatfs.fs.ports import Caller, CallerProbe, Notifier, Opener
from icatfs.icat.records import DatafileRow, DatasetRow, FacilityRow, InvestigationRow
from icatfs.recall.admission import FREE, Admission
from icatfs.recall.policy import Asker, Program
from icatfs.values import (
    ContentVersion,
    DatafileId,
    DatasetId,
    FacilityId,
    InvestigationId,
    Kind,
    WriteMode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from icatfs.fs.writingports import Fill, Watcher
    from icatfs.recall.units import UnitStatus

WHEN = datetime(2025, 5, 4, 3, 2, 1, tzinfo=UTC)
MTIME_NS = int(WHEN.timestamp()) * 1_000_000_000
VISIT = "/ESNF/INV/1"
DATASET = f"{VISIT}/data"

FAILURES: dict[str, type[IcatfsError]] = {
    "denied": AccessDenied,
    "damaged": Damaged,
    "unreachable": FacilityUnreachable,
    "timeout": FacilityTimeout,
    "gone": NotFound,
    "failed": RecallFailed,
}


def inside(path: str) -> NodeKey:
    """The folder that a path inside the dataset is in."""
    above = path.rpartition("/")[0]
    return NodeKey(Kind.FOLDER, 3, above) if above else NodeKey(Kind.DATASET, 3)


def folder_node(path: str) -> Node:
    """A folder inside the dataset."""
    key = NodeKey(Kind.FOLDER, 3, path)
    return Node(key, inside(path), path.rpartition("/")[2], MTIME_NS, dataset=DatasetId(3))


class FakeListing:
    """A listing of nodes; those in ``late``, or an error there, come when somebody waits."""

    def __init__(self, nodes: Sequence[Node], late: Sequence[Node | IcatfsError] = ()) -> None:
        self._nodes = list(nodes)
        self._names = {node.name: node for node in nodes}
        self._late = list(late)

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, index: int, /) -> Node:
        return self._nodes[index]

    def find(self, name: str) -> Node | None:
        return self._names.get(name)

    @property
    def identity(self) -> object:
        return self

    def glimpses(self, start: int, stop: int) -> Sequence[Glimpse | Node]:
        return [
            Glimpse(node.name, DatafileId(node.key.id), node.size, node.mtime_ns)
            if node.kind is Kind.DATAFILE
            else node
            for node in self._nodes[start:stop]
        ]

    def position_of(self, datafile: int) -> int | None:
        keys = [node.key for node in self._nodes]
        key = NodeKey(Kind.DATAFILE, datafile)
        return keys.index(key) if key in keys else None

    def name(self, position: int) -> str:
        return self._nodes[position].name

    async def has_more(self, count: int) -> bool:
        while len(self) <= count and self._late:
            await trio.lowlevel.checkpoint()
            late = self._late.pop(0)
            if isinstance(late, IcatfsError):
                raise late
            self._nodes.append(late)
            self._names[late.name] = late
        return len(self) > count


@dataclass(frozen=True)
class FakeFacts:
    doi: str | None = "10.1/file"
    description: str | None = None
    location: str | None = "at/file"


class FakeCatalogue:
    """One facility, one visit, one dataset with the given files."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.contents: dict[DatafileId, bytes] = {}
        self.children: dict[NodeKey, dict[str, Node]] = {}
        self.nodes: dict[NodeKey, Node] = {}
        self.asked: Counter[str] = Counter()
        self.invalidated: list[NodeKey] = []
        self.late: list[Node | IcatfsError] = []
        self._ids = itertools.count(100)
        self.root = Node(NodeKey(Kind.ROOT, 0), None, "", 0)
        self.nodes[self.root.key] = self.root
        lab = FacilityRow(FacilityId(1), "ESNF", "Lab", WHEN)
        facility = self.add(
            Node(NodeKey(Kind.FACILITY, 1), self.root.key, "ESNF", MTIME_NS, entity=lab)
        )
        investigation = self.add(
            Node(NodeKey(Kind.INVESTIGATION, 1, "INV"), facility.key, "INV", MTIME_NS)
        )
        visit = InvestigationRow(
            InvestigationId(2), "INV", "1", "A title", "10.1/visit", WHEN, WHEN, WHEN, WHEN, None
        )
        self.visit = self.add(
            Node(NodeKey(Kind.VISIT, 2), investigation.key, "1", MTIME_NS, entity=visit)
        )
        row = DatasetRow(
            DatasetId(3), "data", False, WHEN, WHEN, WHEN, WHEN, "data/location", "10.1/dataset"
        )
        key = NodeKey(Kind.DATASET, 3)
        self.dataset = self.add(
            Node(key, self.visit.key, "data", MTIME_NS, entity=row, dataset=DatasetId(3))
        )
        for name, content in files.items():
            self.put(name, content)

    def add(self, node: Node) -> Node:
        """Show a node under its parent."""
        assert node.parent is not None
        self.nodes[node.key] = node
        self.children.setdefault(node.parent, {})[node.name] = node
        return node

    def put(self, name: str, content: bytes) -> Node:
        """Add a datafile to the dataset, and the folders its name needs."""
        folder, _, plain = name.rpartition("/")
        parts = folder.split("/") if folder else []
        for depth in range(1, len(parts) + 1):
            key = NodeKey(Kind.FOLDER, 3, "/".join(parts[:depth]))
            if key not in self.nodes:
                self.add(folder_node(key.name))
        datafile = DatafileId(next(self._ids))
        size = None if plain.startswith("unknown") else len(content)
        self.contents[datafile] = content
        row = DatafileRow(datafile, name, size, WHEN, None, WHEN, WHEN, "bef32c73", f"loc/{name}")
        return self.add(
            Node(
                NodeKey(Kind.DATAFILE, datafile),
                inside(name),
                plain,
                MTIME_NS,
                size=size or 0,
                entity=row,
                dataset=DatasetId(3),
            )
        )

    def change(self, node: Node, content: bytes) -> Node:
        """Replace the content of a datafile."""
        row = node.entity
        assert isinstance(row, DatafileRow)
        self.contents[row.id] = content
        new = DatafileRow(row.id, row.name, len(content), WHEN, None, WHEN, WHEN, "1", row.location)
        return self.add(replace(node, entity=new, size=len(content)))

    def remove(self, node: Node) -> None:
        """Forget an entry."""
        assert node.parent is not None
        del self.children[node.parent][node.name]
        del self.nodes[node.key]

    def at(self, path: str) -> Node:
        """The node at a path from the root."""
        node = self.root
        for name in path.strip("/").split("/"):
            node = self.children[node.key][name]
        return node

    async def listing(self, folder: Node) -> FakeListing:
        self.asked["listing"] += 1
        await trio.lowlevel.checkpoint()
        if folder.key not in self.nodes:
            raise NotFound(folder.name)
        return FakeListing(list(self.children.get(folder.key, {}).values()))

    async def arriving(self, folder: Node) -> FakeListing:
        """Without what is in ``late``, which comes later."""
        await self.listing(folder)
        entries = self.children.get(folder.key, {}).values()
        return FakeListing([node for node in entries if node not in self.late], self.late)

    async def lookup(self, folder: Node, name: str) -> Node:
        self.asked["lookup"] += 1
        await trio.lowlevel.checkpoint()
        try:
            return self.children.get(folder.key, {})[name]
        except KeyError:
            raise NotFound(f"no {name}") from None

    async def node(self, key: NodeKey) -> Node:
        self.asked["node"] += 1
        await trio.lowlevel.checkpoint()
        try:
            return self.nodes[key]
        except KeyError:
            raise NotFound(f"no {key}") from None

    def invalidate(self, key: NodeKey) -> None:
        self.invalidated.append(key)

    async def dataset_facts(self, dataset: DatasetId, /) -> FakeFacts | None:
        await trio.lowlevel.checkpoint()
        return FakeFacts(description="a dataset")

    async def datafile_facts(self, datafile: DatafileId, /) -> FakeFacts | None:
        self.asked["facts"] += 1
        return FakeFacts()


class FakeFile:
    """Cached content: nothing, or all of it."""

    def __init__(self, version: ContentVersion, name: str, content: bytes) -> None:
        self.version = version
        self.name = name
        self.content = content
        self.claims = len(content)
        self.present = False
        self.pins = 0
        self.withdrawals = 0
        self.pages = Pages(comparable=False)
        self.is_precious = False

    @property
    def size(self) -> int | None:
        return self.claims if self.present else self.version.size

    def missing(self, start: int, stop: int) -> tuple[int, int] | None:
        return None if self.present or start >= stop else (start, stop)

    def treasure(self) -> None:
        self.is_precious = True

    def pread(self, offset: int, size: int) -> bytes:
        return self.content[offset : offset + size]

    def close(self) -> None:
        self.pins -= 1


class FakeStore:
    """The cache files of a `FakeCatalogue`."""

    def __init__(self, catalogue: FakeCatalogue) -> None:
        self._catalogue = catalogue
        self.files: dict[ContentVersion, FakeFile] = {}

    def open(self, version: ContentVersion) -> FakeFile:
        if version not in self.files:
            node = self._catalogue.nodes[NodeKey(Kind.DATAFILE, version.datafile)]
            content = self._catalogue.contents[version.datafile]
            self.files[version] = FakeFile(version, node.name, content)
        file = self.files[version]
        file.pins += 1
        return file


class FakeTransfer:
    """Brings whole files, unless their name says something else."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self.attempts: Counter[str] = Counter()
        self.online: set[str] = set()

    async def ensure(self, file: FakeFile, start: int, stop: int) -> None:
        name = file.name
        self.attempts[name] += 1
        await trio.lowlevel.checkpoint()
        for prefix, error in FAILURES.items():
            if name.startswith(prefix):
                raise error(f"{name} is {prefix}")
        if name.startswith("bug"):
            raise ZeroDivisionError("a bug")
        if name.startswith("archived") and name not in self.online:
            raise DataArchived("on tape")
        if name.startswith("locked"):
            raise Busy("locked")
        if name.startswith("busy") and self.attempts[name] < 3:
            raise Busy("locked")
        if name.startswith("blocked"):
            await wait_for(self._control / "release")
        file.present = True


async def wait_for(path: Path) -> None:
    """Return when a file is there."""
    while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
        await trio.sleep(0.02)


class FakeRecall:
    """Restores when the control folder says so."""

    def __init__(self, control: Path, transfer: FakeTransfer, catalogue: FakeCatalogue) -> None:
        self._control = control
        self._transfer = transfer
        self._catalogue = catalogue
        self.patience: list[float | None] = []
        self.askers: list[Asker] = []
        self.refusal: str | None = None
        self.admission = FREE

    async def wait_online(
        self, dataset: DatasetId, datafile: DatafileId, *, patience_s: float | None
    ) -> None:
        self.patience.append(patience_s)
        name = self._catalogue.nodes[NodeKey(Kind.DATAFILE, datafile)].name
        if not name.startswith("archived"):
            return
        with trio.move_on_after(float("inf") if patience_s is None else patience_s) as scope:
            await wait_for(self._control / "restored")
        if scope.cancelled_caught:
            raise RecallTimeout("the restore takes longer")
        self._transfer.online.add(name)

    async def word_of(self, dataset: DatasetId, datafile: DatafileId | None = None) -> str:
        return "ARCHIVED"

    def unit_of(self, dataset: DatasetId, datafile: DatafileId | None = None) -> UnitStatus | None:
        return None

    async def admit(
        self,
        dataset: DatasetId,
        datafile: DatafileId,
        who: Callable[[], Asker],
        size: int | None,
    ) -> Admission:
        name = self._catalogue.nodes[NodeKey(Kind.DATAFILE, datafile)].name
        await trio.lowlevel.checkpoint()
        if name.startswith("archived") and name not in self._transfer.online:
            self.askers.append(who())
            if self.refusal is not None:
                raise NotOnline(self.refusal)
        return self.admission

    def learn(self, dataset: DatasetId, datafile: DatafileId, refusal: DataArchived) -> None:
        """Nothing to be learnt."""


@dataclass
class FakeDraft:
    """A file being written; published into a `FakeCatalogue`."""

    writing: FakeWriting
    node: Node
    content: bytearray = field(default_factory=bytearray)
    published: bool = False
    handles: int = 1
    fails_with: IcatfsError | None = None
    killed: bool = False
    readers: int = 0

    @property
    def is_stored(self) -> bool:
        return self.published

    @property
    def is_final(self) -> bool:
        return self.published

    async def revise(self) -> None:
        await trio.lowlevel.checkpoint()

    def write(self, offset: int, data: bytes) -> int:
        self.content.extend(bytes(max(offset - len(self.content), 0)))
        self.content[offset : offset + len(data)] = data
        self._changed()
        return len(data)

    async def write_kept(self, offset: int, data: bytes) -> int:
        await trio.lowlevel.checkpoint()
        return self.write(offset, data)

    def check_whole(self) -> None:
        if self.fails_with is not None:
            raise self.fails_with

    def was_not_flushed(self) -> None:
        self.killed = True

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.content[offset : offset + size])

    def truncate(self, size: int) -> None:
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))
        self._changed()

    def set_mtime(self, mtime_ns: int) -> None:
        self.node = replace(self.node, mtime_ns=mtime_ns)

    def hear_mtime(self, mtime_ns: int) -> None:
        self.set_mtime(mtime_ns)

    async def sync(self, *, publish: bool) -> None:
        await trio.lowlevel.checkpoint()

    async def flush(self, still_open: bool) -> None:
        self.writing.flushes.append(still_open)
        if still_open or self.published:
            return
        if self.node.name.startswith("refused"):
            raise AccessDenied(f"{self.node.name} is refused")
        self.writing.publish(self)

    async def release(self) -> None:
        self.handles -= 1
        if not self.handles and not self.published:
            self.writing.publish(self)

    def _changed(self) -> None:
        self.node = replace(self.node, size=len(self.content))


class FakeWriting:
    """Drafts in memory."""

    def __init__(self, catalogue: FakeCatalogue, mode: WriteMode) -> None:
        self._catalogue = catalogue
        self._mode = mode
        self._ids = itertools.count(1)
        self.drafts: dict[NodeKey, FakeDraft] = {}
        self.folders: dict[NodeKey, dict[str, Node]] = {}
        self.own: set[NodeKey] = set()
        self.flushes: list[bool] = []
        self.times: dict[str, int] = {}

    def watch(self, watcher: Watcher) -> None:
        """Nothing happens here that nobody waits for."""

    def publish(self, draft: FakeDraft) -> None:
        """Move a draft into the catalogue."""
        path = draft.node.path_in_dataset
        del self.drafts[draft.node.key]
        draft.node = self._catalogue.put(path, bytes(draft.content))
        draft.published = True
        self.own.add(draft.node.key)

    def _local(self, folder: Node) -> list[Node]:
        drafts = [draft.node for draft in self.drafts.values()]
        folders = self.folders.get(folder.key, {}).values()
        return [*folders, *(node for node in drafts if node.parent == folder.key)]

    def entries(self, folder: Node) -> Sequence[Node]:
        return self._local(folder)

    def find(self, folder: Node, name: str) -> Node | None:
        return next((node for node in self._local(folder) if node.name == name), None)

    def draft(self, key: NodeKey) -> FakeDraft | None:
        return self.drafts.get(key)

    def is_own(self, node: Node) -> bool:
        return self._mode is WriteMode.READ_WRITE or node.key.id < 0 or node.key in self.own

    def is_own_file(self, datafile: int) -> bool:
        return self._mode is WriteMode.READ_WRITE or NodeKey(Kind.DATAFILE, datafile) in self.own

    def may_add(self, folder: Node) -> bool:
        return folder.key.kind in (Kind.VISIT, Kind.DATASET, Kind.FOLDER)

    async def create(self, folder: Node, name: str, flags: int, mode: int) -> FakeDraft:
        await trio.lowlevel.checkpoint()
        if folder.key.kind not in (Kind.DATASET, Kind.FOLDER):
            raise NotPermitted("files live in datasets")
        if self.find(folder, name) or name in self._catalogue.children.get(folder.key, {}):
            raise Exists(name)
        path = f"{folder.path_in_dataset}/{name}".lstrip("/")
        node = replace(folder_node(path), key=NodeKey(Kind.DATAFILE, -next(self._ids)))
        draft = self.drafts[node.key] = FakeDraft(self, node)
        return draft

    async def edit(self, node: Node, caller: Caller) -> FakeDraft:
        draft = self.drafts.get(node.key)
        if draft is None:
            raise NotPermitted(f"{node.name} exists and is not changed")
        draft.handles += 1
        return draft

    async def confirm(self, node: Node) -> None: ...

    async def revise(self, node: Node, fill: Fill | None) -> FakeDraft:
        return await self.edit(node, Caller(0, 0, 0))

    async def mkdir(self, folder: Node, name: str) -> Node:
        path = f"{folder.path_in_dataset}/{name}".lstrip("/")
        node = folder_node(path)
        self.folders.setdefault(folder.key, {})[name] = node
        return node

    async def unlink(self, folder: Node, node: Node, process: int) -> None:
        if not self.is_own(node):
            raise NotPermitted(f"{node.name} exists and is not removed")
        if node.key in self.drafts:
            del self.drafts[node.key]
        else:
            self._catalogue.remove(node)

    async def rmdir(self, folder: Node, node: Node) -> None:
        if self._local(node):
            raise NotEmpty(node.name)
        if self.folders.get(folder.key, {}).pop(node.name, None) is None:
            raise NotPermitted(f"{node.name} exists and is not removed")

    async def rename(
        self, folder: Node, node: Node, new_folder: Node, new_name: str, *, replace: bool
    ) -> Node:
        draft = self.drafts.get(node.key)
        if draft is None and node.key in self.own:
            raise NotSupported(f"{node.name} is stored")
        if draft is None:
            raise NotPermitted(f"{node.name} exists and is not renamed")
        path = f"{new_folder.path_in_dataset}/{new_name}".lstrip("/")
        draft.node = replace_node(draft.node, name=new_name, parent=inside(path))
        return draft.node

    async def describe(self, node: Node, name: str, value: bytes | None) -> None:
        raise NotSupported(name)

    async def set_mtime(self, node: Node, mtime_ns: int) -> None:
        self.times[node.name] = mtime_ns


class FakeProbe:
    """Processes as a test wants them: pid and process are the same."""

    def __init__(self) -> None:
        self.signalled: set[int] = set()
        self.ended: set[int] = set()
        self.gone: set[int] = set()
        self.holding: set[tuple[int, int]] = set()
        self.killed: set[int] = set()

    def process_of(self, pid: int) -> int:
        return pid

    def opener(self, pid: int) -> Opener:
        return Opener(pid, "cat")

    def program(self, opener: Opener) -> Program:
        return Program(opener.process, frozenset({opener.name}))

    def must_stop(self, process: int) -> bool:
        return process in self.signalled

    def is_gone(self, process: int) -> bool:
        return process in self.gone

    def must_end(self, process: int) -> bool:
        return process in self.ended

    def holds(self, process: int, ino: int) -> bool | None:
        return (process, ino) in self.holding

    def was_killed(self, process: int) -> bool:
        return process in self.killed


class FakeNotifier:
    """Remembers what the kernel is told."""

    def __init__(self) -> None:
        self.inodes: list[int] = []
        self.entries: list[tuple[int, str]] = []

    def invalidate_inode(self, ino: int) -> None:
        self.inodes.append(ino)

    def invalidate_attributes(self, ino: int) -> None:
        self.inodes.append(ino)

    def invalidate_entry(self, folder: int, name: str) -> None:
        self.entries.append((folder, name))


@dataclass
class FakeServices:
    """A file system and everything it stands on."""

    catalogue: FakeCatalogue
    store: FakeStore
    transfer: FakeTransfer
    recall: FakeRecall
    writing: FakeWriting
    filesystem: FileSystem[FakeFile]
    probe: CallerProbe
    notifier: Notifier
    options: FsOptions


def fake_services(
    files: Mapping[str, bytes],
    control: Path,
    *,
    mode: WriteMode = WriteMode.ADD,
    probe: CallerProbe | None = None,
    notifier: Notifier | None = None,
    recall_wait_s: float | None = None,
    uid: int = 1000,
    write_back: bool = False,
) -> FakeServices:
    """A file system over a facility in memory."""
    catalogue = FakeCatalogue(files)
    store, transfer = FakeStore(catalogue), FakeTransfer(control)
    recall = FakeRecall(control, transfer, catalogue)
    writing = FakeWriting(catalogue, mode)
    probe, notifier = probe or FakeProbe(), notifier or FakeNotifier()
    options = FsOptions(uid, uid, mode, recall_wait_s=recall_wait_s, write_back=write_back)
    filesystem = FileSystem(
        catalogue=catalogue,
        store=store,
        transfer=transfer,
        recall=recall,
        writing=writing,
        options=options,
        probe=probe,
        notifier=notifier,
    )
    return FakeServices(
        catalogue, store, transfer, recall, writing, filesystem, probe, notifier, options
    )
