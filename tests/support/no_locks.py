"""A folder whose file system refuses locks, as NFS mounted without, for all processes of a command."""

import shutil
import subprocess
from pathlib import Path

CC = shutil.which("cc") or shutil.which("gcc")
WHY_NOT = "" if CC else "a C compiler is needed for the library that refuses locks"
# `flock` and the locks of `fcntl`, which SQLite takes, on files below $WITHOUT_LOCKS.
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int refused(int fd) {
    const char *folder = getenv("WITHOUT_LOCKS");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!folder || length < 0) return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

int flock(int fd, int how) {
    int (*plain)(int, int) = dlsym(RTLD_NEXT, "flock");
    if (refused(fd)) { errno = ENOLCK; return -1; }
    return plain(fd, how);
}

static int locked(const char *name, int fd, int what, void *rest) {
    int (*plain)(int, int, void *) = dlsym(RTLD_NEXT, name);
    int locks = what == F_SETLK || what == F_SETLKW || what == F_GETLK;
    if (locks && refused(fd)) { errno = ENOLCK; return -1; }
    return plain(fd, what, rest);
}

#define FORWARD(name) \
    int name(int fd, int what, ...) { \
        va_list list; va_start(list, what); void *rest = va_arg(list, void *); va_end(list); \
        return locked(#name, fd, what, rest); \
    }
FORWARD(fcntl)
FORWARD(fcntl64)
"""


def without_locks(folder: Path, scratch: Path) -> dict[str, str]:
    """Environment of processes for which no file below `folder` can be locked."""
    assert CC is not None
    source, library = scratch / "no_locks.c", scratch / "no_locks.so"
    source.write_text(SOURCE)
    subprocess.run([CC, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "WITHOUT_LOCKS": str(folder.resolve())}
