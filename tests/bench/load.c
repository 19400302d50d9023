/* A load generator for a Gearman server on loopback: all clients and all workers of a load in one process, on one epoll,
 * so that what is measured is the server and not its load. Built and run by tests/bench/load.py.
 *
 *     load PORT submit JOBS CLIENTS WINDOW PAYLOAD FUNCTION KEYS [SECONDS]   background jobs, until each is acknowledged,
 *                                                   or for so long: what is under way then does not count
 *     load PORT drain  JOBS WORKERS FUNCTION                       takes and completes what is queued already
 *     load PORT pipe   JOBS CLIENTS WORKERS WINDOW PAYLOAD FUNCTION KEYS   both at once
 *     load PORT echo   JOBS CLIENTS WORKERS WINDOW PAYLOAD FUNCTION KEYS   foreground jobs, answered with their payload
 *     load PORT park   WORKERS FUNCTIONS PREFIX    workers that sleep, each with its share of PREFIX0, PREFIX1 ...;
 *                                                   says `parked`, and stays until stdin ends
 *
 * WINDOW: how many jobs a client has under way. KEYS: 1 gives each job a unique key of its own, 0 gives it none.
 * Prints one line: jobs and seconds, and, but for drain, the latencies' p50, p99 and p999 in microseconds: from the
 * submission of a job to its acknowledgement, for echo to its result. Exit status 1 when the server did anything else
 * than expected, with a line that says so. A load that gets nothing for 60 s has failed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum packet {
    CAN_DO = 1,
    PRE_SLEEP = 4,
    NOOP = 6,
    SUBMIT_JOB = 7,
    JOB_CREATED = 8,
    GRAB_JOB = 9,
    NO_JOB = 10,
    JOB_ASSIGN = 11,
    WORK_COMPLETE = 13,
    SUBMIT_JOB_BG = 18,
};
enum { HEADER = 12, ROOM = 1 << 16, SILENCE_MS = 60000, EVENTS = 512 };

struct bytes {
    char *data;
    size_t size, room;
};

struct peer {
    int fd;
    bool writing; /* epoll waits for room to write */
    struct bytes in, out;
    long under_way;
    double *began; /* when each job under way was submitted, a ring of `window`; for echo exact where it is 1 */
    long first, next;
};

static struct {
    bool foreground, keys, parked;
    long jobs, window, payload;
    double seconds; /* 0: as long as it takes */
    char function[64];
    size_t function_size;
    long submitted, created, done, asleep;
    double *latencies;
} load;

static int epoll;
static char *payload;

static _Noreturn void fail(const char *what, const char *detail) {
    fprintf(stderr, "%s%s%s\n", what, detail ? ": " : "", detail ? detail : "");
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *memory(void *old, size_t size) {
    void *new = realloc(old, size ? size : 1);
    if (!new) fail("no memory", NULL);
    return new;
}

static char *reserve(struct bytes *bytes, size_t size) {
    if (bytes->room - bytes->size < size) {
        bytes->room = (bytes->size + size) * 2;
        bytes->data = memory(bytes->data, bytes->room);
    }
    return bytes->data + bytes->size;
}

static void put(struct bytes *bytes, const void *data, size_t size) {
    if (size) memcpy(reserve(bytes, size), data, size);
    bytes->size += size;
}

static void send_packet(struct peer *peer, enum packet number, const void *head, size_t head_size, const void *data,
                        size_t data_size) {
    uint32_t words[] = {htonl(number), htonl((uint32_t)(head_size + data_size))};
    put(&peer->out, "\0REQ", 4);
    put(&peer->out, words, sizeof words);
    put(&peer->out, head, head_size);
    put(&peer->out, data, data_size);
}

static void flush(struct peer *peer) {
    size_t sent = 0;
    while (sent < peer->out.size) {
        ssize_t size = write(peer->fd, peer->out.data + sent, peer->out.size - sent);
        if (size < 0 && errno == EAGAIN) break;
        if (size < 0) fail("write", strerror(errno));
        sent += (size_t)size;
    }
    peer->out.size -= sent;
    if (sent && peer->out.size) memmove(peer->out.data, peer->out.data + sent, peer->out.size);
    bool writing = peer->out.size > 0;
    if (writing != peer->writing) {
        struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = peer};
        epoll_ctl(epoll, EPOLL_CTL_MOD, peer->fd, &event);
        peer->writing = writing;
    }
}

