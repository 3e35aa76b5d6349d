/* Loaded before the C library: fails, or ends the process at, the n-th operation that changes a file
 * under a folder. Every such operation is told to a log, so that a test also sees their order. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long count;

static void told(const char *op, const char *path, const char *how) {
    const char *log = getenv("FAULT_LOG");
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%s %s%s\n", op, path, how);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    syscall(SYS_write, fd, line, (size_t)length);
    syscall(SYS_close, fd);
}

/* What to do with an operation: 0 lets it be, 1 fails it, 2 does half of it and ends the process. */
static int struck(const char *op, const char *path) {
    const char *under = getenv("FAULT_UNDER");
    if (!under || strncmp(path, under, strlen(under)) != 0)
        return 0;
    long at = atol(getenv("FAULT_AT")), number = atomic_fetch_add(&count, 1) + 1;
    const char *kind = getenv("FAULT_KIND");
    int lasting = strcmp(kind, "disk") == 0;
    if (at == 0 || (lasting ? number < at : number != at)) {
        told(op, path, "");
        return 0;
    }
    told(op, path, " FAULT");
    if (strcmp(kind, "kill") == 0) {
        raise(SIGKILL);
    }
    return strcmp(kind, "torn") == 0 ? 2 : 1;
}

static int struck_fd(const char *op, int fd) {
    char link[64], path[PATH_MAX + 1];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (fd == 1 && getenv("FAULT_UNDER")) {
        told(op, "stdout", "");
        return 0;
    }
    return struck(op, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int failed(int error) {
    errno = error;
    return -1;
}

ssize_t write(int fd, const void *bytes, size_t size) {
    int how = struck_fd("write", fd);
    if (how == 2) {
        REAL(write)(fd, bytes, size / 2);
        raise(SIGKILL);
    }
    return how ? failed(ENOSPC) : REAL(write)(fd, bytes, size);
}

static ssize_t placed(int fd, const void *bytes, size_t size, off64_t at) {
    int how = struck_fd("write", fd);
    if (how == 2) {
        syscall(SYS_pwrite64, fd, bytes, size / 2, at);
        raise(SIGKILL);
    }
    if (how)
        return failed(ENOSPC);
    return syscall(SYS_pwrite64, fd, bytes, size, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) { return placed(fd, bytes, size, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) { return placed(fd, bytes, size, at); }

ssize_t writev(int fd, const struct iovec *parts, int number) {
    int how = struck_fd("write", fd);
    if (how == 2)
        raise(SIGKILL);
    return how ? failed(ENOSPC) : REAL(writev)(fd, parts, number);
}

/* Half of an operation that has no halves: it is done, and nobody learns of it. */
#define WHOLE(name, how, call, error)                                                                                  \
    do {                                                                                                               \
        int done = how;                                                                                                \
        if (done == 1)                                                                                                 \
            return failed(error);                                                                                      \
        int result = call;                                                                                             \
        if (done == 2)                                                                                                 \
            raise(SIGKILL);                                                                                            \
        return result;                                                                                                 \
    } while (0)

int fsync(int fd) { WHOLE(fsync, struck_fd("sync", fd), REAL(fsync)(fd), EIO); }
int fdatasync(int fd) { WHOLE(fdatasync, struck_fd("sync", fd), REAL(fdatasync)(fd), EIO); }
int ftruncate(int fd, off_t to) { WHOLE(ftruncate, struck_fd("cut", fd), REAL(ftruncate)(fd, to), EIO); }
int ftruncate64(int fd, off64_t to) { WHOLE(ftruncate64, struck_fd("cut", fd), REAL(ftruncate64)(fd, to), EIO); }
int rename(const char *from, const char *to) { WHOLE(rename, struck("rename", to), REAL(rename)(from, to), EIO); }
int link(const char *from, const char *to) { WHOLE(link, struck("link", to), REAL(link)(from, to), EIO); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    WHOLE(linkat, struck("link", to), REAL(linkat)(a, from, b, to, flags), EIO);
}
int unlink(const char *path) { WHOLE(unlink, struck("unlink", path), REAL(unlink)(path), EIO); }

#define OPENED(name)                                                                                                   \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                        \
        va_end(more);                                                                                                  \
        WHOLE(name, flags &O_CREAT ? struck("create", path) : 0, REAL(name)(path, flags, mode), ENOSPC);               \
    }
OPENED(open)
OPENED(open64)
