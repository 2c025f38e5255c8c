"""The connection to a study's database, and what is said of one that fails: its cause, and no password.

Knows databases by SQLAlchemy's addresses; nothing of what a study keeps there.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.storages._rdb.storage import _VersionManager
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from search.record.storage.snapshot import snapshot
from search.request.database_url import hidden, without_password
from spaces.errors import RarecallError, RunError, UsageError

# `look`: of a file that stays locked, as it was before that transaction. `read`: likewise where nobody may
# write. `write`: a damaged file is refused wherever the damage lies. `create`: tables, and a file, are made
# where there are none.
Access = Literal["look", "read", "write", "create"]

# Seconds to wait for a lock that another process holds on an SQLite file.
WAIT_S: dict[Access, float] = {"look": 2.0, "read": 5.0, "write": 60.0, "create": 60.0}
AWAY_S, AGAIN_S = 60.0, 0.5  # how long a server may be away that has answered once, and between two tries
CONNECT_S = "10"  # how long to try to reach a server; its own driver would for minutes
_PATIENT = {"postgresql", "postgresql+psycopg", "postgresql+psycopg2"}  # these know that setting
PASSWORD = "RARECALL_DB_PASSWORD"  # in the environment: of an address without one
NO_PASSWORD = (
    f"a study keeps no password: set {PASSWORD}, or what the database's own programs read (PGPASSWORD)"
)
SAVED = "take it from a copy; what its runs left is in trials/ all the same"

# SQLite's name of an error begins so -> what is said of the file, and the hint.
_CAUSES = {
    "SQLITE_BUSY": ("is locked by another process", "try again once that has finished"),
    "SQLITE_FULL": ("cannot be written: the disk is full", "make room, then go on with --resume"),
    "SQLITE_IOERR": ("cannot be read or written: the disk reports an error", "is it full?"),
    "SQLITE_READONLY": ("cannot be written: it is read-only", "whose is it?"),
    "SQLITE_CANTOPEN": ("cannot be opened: it is gone, or not yours", SAVED),
    "SQLITE_CORRUPT": ("is damaged, perhaps cut", SAVED),
    "SQLITE_NOTADB": ("is damaged: it is no database", SAVED),
}

_FAILURES = (SQLAlchemyError, optuna.exceptions.StorageInternalError)


class Database:
    """A database that holds studies, or is to.

    Attributes:
        name: What messages call it: its file, or its address without the password.
        storage: Optuna's view of it. What is called on it belongs into `told`.
    """

    def __init__(self, url: str, access: Access = "read") -> None:
        """Connect.

        Args:
            url: SQLAlchemy's address. Without a password it gets that of the environment, if there is one.
            access: What it is wanted for.

        Raises:
            UsageError: There is no such kind of database, or it holds no study.
            RunError: It cannot be reached, or it is locked or damaged.
        """
        self.name = without_password(url)
        self._address = parsed(url)
        self._file = _file(self._address)
        if self._file is not None:
            self.name = str(self._file)
        create = access == "create"
        self._new_file = create and self._file is not None and not self._file.exists()
        if self._new_file and self._file is not None and not self._file.parent.is_dir():
            raise UsageError(f"study_db: no such folder: {self._file.parent}", "make it, or name another")
        self._made: set[str] = set()  # names of tables
        with self.told():
            before = self._tables() if create else set()
            try:
                self.storage = self._connected(access)
            except _FAILURES as error:
                there = self._file is not None and self._file.exists()
                wanted = there and _as_it_was(access, _code(error))
                memory = snapshot(self._file) if self._file is not None and wanted else None
                if memory is None:
                    raise
                self.storage = _storage("sqlite://", {"creator": lambda: memory, "poolclass": StaticPool})
            self._made = self._tables() - before if create else set()
            if access == "write" and self._file is not None:
                self._refuse_damage()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whatever fails of the database within the context is said as what it is.

        Raises:
            UsageError: It cannot be used here, or holds no study.
            RunError: It cannot be reached, or it is locked or damaged.
        """
        try:
            yield
        except ImportError as error:
            driver = error.__cause__.name if isinstance(error.__cause__, ImportError) else error.name
            raise UsageError(
                f"study_db: {self.name} needs the Python package '{driver}', which is not installed",
                f"pip install '{driver}{'[binary]' if driver == 'psycopg' else ''}'",
            ) from None
        except _FAILURES as error:
            raise self._cause(error) from None
        except (ValueError, LookupError) as error:  # a row that is not what Optuna or a study has written
            raise RunError(f"{self.name} is damaged: {hidden(_line(error))}", SAVED) from None

    def leave(self) -> None:
        """Take back what this process has made here, tables and file, if no study is in it."""
        with self.told():
            if not self._made or self.storage.get_all_studies():
                return
            self.storage.remove_session()
            engine, made = self.storage.engine, sqlalchemy.MetaData()
            if not self._new_file:
                made.reflect(engine, only=sorted(self._made))
                made.drop_all(engine)
            engine.dispose()
        if self._new_file and self._file is not None:
            self._file.unlink(missing_ok=True)

    def _connected(self, access: Access) -> optuna.storages.RDBStorage:
        # A server that has been restarted has closed every connection of before.
        server, file = {"pool_pre_ping": True}, {"connect_args": {"timeout": WAIT_S[access]}}
        text = _text(self._address, self._file, create=access == "create")
        storage = _storage(text, server if self._file is None else file, create=access == "create")
        if self._file is None:
            _let_it_be_away(storage.engine)
        return storage

    def _refuse_damage(self) -> None:
        """Half of a file may hold all that was read of it; what is written next would tear the rest.

        Raises:
            RunError: SQLite finds a fault.
        """
        with self.storage.engine.connect() as connection:
            found = connection.scalar(sqlalchemy.text("PRAGMA quick_check(1)"))
        if found != "ok":
            raise RunError(f"{self.name} {_CAUSES['SQLITE_CORRUPT'][0]}", SAVED)

    def _tables(self) -> set[str]:
        engine = sqlalchemy.create_engine(_text(self._address, self._file, create=True))
        try:
            return set(sqlalchemy.inspect(engine).get_table_names())
        finally:
            engine.dispose()

    def _cause(self, error: Exception) -> RarecallError:
        """What a person is told of an error of SQLAlchemy's, or of Optuna's about one."""
        if isinstance(error, sqlalchemy.exc.NoSuchModuleError):
            kind = self._address.drivername
            return UsageError(
                f"study_db: there is no kind of database '{kind}'", "as in postgresql://me@host/name"
            )
        code = _code(error)
        for begin, (what, hint) in _CAUSES.items():
            if code.startswith(begin):
                return RunError(f"{self.name} {what}", hint)
        said = hidden(_line(_driver_error(error)))
        if "no such table" in said or ("relation" in said and "does not exist" in said):
            return RunError(f"{self.name} holds no study: it is empty, cut or not a study's", SAVED)
        hint = NO_PASSWORD if "password" in said else ""
        return RunError(f"the database {self.name} cannot be used: {said}", hint)


