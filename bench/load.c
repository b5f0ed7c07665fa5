/* Loads a POP3 server and says how much it bore: one thread, epoll, no allocation in the loop.

   load sessions PORT CLIENTS WARM SECONDS MESSAGES    connect, USER, PASS, STAT, UIDL, QUIT, each
                                                       command when the answer before is there
   load flight   PORT CLIENTS WARM SECONDS MESSAGES    the same commands in one segment
   load retrieve PORT CLIENTS WARM SECONDS MESSAGES    RETR 1 to MESSAGES and STAT in one flight,
                                                       and again; in the first one ends are counted

   Client N logs in as userN with the password "secret" from an address of its own in 127.1/16.
   What ends between WARM and WARM + SECONDS counts. The answer is one line of JSON.

   Rule of the file: any answer that is not what it must be ends the run with status 1, so that
   no figure comes from a server that says -ERR quickly. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SESSIONS, FLIGHT, RETRIEVE };
enum { GREETING, USER, PASS, STAT, UIDL, QUIT, BODIES };

#define ROOM 65536           /* an answer to UIDL fits */
#define LUMP (1 << 20)       /* what one recv may bring of the bodies */
#define TAIL 64
#define MOST 4000000         /* latencies kept */

struct client {
    int socket, number, step;
    double begin;
    size_t have;             /* octets of the answer that is arriving */
    size_t sent;             /* octets of the flight of RETRs that are on their way */
    long ends;               /* terminators seen in the first round; then -1 */
    size_t end_size;
    char end[TAIL];          /* what ends a round: a terminator, and what STAT is answered */
    char tail[TAIL];         /* the last octets */
    char *answer;
};

static int mode, epoll, messages, port;
static double now, from, until;
static uint64_t octets, finished, total;
static uint32_t *latencies;
static char *flight, *lump;
static size_t flight_size;

static double clock_now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void fail(struct client *c, const char *what) {
    size_t shown = c->have > 200 ? 200 : c->have;
    fprintf(stderr, "client %d, step %d: %s: %.*s\n", c->number, c->step, what, (int)shown,
            c->answer);
    exit(1);
}

static void interest(struct client *c, uint32_t events, int how) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(epoll, how, c->socket, &event);
}

