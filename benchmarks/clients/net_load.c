/* Round trips over TCP or UDP: on each of many connections, a request goes out and, once the whole answer is back and
 * has been compared byte for byte, the next one.
 *
 * usage: net_load tcp|udp PORT CONNECTIONS SECONDS REQUEST ANSWER
 *
 * REQUEST and ANSWER are files.  Prints "report COUNT SECONDS"; a wrong answer, an end or an error is told on standard
 * error, and the exit status is 1.  A datagram that is lost is sent again after a while; more than one in a thousand is
 * an error.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS = 256,
    READ_BYTES = 256 << 10,
    RESEND_MS = 200, /* far beyond any answer on loopback, so what is not back by then is lost */
};

struct connection {
    int fd;
    size_t sent, received;
    double since;
};

static char *request, *answer;
static size_t request_bytes, answer_bytes;
static char input[READ_BYTES];
static int datagrams;
static unsigned long long count, lost;

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, errno ? ": %s\n" : "\n", strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static char *load(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die("%s", path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*size + 1);
    if (data == NULL || fread(data, 1, *size, file) != *size)
        die("%s", path);
    fclose(file);
    return data;
}

static void send_on(struct connection *each) {
    while (each->sent < request_bytes || (request_bytes == 0 && each->sent == 0)) {
        ssize_t sent = send(each->fd, request + each->sent, request_bytes - each->sent, MSG_NOSIGNAL);
        if (sent >= 0) {
            each->sent += (size_t)sent;
            if (request_bytes == 0)
                return;
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            die("send");
        }
    }
}

static void start(struct connection *each) {
    each->sent = each->received = 0;
    if (datagrams)
        each->since = now();
    send_on(each);
}

static void receive(struct connection *each) {
    for (;;) {
        ssize_t got = recv(each->fd, input, sizeof input, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got < 0)
            die("receive");
        if (got == 0 && !datagrams) {
            errno = 0;
            die("the server has ended a connection");
        }
        if (datagrams ? (size_t)got != answer_bytes : each->received + (size_t)got > answer_bytes) {
            errno = 0;
            die("an answer of %zu bytes in place of %zu", each->received + (size_t)got, answer_bytes);
        }
        if (memcmp(input, answer + each->received, (size_t)got) != 0) {
            errno = 0;
            die("a wrong answer");
        }
        each->received += (size_t)got;
        if (each->received == answer_bytes) {
            count++;
            start(each);
            if (!datagrams)
                return; /* the answer was all there was; the next edge brings the next one */
        }
        if ((size_t)got < sizeof input && !datagrams)
            return;
    }
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: net_load tcp|udp PORT CONNECTIONS SECONDS REQUEST ANSWER\n");
        return 2;
    }
    datagrams = strcmp(argv[1], "udp") == 0;
    int connections = atoi(argv[3]);
    double seconds = atof(argv[4]);
    request = load(argv[5], &request_bytes);
    answer = load(argv[6], &answer_bytes);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((unsigned short)atoi(argv[2])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int epoll = epoll_create1(0);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    for (int i = 0; i < connections; i++) {
        int on = 1, fd = socket(AF_INET, datagrams ? SOCK_DGRAM : SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
            die("connect");
        if (!datagrams)
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        all[i].fd = fd;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &all[i]};
        struct epoll_event level = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, datagrams ? &level : &event) < 0)
            die("epoll_ctl");
    }
    for (int i = 0; i < connections; i++) {
        if (fcntl(all[i].fd, F_SETFL, O_NONBLOCK) < 0) /* from here on, nothing waits */
            die("fcntl");
        start(&all[i]);
    }
    double began = now(), checked = began, time = began;
    struct epoll_event ready[EVENTS];
    while ((time = now()) - began < seconds) {
        int events = epoll_wait(epoll, ready, EVENTS, datagrams ? 50 : 1000);
        if (events < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < events; i++) {
            struct connection *each = ready[i].data.ptr;
            if (ready[i].events & EPOLLOUT && each->sent < request_bytes)
                send_on(each);
            if (ready[i].events & ~(unsigned int)EPOLLOUT)
                receive(each);
        }
        if (datagrams && time - checked > 0.05) {
            checked = time;
            for (int i = 0; i < connections; i++)
                if (time - all[i].since > RESEND_MS / 1e3) {
                    lost++;
                    start(&all[i]);
                }
        }
    }
    if (lost > count / 1000 + 1) {
        errno = 0;
        die("%llu datagrams of %llu were lost", lost, count);
    }
    printf("report %llu %.6f\n", count, time - began);
    return 0;
}