static void submit(struct peer *peer) {
    char head[sizeof load.function + 32];
    memcpy(head, load.function, load.function_size + 1);
    size_t size = load.function_size + 1;
    if (load.keys) size += (size_t)sprintf(head + size, "key-%ld", load.submitted);
    head[size++] = 0;
    enum packet number = load.foreground ? SUBMIT_JOB : SUBMIT_JOB_BG;
    send_packet(peer, number, head, size, payload, (size_t)load.payload);
    load.submitted++;
    peer->under_way++;
    peer->began[peer->next++ % load.window] = now();
}

static void fill_window(struct peer *peer) {
    while (peer->under_way < load.window && load.submitted < load.jobs) submit(peer);
}

static void work(struct peer *peer, const char *body, size_t size) {
    const char *function = memchr(body, 0, size);
    const char *data = function ? memchr(function + 1, 0, size - (size_t)(function + 1 - body)) : NULL;
    if (!data) fail("a broken JOB_ASSIGN", NULL);
    data++;
    size_t data_size = load.foreground ? size - (size_t)(data - body) : 0;
    send_packet(peer, WORK_COMPLETE, body, (size_t)(function + 1 - body), data, data_size);
    send_packet(peer, GRAB_JOB, NULL, 0, NULL, 0);
    if (!load.foreground) load.done++;
}

static void end_wait(struct peer *peer, long count) {
    load.latencies[count] = now() - peer->began[peer->first++ % load.window];
    peer->under_way--;
    fill_window(peer);
}

static void handle(struct peer *peer, uint32_t number, const char *body, size_t size) {
    switch (number) {
    case JOB_CREATED:
        load.created++;
        if (!load.foreground) end_wait(peer, load.created - 1);
        break;
    case WORK_COMPLETE: end_wait(peer, load.done++); break;
    case JOB_ASSIGN: work(peer, body, size); break;
    case NO_JOB:
        send_packet(peer, PRE_SLEEP, NULL, 0, NULL, 0);
        load.asleep++;
        break;
    case NOOP:
        if (!load.parked) send_packet(peer, GRAB_JOB, NULL, 0, NULL, 0);
        break;
    default: {
        char words[256];
        snprintf(words, sizeof words, "%u %.*s", number, (int)(size < 200 ? size : 200), body);
        fail("an unexpected packet", words);
    }
    }
}

static void receive(struct peer *peer) {
    ssize_t size = read(peer->fd, reserve(&peer->in, ROOM), ROOM);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) fail("the server closed a connection", NULL);
    peer->in.size += (size_t)size;
    size_t at = 0;
    while (peer->in.size - at >= HEADER) {
        uint32_t words[2]; /* number, length */
        memcpy(words, peer->in.data + at + 4, sizeof words);
        size_t length = ntohl(words[1]);
        if (peer->in.size - at - HEADER < length) break;
        handle(peer, ntohl(words[0]), peer->in.data + at + HEADER, length);
        at += HEADER + length;
    }
    memmove(peer->in.data, peer->in.data + at, peer->in.size - at);
    peer->in.size -= at;
}

static struct peer *dial(int port) {
    struct peer *peer = memory(NULL, sizeof *peer);
    memset(peer, 0, sizeof *peer);
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (peer->fd < 0 || connect(peer->fd, (struct sockaddr *)&where, sizeof where)) fail("connect", strerror(errno));
    int on = 1;
    setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(peer->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};
    epoll_ctl(epoll, EPOLL_CTL_ADD, peer->fd, &event);
    return peer;
}

