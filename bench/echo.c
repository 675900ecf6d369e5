// SPDX-License-Identifier: Apache-2.0
// The baseline: a single-threaded epoll server that answers each frame with a canned reply that has the id of the call.
// With --ask it first asks for the body, as a runner would whose plugin reads it.
//
//   echo --socket PATH --prepared FRAME --reply FRAME --id-at N --reply-id-at N [--ask FRAME]
#include "frame.h"

#include <getopt.h>

static Bytes prepared, reply, ask;
static size_t id_at, reply_id_at;

// Every connection keeps its call's reply until it is written.
typedef struct {
    Connection io;
    uint8_t reply[];
} Peer;

static int answer(int epoll, Peer *peer, const uint8_t *frame) {
    switch (frame[0]) {
    case PREPARE_CONF:
        return send_bytes(epoll, &peer->io, prepared.data, prepared.size);
    case HTTP_REQ_CALL:
    case HTTP_RESP_CALL:
        if (frame_size(frame) < id_at + 4) return -1;
        memcpy(peer->reply + reply_id_at, frame + id_at, 4);
        if (ask.size) return send_bytes(epoll, &peer->io, ask.data, ask.size);
        return send_bytes(epoll, &peer->io, peer->reply, reply.size);
    case EXTRA_INFO:
        return send_bytes(epoll, &peer->io, peer->reply, reply.size);
    }
    return -1;
}

static int serve(int epoll, Peer *peer, uint32_t events) {
    if (events & EPOLLOUT && flush(epoll, &peer->io)) return -1;
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return 0;
    if (fill(&peer->io)) return -1;
    const uint8_t *frame;
    while (!peer->io.out_size && (frame = front(&peer->io))) {
        if (answer(epoll, peer, frame)) return -1;
        take(&peer->io);
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *path = NULL;
    static const struct option options[] = {
        {"socket", 1, 0, 's'}, {"prepared", 1, 0, 'p'},    {"reply", 1, 0, 'r'}, {"ask", 1, 0, 'a'},
        {"id-at", 1, 0, 'i'},  {"reply-id-at", 1, 0, 'j'}, {0},
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (option) {
        case 's': path = optarg; break;
        case 'p': prepared = read_file(optarg); break;
        case 'r': reply = read_file(optarg); break;
        case 'a': ask = read_file(optarg); break;
        case 'i': id_at = strtoul(optarg, NULL, 10); break;
        case 'j': reply_id_at = strtoul(optarg, NULL, 10); break;
        default: return 2;
        }
    if (!path || !prepared.size || reply.size < reply_id_at + 4) {
        fprintf(stderr, "usage: echo --socket PATH --prepared FRAME --reply FRAME --id-at N --reply-id-at N [--ask FRAME]\n");
        return 2;
    }
    struct sockaddr_un address = address_of(path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) die(path);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event)) die("epoll");
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            Peer *peer = events[i].data.ptr;
            if (peer) {
                if (serve(epoll, peer, events[i].events)) {
                    close(peer->io.fd);
                    free(peer->io.in);
                    free(peer);
                }
                continue;
            }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd < 0) continue;
            peer = calloc(1, sizeof *peer + reply.size);
            if (!peer) die("calloc");
            peer->io.fd = fd;
            memcpy(peer->reply, reply.data, reply.size);
            want(epoll, &peer->io, EPOLLIN);
        }
    }
}
