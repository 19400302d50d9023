/* Loaded into a server with LD_PRELOAD: writes down, in order, what it does to the files of one directory and what goes
 * over the connections that it accepts. RECORD_DIR is the directory, RECORD_LOG the file that is appended to.
 *
 * One lock is held around each call and its record, so the order of the records is the order of the effects. Only a sync
 * is not held up in it: it has a record at its begin and one at its end, and whatever other threads do meanwhile lies
 * between. What is written through a mapping is not seen; SQLite has only its index of the log there, which is rebuilt.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FDS = 65536 };
enum kind { OTHER, STORED, DIRECTORY, PEER };

static unsigned char kinds[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char directory[PATH_MAX];
static int log_fd = -1;

struct head {
    uint32_t op, fd;
    uint64_t offset, size;
} __attribute__((packed));

__attribute__((constructor)) static void start(void) {
    const char *where = getenv("RECORD_DIR"), *log = getenv("RECORD_LOG");
    if (where && log) {
        strncpy(directory, where, sizeof directory - 1);
        log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
}

/* A record is one system call, so a killed server has written it whole or not at all. */
static void record(char op, int fd, uint64_t offset, const struct iovec *parts, int count, size_t size) {
    struct head head = {op, fd, offset, size};
    struct iovec all[1 + 64] = {{&head, sizeof head}};
    int used = 1;
    for (int i = 0; i < count && used < 65 && size; i++) {
        size_t take = parts[i].iov_len < size ? parts[i].iov_len : size;
        all[used++] = (struct iovec){parts[i].iov_base, take};
        size -= take;
    }
    int before = errno;
    if (size || syscall(SYS_writev, log_fd, all, used) < 0) abort(); /* a record that is missing would be a lie */
    errno = before;
}

static void record_bytes(char op, int fd, uint64_t offset, const void *data, size_t size) {
    struct iovec part = {(void *)data, size};
    record(op, fd, offset, &part, 1, size);
}

static enum kind kind_of(int fd) { return log_fd >= 0 && fd >= 0 && fd < FDS ? kinds[fd] : OTHER; }

/* The name in the directory, "" for the directory itself, NULL for what is elsewhere or need not be kept. */
static const char *name_of(const char *path) {
    size_t length = strlen(directory);
    if (log_fd < 0 || !length || strncmp(path, directory, length)) return NULL;
    path += length;
    if (!*path || !strcmp(path, "/") || !strcmp(path, "/.")) return "";
    if (*path++ != '/') return NULL;
    length = strlen(path);
    return length > 4 && !strcmp(path + length - 4, "-shm") ? NULL : path;
}

static int open_recorded(int at, const char *path, int flags, int mode) {
    const char *name = at == AT_FDCWD || path[0] == '/' ? name_of(path) : NULL;
    if (!name) return syscall(SYS_openat, at, path, flags, mode);
    pthread_mutex_lock(&lock);
    int was_there = !syscall(SYS_faccessat, at, path, F_OK);
    int fd = syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0 && fd < FDS) {
        kinds[fd] = *name ? STORED : DIRECTORY;
        record_bytes(was_there ? 'o' : 'O', fd, (flags & O_TRUNC) != 0, name, strlen(name));
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name)                                       \
    int name(const char *path, int flags, ...) {         \
        va_list more;                                    \
        va_start(more, flags);                           \
        int mode = flags & O_CREAT ? va_arg(more, int) : 0; \
        va_end(more);                                    \
        return open_recorded(AT_FDCWD, path, flags, mode); \
    }
#define OPENAT(name)                                     \
    int name(int at, const char *path, int flags, ...) { \
        va_list more;                                    \
        va_start(more, flags);                           \
        int mode = flags & O_CREAT ? va_arg(more, int) : 0; \
        va_end(more);                                    \
        return open_recorded(at, path, flags, mode);     \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int __open_2(const char *path, int flags) { return open_recorded(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_recorded(AT_FDCWD, path, flags, 0); }

int close(int fd) {
    if (kind_of(fd) == OTHER) return syscall(SYS_close, fd);
    pthread_mutex_lock(&lock);
    record('C', fd, 0, NULL, 0, 0);
    kinds[fd] = OTHER;
    int result = syscall(SYS_close, fd);
    pthread_mutex_unlock(&lock);
    return result;
}

static ssize_t written(int fd, const void *data, size_t size, off64_t offset, int positioned) {
    if (kind_of(fd) != STORED)
        return positioned ? syscall(SYS_pwrite64, fd, data, size, offset) : syscall(SYS_write, fd, data, size);
    pthread_mutex_lock(&lock);
    if (!positioned) offset = lseek64(fd, 0, SEEK_CUR);
    ssize_t done = syscall(SYS_pwrite64, fd, data, size, offset);
    if (done > 0) {
        if (!positioned) lseek64(fd, offset + done, SEEK_SET);
        record_bytes('W', fd, offset, data, done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}
ssize_t write(int fd, const void *data, size_t size) { return written(fd, data, size, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return written(fd, data, size, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return written(fd, data, size, offset, 1); }

static int synced(int fd, long number) {
    enum kind kind = kind_of(fd);
    if (kind != STORED && kind != DIRECTORY) return syscall(number, fd);
    pthread_mutex_lock(&lock);
    record('s', fd, 0, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    int result = syscall(number, fd);
    pthread_mutex_lock(&lock);
    record(result ? '!' : 'S', fd, 0, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int truncated(int fd, off64_t size) {
    if (kind_of(fd) != STORED) return syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_ftruncate, fd, size);
    if (!result) record('T', fd, size, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate(int fd, off_t size) { return truncated(fd, size); }
int ftruncate64(int fd, off64_t size) { return truncated(fd, size); }

int unlink(const char *path) {
    const char *name = name_of(path);
    if (!name) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (!result) record_bytes('U', -1, 0, name, strlen(name));
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *from, const char *to) {
    const char *name = name_of(from), *other = name_of(to);
    if (name || other) abort(); /* nobody does this yet: the disk of the test would have to learn it */
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    if (log_fd < 0) return syscall(SYS_accept4, fd, address, length, flags);
    pthread_mutex_lock(&lock);
    int peer = syscall(SYS_accept4, fd, address, length, flags);
    if (peer >= 0 && peer < FDS) {
        kinds[peer] = PEER;
        record('A', peer, 0, NULL, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    return peer;
}

ssize_t recv(int fd, void *data, size_t size, int flags) {
    if (kind_of(fd) != PEER) return syscall(SYS_recvfrom, fd, data, size, flags, NULL, NULL);
    pthread_mutex_lock(&lock);
    ssize_t done = syscall(SYS_recvfrom, fd, data, size, flags, NULL, NULL);
    if (done > 0) record_bytes('<', fd, 0, data, done);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    if (kind_of(fd) != PEER) return syscall(SYS_sendto, fd, data, size, flags, NULL, 0);
    pthread_mutex_lock(&lock);
    ssize_t done = syscall(SYS_sendto, fd, data, size, flags, NULL, 0);
    if (done > 0) record_bytes('>', fd, 0, data, done);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    if (kind_of(fd) != PEER) return syscall(SYS_sendmsg, fd, message, flags);
    pthread_mutex_lock(&lock);
    ssize_t done = syscall(SYS_sendmsg, fd, message, flags);
    if (done > 0) record('>', fd, 0, message->msg_iov, message->msg_iovlen, done);
    pthread_mutex_unlock(&lock);
    return done;
}