static bool ready(int count, const struct epoll_event *events) {
    for (int index = 0; index < count; index++) {
        struct peer *peer = events[index].data.ptr;
        if (!peer) return false; /* stdin has ended */
        if (events[index].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(peer);
        flush(peer);
    }
    return true;
}

static void run(bool submits, bool works, double end) {
    struct epoll_event events[EVENTS];
    while (((submits && load.created < load.jobs) || (works && load.done < load.jobs)) && (!end || now() < end)) {
        int count = epoll_wait(epoll, events, EVENTS, SILENCE_MS);
        if (count == 0) {
            char words[128];
            snprintf(words, sizeof words, "%ld submitted, %ld created, %ld done", load.submitted, load.created, load.done);
            fail("nothing came for 60 seconds", words);
        }
        ready(count < 0 ? 0 : count, events);
    }
}

static void park(int port, long workers, long functions, const char *prefix) {
    load.parked = true;
    for (long worker = 0; worker < workers; worker++) {
        struct peer *peer = dial(port);
        for (long function = worker; function < functions; function += workers) {
            char name[64];
            int size = snprintf(name, sizeof name, "%.40s%ld", prefix, function);
            send_packet(peer, CAN_DO, name, (size_t)size, NULL, 0);
        }
        send_packet(peer, GRAB_JOB, NULL, 0, NULL, 0); /* NO_JOB makes it sleep */
        flush(peer);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    struct epoll_event events[EVENTS];
    int count = 0;
    for (bool said = false; ready(count < 0 ? 0 : count, events); count = epoll_wait(epoll, events, EVENTS, -1))
        if (load.asleep >= workers && !said) {
            puts("parked");
            fflush(stdout);
            said = true;
        }
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

static void report(double seconds, bool submits) {
    long jobs = load.seconds ? load.created : load.jobs;
    if (!jobs) fail("no job was acknowledged", NULL);
    printf("%ld %.6f", jobs, seconds);
    if (submits) {
        qsort(load.latencies, (size_t)jobs, sizeof *load.latencies, compare);
        const double shares[] = {0.5, 0.99, 0.999};
        for (int index = 0; index < 3; index++)
            printf(" %.1f", load.latencies[(long)((double)(jobs - 1) * shares[index])] * 1e6);
    }
    putchar('\n');
}

static void measure(int port, long clients, long workers, bool submits) {
    payload = memory(NULL, (size_t)load.payload);
    memset(payload, 'x', (size_t)load.payload);
    load.latencies = memory(NULL, (size_t)load.jobs * sizeof *load.latencies);
    struct peer **peers = memory(NULL, (size_t)(clients + workers) * sizeof *peers);
    for (long index = 0; index < clients + workers; index++) {
        struct peer *peer = peers[index] = dial(port);
        if (index < clients) {
            peer->began = memory(NULL, (size_t)load.window * sizeof *peer->began);
            continue;
        }
        send_packet(peer, CAN_DO, load.function, load.function_size, NULL, 0);
        send_packet(peer, GRAB_JOB, NULL, 0, NULL, 0);
    }
    double begin = now();
    for (long index = 0; index < clients + workers; index++) {
        if (index < clients) fill_window(peers[index]);
        flush(peers[index]);
    }
    run(submits, workers > 0, load.seconds ? begin + load.seconds : 0);
    report(now() - begin, submits);
}

static void name_function(const char *name) {
    if (strlen(name) >= sizeof load.function) fail("the function's name is too long", NULL);
    strcpy(load.function, name);
    load.function_size = strlen(name);
}

int main(int count, char **words) {
    int port = count > 2 ? atoi(words[1]) : 0;
    const char *kind = count > 2 ? words[2] : "";
    epoll = epoll_create1(0);
    if (!strcmp(kind, "park") && count == 6) {
        park(port, atol(words[3]), atol(words[4]), words[5]);
        return 0;
    }
    load.jobs = count > 3 ? atol(words[3]) : 0;
    load.window = 1;
    if (!strcmp(kind, "drain") && count == 6) {
        name_function(words[5]);
        measure(port, 0, atol(words[4]), false);
        return 0;
    }
    bool works = !strcmp(kind, "pipe") || !strcmp(kind, "echo");
    if (!works && strcmp(kind, "submit")) fail("no such load", kind);
    int at = works ? 6 : 5; /* submit has no workers */
    if (!works && count == at + 5) load.seconds = atof(words[--count]);
    if (count != at + 4) fail("a wrong number of arguments", kind);
    load.foreground = !strcmp(kind, "echo");
    load.window = atol(words[at]);
    load.payload = atol(words[at + 1]);
    name_function(words[at + 2]);
    load.keys = atoi(words[at + 3]) != 0;
    measure(port, atol(words[4]), works ? atol(words[5]) : 0, true);
    return 0;
}
