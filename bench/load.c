// SPDX-License-Identifier: Apache-2.0
// A closed-loop gateway: each connection has one call in flight, and makes the next one as soon as it is answered.
// Every reply's type and id are checked. What it saw is printed as one JSON object.
//
//   load --socket PATH --prepare FRAMES --call FRAME --id-at N --token-at N [--body FRAME]
//        [--connections N] [--idle N] [--seconds S] [--warmup S] [--warmup-calls N] [--sleep] [--cpu-of PID]...
//
// Several frames in the prepare file are that many routes: the calls use their tokens in turn.
// The warm-up lasts --warmup seconds and until --warmup-calls calls are answered, so that each route can be used once before it counts.
// --sleep waits for replies instead of looking for them all the time: for servers that need both cores.
// --cpu-of adds up the processor time of a process's threads, read at the two ends of the measured time.
#include "frame.h"

#include <dirent.h>
#include <getopt.h>
#include <sys/resource.h>
#include <time.h>

enum { MAX_PIDS = 64, LONGEST_WARMUP_S = 60 };

typedef struct {
    Connection io;
    uint8_t *call;
    uint32_t id;
    uint64_t sent_ns;
} Caller;

static Bytes prepare, call, body;
static size_t id_at, token_at;
static uint32_t *tokens, token_count, next_token, next_id = 1;
static uint64_t asks, errors, answered;
static uint32_t *latencies_ns;
static size_t latency_count, latency_capacity;
static Bytes sample;  // the first reply, for the caller to look at
static int measuring, sleeps;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void bad(const char *what) {
    errno = 0;
    die(what);
}

// The scalar in the first slot of a FlatBuffer's root table, 0 where it is absent.
static uint32_t first_field(const uint8_t *frame, size_t size) {
    const uint8_t *buffer = frame + HEADER;
    uint32_t length = size - HEADER, table, value;
    int32_t back;
    uint16_t vtable_size, slot;
    if (length < 8) bad("a reply that is too short");
    memcpy(&table, buffer, 4);
    if (table > length - 4) bad("a reply that points outside");
    memcpy(&back, buffer + table, 4);
    int64_t vtable = (int64_t)table - back;
    if (vtable < 0 || vtable + 4 > length) bad("a reply that points outside");
    memcpy(&vtable_size, buffer + vtable, 2);
    if (vtable_size < 6 || vtable + 6 > length) return 0;
    memcpy(&slot, buffer + vtable + 4, 2);
    if (!slot) return 0;
    if (table + slot + 4 > length) bad("a reply that points outside");
    memcpy(&value, buffer + table + slot, 4);
    return value;
}

static int connect_to(const char *path) {
    struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) die(path);
    return fd;
}

// PrepareConf, one after the other, as the gateway does under its lock.
static void prepare_routes(const char *path) {
    Connection connection = {.fd = connect_to(path)};
    for (size_t at = 0; at < prepare.size;) {
        size_t size = frame_size(prepare.data + at);
        if (send(connection.fd, prepare.data + at, size, MSG_NOSIGNAL) != (ssize_t)size) die("PrepareConf");
        const uint8_t *frame;
        while (!(frame = front(&connection))) {
            if (fill(&connection)) die("PrepareConf's answer");
            if (!front(&connection)) usleep(50);
        }
        if (frame[0] != PREPARE_CONF) bad("PrepareConf was refused");
        tokens = realloc(tokens, (token_count + 1) * sizeof *tokens);
        if (!tokens) die("realloc");
        tokens[token_count++] = first_field(frame, frame_size(frame));
        take(&connection);
        at += size;
    }
    close(connection.fd);
    free(connection.in);
}

static void start_call(int epoll, Caller *caller) {
    caller->id = next_id++;
    if (!next_id) next_id = 1;
    memcpy(caller->call + id_at, &caller->id, 4);
    memcpy(caller->call + token_at, &tokens[next_token], 4);
    if (++next_token == token_count) next_token = 0;
    caller->sent_ns = now_ns();
    if (send_bytes(epoll, &caller->io, caller->call, call.size)) die("a connection that carries a call");
}

static void finish_call(Caller *caller, const uint8_t *frame) {
    size_t size = frame_size(frame);
    answered++;
    if (frame[0] == ERROR) {
        errors++;
    } else {
        if (frame[0] != call.data[0]) bad("a reply of another type");
        if (first_field(frame, size) != caller->id) bad("a reply to another call");
        if (!sample.size) {
            sample = (Bytes){malloc(size), size};
            if (!sample.data) die("malloc");
            memcpy(sample.data, frame, size);
        }
    }
    if (!measuring) return;
    if (latency_count == latency_capacity) {
        latency_capacity = latency_capacity ? latency_capacity * 2 : 1 << 20;
        latencies_ns = realloc(latencies_ns, latency_capacity * sizeof *latencies_ns);
        if (!latencies_ns) die("realloc");
    }
    latencies_ns[latency_count++] = now_ns() - caller->sent_ns;
}

static void serve(int epoll, Caller *caller, uint32_t events) {
    if (events & EPOLLOUT && flush(epoll, &caller->io)) die("a connection that carries a call");
    if (!(events & ~EPOLLOUT)) return;
    if (fill(&caller->io)) bad("the runner hung up");
    const uint8_t *frame;
    while ((frame = front(&caller->io))) {
        if (frame[0] == EXTRA_INFO) {
            if (!body.size) bad("an ask in a case that has no answer to it");
            asks += measuring;
            take(&caller->io);
            if (send_bytes(epoll, &caller->io, body.data, body.size)) die("a connection that carries a call");
        } else {
            finish_call(caller, frame);
            take(&caller->io);
            start_call(epoll, caller);
        }
    }
}