def _let_it_be_away(engine: sqlalchemy.Engine) -> None:
    """From here on, whoever needs another connection to a server waits for one that does not answer."""

    @sqlalchemy.event.listens_for(engine, "do_connect")
    def connected(dialect: Any, record: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        until = time.monotonic() + AWAY_S
        while True:
            try:
                return dialect.connect(*args, **kwargs)
            except dialect.dbapi.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(AGAIN_S)


def _as_it_was(access: Access, code: str) -> bool:
    """Whether a file that fails so will do as it was before a transaction that is, or stays, unfinished.

    Where nobody may write, SQLite cannot put back what a dead writer left half done.
    """
    if code.startswith("SQLITE_BUSY"):
        return access == "look"
    return access in ("look", "read") and code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN"))


def parsed(url: str) -> URL:
    """An address, with the password of the environment where it has none.

    Raises:
        UsageError: It is none.
    """
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        raise UsageError(
            f"study_db: '{without_password(url)}' is not the address of a database",
            "as in postgresql://me@host/name",
        ) from None
    password = os.environ.get(PASSWORD)
    if address.password is None and password and address.get_backend_name() != "sqlite":
        address = address.set(password=password)
    return address


def _file(address: URL) -> Path | None:
    """The file of an SQLite database; None of any other, and of one in memory or named by an URI."""
    database = address.database
    if address.get_backend_name() != "sqlite" or not database or database.startswith((":memory:", "file:")):
        return None
    return Path(database)


def _text(address: URL, file: Path | None, *, create: bool) -> str:
    """The address for the driver; an SQLite file that is to be read is not made where there is none."""
    if file is not None:
        uri = {"mode": "rwc" if create else "rw", "uri": "true"}
        address = address.set(database=f"file:{quote(os.fsencode(file))}").update_query_dict(uri)
    elif address.drivername in _PATIENT and "connect_timeout" not in address.query:
        address = address.update_query_dict({"connect_timeout": CONNECT_S})
    return address.render_as_string(hide_password=False)


def _stamp_once(stamp: Callable[[Any], None]) -> Callable[[Any], None]:
    """Optuna's stamping of a new database, which asks alembic whether it is one: without alembic, if not.

    To load it takes a fifth of `rarecall pareto`.
    """

    def stamped(manager: Any) -> None:
        with manager.engine.connect() as connection:
            there = sqlalchemy.inspect(connection).has_table("alembic_version")
            query = sqlalchemy.text("SELECT count(*) FROM alembic_version")
            if not there or connection.scalar(query) == 0:
                stamp(manager)

    return stamped


_VersionManager._init_alembic = _stamp_once(_VersionManager._init_alembic)  # type: ignore[method-assign,assignment]


def _storage(address: str, kwargs: dict[str, Any], *, create: bool = False) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(
        address.replace("{", "{{").replace("}", "}}"),  # Optuna fills in a template
        kwargs,
        skip_compatibility_check=True,  # it loads alembic
        skip_table_creation=not create,
    )


def _driver_error(error: BaseException) -> BaseException:
    """What the database's own driver raised, within SQLAlchemy's and Optuna's."""
    if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return getattr(error, "orig", None) or error


def _code(error: BaseException) -> str:
    """SQLite's name of an error; empty of any other database's."""
    return str(getattr(_driver_error(error), "sqlite_errorname", ""))


def _line(error: BaseException) -> str:
    """What an error says first."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
