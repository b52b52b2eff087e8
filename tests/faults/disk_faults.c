/* Strikes at one system call that touches a folder: an error of the disk, or a signal.

   Loaded by LD_PRELOAD; set by the environment:

   DISK_FOLDER   the folder; paths below it are counted
   DISK_COUNTER  a file of two numbers of eight bytes, in which all processes of a command count
                 their reads and writes together
   DISK_FAULT    read-eio, write-eio or write-enospc: the call fails; kill or term: the leader of
                 the session gets the signal, and a write is cut in half
   DISK_AT       which call is struck, from 1; 0 for none
   DISK_LASTS    1 where all later calls fail too

   Reads are opening for reading, read and pread. Writes are opening for writing, write, pwrite,
   writev, fsync, fdatasync, rename, link, mkdir and unlink. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FILES 65536
#define REAL(name) ((__typeof__(&name))real(&real_##name, #name))
#define NEXT(name) static void *real_##name

enum { READS = 0, WRITES = 1 };

static const char *folder;
static size_t folder_length;
static int struck_kind = WRITES, error, number, lasts;
static int64_t at, *counters;
static char is_below[MOST_FILES];

static void *real(void **known, const char *name) {
    if (!*known) *known = dlsym(RTLD_NEXT, name);
    return *known;
}

__attribute__((constructor)) static void begin(void) {
    const char *fault = getenv("DISK_FAULT"), *file = getenv("DISK_COUNTER");
    if (!fault || !file || !getenv("DISK_FOLDER")) return;
    int descriptor = syscall(SYS_openat, AT_FDCWD, file, O_RDWR);
    if (descriptor < 0) return;
    void *shared = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    syscall(SYS_close, descriptor);
    if (shared == MAP_FAILED) return;
    at = atoll(getenv("DISK_AT"));
    lasts = !strcmp(getenv("DISK_LASTS"), "1");
    if (!strncmp(fault, "read", 4)) struck_kind = READS;
    if (strstr(fault, "eio")) error = EIO;
    if (strstr(fault, "enospc")) error = ENOSPC;
    if (!strcmp(fault, "kill")) number = SIGKILL;
    if (!strcmp(fault, "term")) number = SIGTERM;
    counters = shared;
    folder_length = strlen(getenv("DISK_FOLDER"));
    folder = strdup(getenv("DISK_FOLDER"));
}

static int below(const char *path) {
    return folder && path && !strncmp(path, folder, folder_length);
}

static int known(int descriptor) {
    return descriptor >= 0 && descriptor < MOST_FILES && is_below[descriptor];
}

/* Count a call; return 1 where it must fail, with errno, and 2 where the process is to die now. */
static int struck(int kind) {
    int64_t n = __atomic_add_fetch(&counters[kind], 1, __ATOMIC_SEQ_CST);
    if (kind != struck_kind || at == 0 || n < at) return 0;
    if (error && (n == at || lasts)) {
        errno = error;
        return 1;
    }
    if (number && n == at) {
        if (number == SIGKILL && getsid(0) == getpid()) return 2;
        kill(getsid(0), number);
    }
    return 0;
}

/* Strike at a call that is not a write; a process that is to die does so before the call. */
static int fails(int kind) {
    int how = struck(kind);
    if (how == 2) kill(getpid(), SIGKILL);
    return how;
}

static int opened(int descriptor) {
    if (descriptor >= 0 && descriptor < MOST_FILES) is_below[descriptor] = 1;
    return descriptor;
}

static int kind_of(int flags) {
    return flags & (O_WRONLY | O_RDWR | O_CREAT) ? WRITES : READS;
}

NEXT(open);
NEXT(open64);
NEXT(openat);
NEXT(openat64);

#define OPEN(name)                                                                              \
    int name(const char *path, int flags, ...) {                                                \
        va_list more;                                                                           \
        va_start(more, flags);                                                                  \
        mode_t mode = va_arg(more, mode_t);                                                     \
        va_end(more);                                                                           \
        if (!below(path)) return REAL(name)(path, flags, mode);                                 \
        return fails(kind_of(flags)) ? -1 : opened(REAL(name)(path, flags, mode));              \
    }
