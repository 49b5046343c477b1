/* The floor: what the kernel alone asks for one HTTP answer.
 *
 * One thread, one epoll, one canned answer.  A request is whatever ends in CRLFCRLF; nothing else of it is
 * looked at.  All the requests of one read are answered by one write.  No server that parses, routes or calls
 * a handler can be cheaper, so every other figure is quoted as a multiple of this one.
 *
 * usage: floor [--close] [--port P]     prints "port N" when it listens, ends on SIGTERM
 *
 * With --close every answer is the last one of its connection, and says so.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD                                                                                                 \
    "HTTP/1.1 200 OK\r\n"                                                                                    \
    "Content-Type: text/plain; charset=utf-8\r\n"                                                            \
    "Content-Length: 13\r\n"
#define BODY "\r\nHello, World!"
#define ANSWER HEAD BODY
#define LAST_ANSWER HEAD "Connection: close\r\n" BODY

enum {
    EVENTS = 256,          /* more than the connections of the usual run, so one wait takes them all */
    READ_BYTES = 64 << 10, /* one read takes any pipeline that fits a socket buffer's first load */
    BATCH = 512,           /* answers kept ready side by side, for one write */
    MAX_FD = 65536,
};

static unsigned char matched[MAX_FD]; /* per descriptor: how much of CRLFCRLF the bytes so far end in */
static char input[READ_BYTES];
static char answers[BATCH * sizeof LAST_ANSWER];
static size_t answer_bytes;
static int closing; /* after each answer */

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void on_term(int number) {
    (void)number;
    _exit(0);
}

/* Requests that end within these bytes; a terminator split over two reads counts in the second. */
static size_t count_ends(const char *data, size_t length, unsigned char *state) {
    size_t ends = 0, at = 0;
    while (at < length) {
        if (*state == 0) { /* memchr is the fastest way to the next candidate */
            const char *cr = memchr(data + at, '\r', length - at);
            if (cr == NULL)
                break;
            at = (size_t)(cr - data) + 1;
            *state = 1;
            continue;
        }
        char c = data[at++];
        if (c == "\r\n\r\n"[*state]) {
            if (++*state == 4) {
                ends++;
                *state = 0;
            }
        } else {
            *state = c == '\r';
        }
    }
    return ends;
}

/* The client of a benchmark always reads on, so waiting for it here costs nothing and needs no queue. */
static int send_all(int fd, const char *data, size_t length) {
    while (length > 0) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent >= 0) {
            data += sent;
            length -= (size_t)sent;
        } else if (errno == EAGAIN) {
            struct pollfd writable = {.fd = fd, .events = POLLOUT};
            if (poll(&writable, 1, 1000) <= 0)
                return -1;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

/* Edge-triggered: a read shorter than the buffer proves the socket empty (epoll(7)), unless the peer has also
 * ended its side; then one has to read on to the end, for no further edge will come. */
static void on_readable(int fd, unsigned int events) {
    for (;;) {
        ssize_t got = recv(fd, input, sizeof input, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0)
            break;
        size_t due = count_ends(input, (size_t)got, &matched[fd]);
        if (closing && due > 0) {
            send_all(fd, answers, answer_bytes);
            break;
        }
        while (due > 0) {
            size_t now = due < BATCH ? due : BATCH;
            if (send_all(fd, answers, now * answer_bytes) < 0)
                goto closed;
            due -= now;
        }
        if ((size_t)got < sizeof input && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
            return;
    }
closed:
    close(fd);
}

static void on_acceptable(int listener, int epoll) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        matched[fd] = 0;
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            close(fd);
    }
}

int main(int argc, char **argv) {
    unsigned short port = 0;
    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--close") == 0)
            closing = 1;
        else if (strcmp(argv[at], "--port") == 0 && at + 1 < argc)
            port = (unsigned short)atoi(argv[++at]);
    }
    signal(SIGTERM, on_term);
    const char *answer = closing ? LAST_ANSWER : ANSWER;
    answer_bytes = strlen(answer);
    for (size_t i = 0; i < BATCH; i++)
        memcpy(answers + i * answer_bytes, answer, answer_bytes);

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (listener < 0)
        die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) < 0)
        die("bind");
    if (listen(listener, 1024) < 0)
        die("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        die("getsockname");

    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        die("epoll_create1");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0)
        die("epoll_ctl");
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);

    struct epoll_event ready[EVENTS];
    for (;;) {
        int count = epoll_wait(epoll, ready, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd == listener)
                on_acceptable(listener, epoll);
            else
                on_readable(ready[i].data.fd, ready[i].events);
        }
    }
}