static void run_for(int epoll, double seconds) {
    struct epoll_event events[256];
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    while (now_ns() < end) {
        // Never sleeps unless told to: in a virtual machine, waking a process on another core costs the waker 10 us and more, and whether the load
        // sleeps depends on how fast the server is. So neither baseline nor runner pays for that.
        int count = epoll_wait(epoll, events, 256, sleeps ? 10 : 0);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) serve(epoll, events[i].data.ptr, events[i].events);
    }
}

// User and system time of all threads. Source: Linux, Documentation/scheduler/sched-stats.rst: time spent on the cpu, in ns.
static uint64_t cpu_ns(const char *pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/task", pid);
    DIR *threads = opendir(path);
    if (!threads) die(path);
    uint64_t total = 0;
    for (struct dirent *thread; (thread = readdir(threads));) {
        if (thread->d_name[0] == '.') continue;
        char name[sizeof path + sizeof thread->d_name + 16];
        unsigned long long run;
        snprintf(name, sizeof name, "%s/%s/schedstat", path, thread->d_name);
        FILE *file = fopen(name, "r");
        if (file && fscanf(file, "%llu", &run) == 1) total += run;
        if (file) fclose(file);
    }
    closedir(threads);
    return total;
}

// What the load itself costs.
static uint64_t own_cpu_ns(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000ull + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000ull;
}

static int by_size(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static double percentile_us(double share) {
    if (!latency_count) return 0;
    size_t at = share * latency_count;
    return latencies_ns[at < latency_count ? at : latency_count - 1] / 1e3;
}

int main(int argc, char **argv) {
    const char *path = NULL, *pids[MAX_PIDS];
    int connections = 16, idle = 0, pid_count = 0;
    double seconds = 2, warmup = 0.5;
    uint64_t warmup_calls = 0;
    static const struct option options[] = {
        {"socket", 1, 0, 's'},  {"prepare", 1, 0, 'p'}, {"call", 1, 0, 'c'},         {"body", 1, 0, 'b'},   {"id-at", 1, 0, 'i'},
        {"token-at", 1, 0, 't'}, {"idle", 1, 0, 'q'},   {"connections", 1, 0, 'n'},  {"seconds", 1, 0, 'd'}, {"warmup", 1, 0, 'w'},
        {"cpu-of", 1, 0, 'u'},  {"sleep", 0, 0, 'z'},   {"warmup-calls", 1, 0, 'm'}, {0},
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (option) {
        case 's': path = optarg; break;
        case 'p': prepare = read_file(optarg); break;
        case 'c': call = read_file(optarg); break;
        case 'b': body = read_file(optarg); break;
        case 'i': id_at = strtoul(optarg, NULL, 10); break;
        case 't': token_at = strtoul(optarg, NULL, 10); break;
        case 'n': connections = atoi(optarg); break;
        case 'q': idle = atoi(optarg); break;
        case 'd': seconds = atof(optarg); break;
        case 'w': warmup = atof(optarg); break;
        case 'm': warmup_calls = strtoull(optarg, NULL, 10); break;
        case 'z': sleeps = 1; break;
        case 'u':
            if (pid_count < MAX_PIDS) pids[pid_count++] = optarg;
            break;
        default: return 2;
        }
    if (!path || !prepare.size || connections < 1 || call.size < id_at + 4 || call.size < token_at + 4) {
        fprintf(stderr, "usage: load --socket PATH --prepare FRAMES --call FRAME --id-at N --token-at N [--body FRAME] [--connections N]\n"
                        "            [--idle N] [--seconds S] [--warmup S] [--warmup-calls N] [--sleep] [--cpu-of PID]...\n");
        return 2;
    }
    prepare_routes(path);
    for (int i = 0; i < idle; i++) connect_to(path);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) die("epoll_create1");
    for (int i = 0; i < connections; i++) {
        Caller *caller = calloc(1, sizeof *caller);
        if (!caller || !(caller->call = malloc(call.size))) die("malloc");
        memcpy(caller->call, call.data, call.size);
        caller->io.fd = connect_to(path);
        start_call(epoll, caller);
    }
    run_for(epoll, warmup);
    uint64_t warm_by = now_ns() + LONGEST_WARMUP_S * 1000000000ull;
    while (answered < warmup_calls && now_ns() < warm_by) run_for(epoll, 0.05);
    uint64_t cpu = 0, errors_before = errors;
    for (int i = 0; i < pid_count; i++) cpu -= cpu_ns(pids[i]);
    measuring = 1;
    uint64_t begin = now_ns(), own = own_cpu_ns();
    run_for(epoll, seconds);
    uint64_t elapsed = now_ns() - begin;
    for (int i = 0; i < pid_count; i++) cpu += cpu_ns(pids[i]);
    own = own_cpu_ns() - own;
    qsort(latencies_ns, latency_count, sizeof *latencies_ns, by_size);
    printf("{\"calls\": %zu, \"errors\": %llu, \"asks\": %llu, \"seconds\": %.6f, \"calls_per_s\": %.1f, \"cpu_us_per_call\": %.3f, \"load_us_per_call\": %.3f, "
           "\"latency_us\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f, \"max\": %.1f}, \"sample_reply\": \"",
           latency_count, (unsigned long long)(errors - errors_before), (unsigned long long)asks, elapsed / 1e9, latency_count / (elapsed / 1e9),
           latency_count ? cpu / 1e3 / latency_count : 0.0, latency_count ? own / 1e3 / latency_count : 0.0, percentile_us(0.5), percentile_us(0.9), percentile_us(0.99), percentile_us(0.999),
           percentile_us(1));
    for (size_t i = 0; i < sample.size && i < 65536; i++) printf("%02x", sample.data[i]);
    printf("\"}\n");
    return 0;
}