#define OPEN_AT(name)                                                                           \
    int name(int base, const char *path, int flags, ...) {                                      \
        va_list more;                                                                           \
        va_start(more, flags);                                                                  \
        mode_t mode = va_arg(more, mode_t);                                                     \
        va_end(more);                                                                           \
        if (!below(path)) return REAL(name)(base, path, flags, mode);                           \
        return fails(kind_of(flags)) ? -1 : opened(REAL(name)(base, path, flags, mode));        \
    }
OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)

NEXT(fopen);
NEXT(fopen64);

#define FOPEN(name)                                                                             \
    FILE *name(const char *path, const char *mode) {                                            \
        if (!below(path)) return REAL(name)(path, mode);                                        \
        if (fails(strpbrk(mode, "wa+") ? WRITES : READS)) return NULL;                          \
        FILE *file = REAL(name)(path, mode);                                                    \
        if (file) opened(fileno(file));                                                         \
        return file;                                                                            \
    }
FOPEN(fopen)
FOPEN(fopen64)

NEXT(close);
int close(int descriptor) {
    if (descriptor >= 0 && descriptor < MOST_FILES) is_below[descriptor] = 0;
    return REAL(close)(descriptor);
}

NEXT(read);
ssize_t read(int descriptor, void *data, size_t size) {
    return known(descriptor) && fails(READS) ? -1 : REAL(read)(descriptor, data, size);
}

NEXT(pread64);
ssize_t pread64(int descriptor, void *data, size_t size, off64_t offset) {
    return known(descriptor) && fails(READS) ? -1 : REAL(pread64)(descriptor, data, size, offset);
}

NEXT(write);
ssize_t write(int descriptor, const void *data, size_t size) {
    int how = known(descriptor) ? struck(WRITES) : 0;
    if (how == 1) return -1;
    if (how == 2) {
        REAL(write)(descriptor, data, size / 2);
        kill(getpid(), SIGKILL);
    }
    return REAL(write)(descriptor, data, size);
}

NEXT(pwrite64);
ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) {
    return known(descriptor) && fails(WRITES) ? -1
                                              : REAL(pwrite64)(descriptor, data, size, offset);
}

NEXT(writev);
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    return known(descriptor) && fails(WRITES) ? -1 : REAL(writev)(descriptor, parts, count);
}

NEXT(fsync);
int fsync(int descriptor) {
    return known(descriptor) && fails(WRITES) ? -1 : REAL(fsync)(descriptor);
}

NEXT(fdatasync);
int fdatasync(int descriptor) {
    return known(descriptor) && fails(WRITES) ? -1 : REAL(fdatasync)(descriptor);
}

NEXT(rename);
int rename(const char *from, const char *to) {
    return below(to) && fails(WRITES) ? -1 : REAL(rename)(from, to);
}

NEXT(renameat);
int renameat(int base, const char *from, int target, const char *to) {
    return below(to) && fails(WRITES) ? -1 : REAL(renameat)(base, from, target, to);
}

NEXT(link);
int link(const char *from, const char *to) {
    return below(to) && fails(WRITES) ? -1 : REAL(link)(from, to);
}

NEXT(linkat);
int linkat(int base, const char *from, int target, const char *to, int flags) {
    return below(to) && fails(WRITES) ? -1 : REAL(linkat)(base, from, target, to, flags);
}

NEXT(mkdir);
int mkdir(const char *path, mode_t mode) {
    return below(path) && fails(WRITES) ? -1 : REAL(mkdir)(path, mode);
}

NEXT(mkdirat);
int mkdirat(int base, const char *path, mode_t mode) {
    return below(path) && fails(WRITES) ? -1 : REAL(mkdirat)(base, path, mode);
}

NEXT(unlink);
int unlink(const char *path) {
    return below(path) && fails(WRITES) ? -1 : REAL(unlink)(path);
}

NEXT(unlinkat);
int unlinkat(int base, const char *path, int flags) {
    return below(path) && fails(WRITES) ? -1 : REAL(unlinkat)(base, path, flags);
}
