/* The floor of the network benchmarks: what the kernel alone asks for.
 *
 * One thread, one epoll.  TCP: what is received is sent back, or, with a file, every byte received is answered with
 * the whole of it by sendfile.  UDP: every datagram goes back to where it came from.
 *
 * usage: echo [--udp] [--file PATH] [--port P]     prints "port N" when it listens, ends on SIGTERM
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    EVENTS = 256,
    READ_BYTES = 64 << 10,
};

static char input[READ_BYTES];
static int file = -1;
static off_t file_bytes;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void on_term(int number) {
    (void)number;
    _exit(0);
}

/* The client of a benchmark always reads on, so waiting for it here costs nothing and needs no queue. */
static int wait_for_room(int fd) {
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    return poll(&writable, 1, 1000) > 0 ? 0 : -1;
}

static int send_all(int fd, const char *data, size_t length) {
    while (length > 0) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent >= 0) {
            data += sent;
            length -= (size_t)sent;
        } else if (errno == EAGAIN ? wait_for_room(fd) < 0 : errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

static int send_file(int fd) {
    off_t at = 0;
    while (at < file_bytes) {
        ssize_t sent = sendfile(fd, file, &at, (size_t)(file_bytes - at));
        if (sent <= 0 && (errno == EAGAIN ? wait_for_room(fd) < 0 : errno != EINTR))
            return -1;
    }
    return 0;
}

/* Edge-triggered: a read shorter than the buffer proves the socket empty (epoll(7)). */
static void on_readable(int fd, unsigned int events) {
    for (;;) {
        ssize_t got = recv(fd, input, sizeof input, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0)
            break;
        if (file < 0) {
            if (send_all(fd, input, (size_t)got) < 0)
                break;
        } else {
            int failed = 0;
            for (ssize_t i = 0; i < got && !failed; i++)
                failed = send_file(fd) < 0;
            if (failed)
                break;
        }
        if ((size_t)got < sizeof input && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
            return;
    }
    close(fd);
}

static void on_acceptable(int listener, int epoll) {
    for (;;) {
        int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            close(fd);
    }
}

static void on_datagrams(int fd) {
    for (;;) {
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        ssize_t got = recvfrom(fd, input, sizeof input, 0, (struct sockaddr *)&from, &size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return;
        sendto(fd, input, (size_t)got, 0, (struct sockaddr *)&from, size);
    }
}

int main(int argc, char **argv) {
    unsigned short port = 0;
    int udp = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--udp") == 0)
            udp = 1;
        else if (strcmp(argv[i], "--port") == 0 && i + 1 < argc)
            port = (unsigned short)atoi(argv[++i]);
        else if (strcmp(argv[i], "--file") == 0 && i + 1 < argc)
            file = open(argv[++i], O_RDONLY | O_CLOEXEC);
    }
    struct stat status;
    if (file >= 0 && fstat(file, &status) == 0)
        file_bytes = status.st_size;
    signal(SIGTERM, on_term);
    signal(SIGPIPE, SIG_IGN); /* sendfile has no MSG_NOSIGNAL */
    int fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        die("socket");
    if (!udp)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(fd, (struct sockaddr *)&address, size) < 0)
        die("bind");
    if (!udp && listen(fd, 1024) < 0)
        die("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        die("getsockname");
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll");
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);

    struct epoll_event ready[EVENTS];
    for (;;) {
        int count = epoll_wait(epoll, ready, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd != fd)
                on_readable(ready[i].data.fd, ready[i].events);
            else if (udp)
                on_datagrams(fd);
            else
                on_acceptable(fd, epoll);
        }
    }
}
