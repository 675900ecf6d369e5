// SPDX-License-Identifier: Apache-2.0
// What the echo and the load generator share: frames, files, connections that read and write without blocking.
// Source: gateway contract, 1: type in 1 byte, length in 3 bytes big-endian, payload.
#ifndef BENCH_FRAME_H
#define BENCH_FRAME_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE  // accept4
#endif

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { HEADER = 4, ERROR = 0, PREPARE_CONF = 1, HTTP_REQ_CALL = 2, EXTRA_INFO = 3, HTTP_RESP_CALL = 4 };

typedef struct {
    uint8_t *data;
    size_t size;
} Bytes;

typedef struct {
    int fd;
    uint8_t *in;  // what was read and not yet taken
    size_t in_size, in_room;
    const uint8_t *out;  // what remains to be written; not owned
    size_t out_size;
    uint32_t wanted;  // the epoll events that are asked for
} Connection;

static inline void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(1);
}

static inline Bytes read_file(const char *path) {
    struct stat status;
    FILE *file = fopen(path, "rb");
    if (!file || fstat(fileno(file), &status)) die(path);
    Bytes bytes = {malloc(status.st_size), status.st_size};
    if (!bytes.data || fread(bytes.data, 1, bytes.size, file) != bytes.size) die(path);
    fclose(file);
    return bytes;
}

static inline size_t frame_size(const uint8_t *frame) {
    return HEADER + ((size_t)frame[1] << 16 | (size_t)frame[2] << 8 | frame[3]);
}

static inline struct sockaddr_un address_of(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die(path);
    }
    strcpy(address.sun_path, path);
    return address;
}

static inline void want(int epoll, Connection *connection, uint32_t events) {
    if (connection->wanted == events) return;
    struct epoll_event event = {.events = events, .data.ptr = connection};
    int operation = connection->wanted ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(epoll, operation, connection->fd, &event)) die("epoll_ctl");
    connection->wanted = events;
}

// Write what remains; ask for EPOLLOUT where the socket is full. Returns -1 when the peer has hung up.
static inline int flush(int epoll, Connection *connection) {
    while (connection->out_size) {
        ssize_t n = send(connection->fd, connection->out, connection->out_size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EINTR) continue;
            if (errno != EAGAIN) return -1;
            want(epoll, connection, EPOLLIN | EPOLLOUT);
            return 0;
        }
        connection->out += n;
        connection->out_size -= n;
    }
    want(epoll, connection, EPOLLIN);
    return 0;
}

static inline int send_bytes(int epoll, Connection *connection, const uint8_t *data, size_t size) {
    connection->out = data;
    connection->out_size = size;
    return flush(epoll, connection);
}

// Read what there is. Returns -1 when the peer has hung up.
static inline int fill(Connection *connection) {
    size_t needed = 65536;
    if (connection->in_size >= HEADER && frame_size(connection->in) > needed) needed = frame_size(connection->in);
    if (connection->in_room < needed) {
        connection->in = realloc(connection->in, needed);
        if (!connection->in) die("realloc");
        connection->in_room = needed;
    }
    ssize_t n;
    do n = recv(connection->fd, connection->in + connection->in_size, connection->in_room - connection->in_size, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    connection->in_size += n;
    return n ? 0 : -1;
}

// The frame at the front, or NULL while it is not whole.
static inline const uint8_t *front(const Connection *connection) {
    if (connection->in_size < HEADER || connection->in_size < frame_size(connection->in)) return NULL;
    return connection->in;
}

static inline void take(Connection *connection) {
    size_t size = frame_size(connection->in);
    memmove(connection->in, connection->in + size, connection->in_size - size);
    connection->in_size -= size;
}

#endif