static void start(struct client *c) {
    struct sockaddr_in here = {.sin_family = AF_INET}, there = {.sin_family = AF_INET};
    int on = 1;
    here.sin_addr.s_addr = htonl(0x7f010001u + (c->number / 250 << 8) + c->number % 250);
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    there.sin_port = htons(port);
    c->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(c->socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (c->socket < 0 || bind(c->socket, (void *)&here, sizeof here)) fail(c, strerror(errno));
    c->step = GREETING;
    c->have = c->sent = c->ends = 0;
    c->begin = clock_now();
    if (connect(c->socket, (void *)&there, sizeof there) && errno != EINPROGRESS)
        fail(c, strerror(errno));
    interest(c, EPOLLIN, EPOLL_CTL_ADD);
}

static void say(struct client *c, const char *text, size_t size) {
    if (send(c->socket, text, size, MSG_NOSIGNAL) != (ssize_t)size) fail(c, "cannot send");
}

static void ask(struct client *c, int step) {
    char line[64];
    int size = 0;
    c->step = step;
    c->have = 0;
    if (step == USER) size = sprintf(line, "USER user%d\r\n", c->number);
    if (step == PASS) size = sprintf(line, "PASS secret\r\n");
    if (step == STAT) size = sprintf(line, "STAT\r\n");
    if (step == UIDL) size = sprintf(line, "UIDL\r\n");
    if (step == QUIT) size = sprintf(line, "QUIT\r\n");
    say(c, line, size);
}

static void ask_all(struct client *c) {
    char lines[128];
    c->step = QUIT;
    c->have = 0;
    say(c, lines, sprintf(lines, "USER user%d\r\nPASS secret\r\nSTAT\r\nUIDL\r\nQUIT\r\n",
                          c->number));
}

/* Whether `text` holds `lines` lines. */
static int has_lines(const char *text, size_t size, int lines) {
    int found = 0;
    for (const char *end = text + size; (text = memchr(text, '\n', end - text)); text++) found++;
    return found == lines;
}

static int answered(struct client *c) {
    if (c->have < 3) return 0;
    if (memcmp(c->answer, "+OK", 3)) fail(c, "refused");
    if (c->answer[c->have - 1] != '\n') return 0;
    if (mode == FLIGHT && c->step == QUIT) {
        if (c->have == ROOM || has_lines(c->answer, c->have, messages + 7)) fail(c, "too much");
        return has_lines(c->answer, c->have, messages + 6);
    }
    if (c->step != UIDL) return 1;
    if (c->have < 5 || memcmp(c->answer + c->have - 5, "\r\n.\r\n", 5)) return 0;
    if (!has_lines(c->answer, c->have, messages + 2)) fail(c, "not so many messages");
    return 1;
}

static void count_session(struct client *c) {
    now = clock_now();
    if (now >= from && now < until && finished < MOST)
        latencies[finished++] = (now - c->begin) * 1e6;
    total++;
    close(c->socket);
    start(c);
}

/* The flight of RETRs, as far as the socket takes it. */
static void ask_bodies(struct client *c) {
    ssize_t size = send(c->socket, flight + c->sent, flight_size - c->sent, MSG_NOSIGNAL);
    if (size < 0 && errno != EAGAIN) fail(c, strerror(errno));
    if (size > 0) c->sent += size;
    interest(c, c->sent < flight_size ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

static void round_begins(struct client *c) {
    if (c->step == STAT) {
        c->end_size = 5 + c->have;
        if (c->end_size > TAIL) fail(c, "a long answer to STAT");
        memcpy(c->end, "\r\n.\r\n", 5);
        memcpy(c->end + 5, c->answer, c->have);
    }
    c->step = BODIES;
    c->have = c->sent = 0;
    memset(c->tail, 0, TAIL);
    ask_bodies(c);
}

/* Ends of answers; what is cut in two is found in the seam. No line of the mail says -ERR. */
static void look_for_ends(struct client *c, const char *text, size_t size) {
    int begins = size > 5 && c->tail[TAIL - 1] == '\n' && !memcmp(text, "-ERR ", 5);
    if (begins || memmem(text, size, "\n-ERR ", 6)) fail(c, "not so many messages");
    char seam[8];
    size_t first = size < 4 ? size : 4;
    memcpy(seam, c->tail + TAIL - 4, 4);
    memcpy(seam + 4, text, first);
    if (memmem(seam, 4 + first, "\r\n.\r\n", 5)) c->ends++;
    for (const char *end = text + size; (text = memmem(text, end - text, "\r\n.\r\n", 5)); text += 5)
        c->ends++;
}

static void keep_tail(struct client *c, const char *text, size_t size) {
    size_t kept = size < TAIL ? TAIL - size : 0;
    memmove(c->tail, c->tail + TAIL - kept, kept);
    memcpy(c->tail + kept, text + size - (TAIL - kept), TAIL - kept);
}

static void take_bodies(struct client *c) {
    ssize_t size = recv(c->socket, lump, LUMP, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) fail(c, "the server has left");
    now = clock_now();
    if (now >= from && now < until) octets += size;
    if (c->ends >= 0) look_for_ends(c, lump, size);
    keep_tail(c, lump, size);
    if (memcmp(c->tail + TAIL - c->end_size, c->end, c->end_size)) return;
    if (c->ends >= 0 && c->ends != messages) fail(c, "not so many messages");
    c->ends = -1;
    total += messages;
    round_begins(c);
}

static void take(struct client *c) {
    if (c->step == BODIES) {
        take_bodies(c);
        return;
    }
    ssize_t size = recv(c->socket, c->answer + c->have, ROOM - c->have, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) fail(c, "the server has left");
    c->have += size;
    if (!answered(c)) return;
    if (mode == RETRIEVE && c->step == STAT) round_begins(c);
    else if (mode == RETRIEVE && c->step == PASS) ask(c, STAT);
    else if (mode == FLIGHT && c->step == GREETING) ask_all(c);
    else if (c->step == QUIT) count_session(c);
    else ask(c, c->step + 1);
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void make_flight(void) {
    flight = malloc(messages * 16 + 16);
    for (int number = 1; number <= messages; number++)
        flight_size += sprintf(flight + flight_size, "RETR %d\r\n", number);
    flight_size += sprintf(flight + flight_size, "STAT\r\n");
}

static void print_figures(double seconds) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
                 (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    qsort(latencies, finished, sizeof *latencies, by_value);
    printf("{\"sessions\": %lu, \"octets\": %lu, \"seconds\": %.6f, \"total\": %lu, \"cpu\": %.3f, "
           "\"p50\": %.6f, \"p99\": %.6f, \"most\": %.6f}\n",
           finished, octets, seconds, total, cpu, finished ? latencies[finished / 2] / 1e6 : 0,
           finished ? latencies[finished * 99 / 100] / 1e6 : 0,
           finished ? latencies[finished - 1] / 1e6 : 0);
}

int main(int count, char **words) {
    struct epoll_event events[256];
    if (count != 7) return 2;
    mode = words[1][0] == 's' ? SESSIONS : words[1][0] == 'f' ? FLIGHT : RETRIEVE;
    port = atoi(words[2]);
    messages = atoi(words[6]);
    int clients = atoi(words[3]);
    struct client *all = calloc(clients, sizeof *all);
    latencies = malloc(MOST * sizeof *latencies);
    lump = malloc(LUMP);
    epoll = epoll_create1(0);
    make_flight();
    from = clock_now() + atof(words[4]);
    until = from + atof(words[5]);
    for (int number = 0; number < clients; number++) {
        all[number].number = number;
        all[number].answer = malloc(ROOM);
        start(&all[number]);
    }
    while ((now = clock_now()) < until) {
        int ready = epoll_wait(epoll, events, 256, (until - now) * 1000 + 1);
        for (int each = 0; each < ready; each++) {
            struct client *c = events[each].data.ptr;
            if (events[each].events & EPOLLOUT) ask_bodies(c);
            if (events[each].events & ~EPOLLOUT) take(c);
        }
    }
    print_figures(until - from);
    return 0;
}
