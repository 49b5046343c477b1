/* A WebSocket client that makes a server work: ws_load PORT CONNECTIONS SECONDS PATH FRAME EXTENSIONS MODE
 *
 * Opens the connections, sends the bytes of the file FRAME, one masked frame, on each, waits for one frame in answer,
 * and so on. EXTENSIONS is the value of Sec-WebSocket-Extensions, or empty. MODE is `echo`, or `broadcast`: then only
 * the first connection sends, and once all have got the message. Every answer must be the same frame, byte for byte, as
 * the first one. Prints "report COUNT SECONDS", COUNT being the frames that came in; ends with 1 and a message when
 * anything went wrong. One thread, one epoll; as little work per message as possible, so that the server is the slower. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BIGGEST (16 << 20)

typedef struct {
    int fd;
    size_t to_send; /* bytes of the frame that are still to go */
    size_t got;     /* bytes of the answer that have come */
} Connection;

static Connection *connections;
static int count, broadcast, epoll_fd;
static char *frame, *expected;
static size_t frame_size, expected_size;
static long long messages;
static int waiting; /* connections that have not got the message of this round */

static void fail(const char *why)
{
    fprintf(stderr, "ws_load: %s\n", why);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    frame = malloc(BIGGEST);
    if (file == NULL || frame == NULL)
        fail("cannot read the frame");
    frame_size = fread(frame, 1, BIGGEST, file);
    fclose(file);
}

/* The size of a frame of a server, header included; 0 while the header is incomplete. */
static size_t size_of(const unsigned char *at, size_t got)
{
    if (got < 2)
        return 0;
    size_t length = at[1] & 127;
    if (at[1] & 128)
        fail("a masked frame");
    if (length < 126)
        return length + 2;
    size_t bytes = length == 126 ? 2 : 8;
    if (got < 2 + bytes)
        return 0;
    length = 0;
    for (size_t i = 0; i < bytes; i++)
        length = length << 8 | at[2 + i];
    return length + 2 + bytes;
}

static void open_one(Connection *each, int port, const char *path, const char *extensions)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;
    char text[2048];
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    each->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (each->fd < 0 || connect(each->fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail(strerror(errno));
    setsockopt(each->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int size = snprintf(text, sizeof text,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                        path, port, *extensions ? "Sec-WebSocket-Extensions: " : "", extensions, *extensions ? "\r\n" : "");
    if (write(each->fd, text, size) != size)
        fail("cannot send the handshake");
    size_t got = 0;
    do { /* byte by byte: a frame may follow */
        if (got == sizeof text - 1 || read(each->fd, text + got, 1) != 1)
            fail("no answer to the handshake");
        text[++got] = 0;
    } while (got < 4 || memcmp(text + got - 4, "\r\n\r\n", 4));
    if (strncmp(text, "HTTP/1.1 101 ", 13))
        fail(text);
    if (*extensions && !strcasestr(text, "permessage-deflate"))
        fail("the server does not compress");
}

static void send_some(Connection *each)
{
    while (each->to_send) {
        ssize_t sent = send(each->fd, frame + frame_size - each->to_send, each->to_send, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN)
            return;
        if (sent <= 0)
            fail("the connection broke while sending");
        each->to_send -= sent;
    }
}

static void begin(Connection *each)
{
    each->to_send = frame_size;
    send_some(each);
}

static void complete(Connection *each)
{
    each->got = 0;
    messages++;
    if (!broadcast) {
        begin(each);
    } else if (--waiting == 0) {
        waiting = count;
        begin(&connections[0]);
    }
}

static void receive_some(Connection *each)
{
    static char buffer[1 << 18];
    for (;;) {
        ssize_t got = recv(each->fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0)
            fail("the server closed the connection");
        /* The answer is the expected one, and nothing follows it before the next message was sent. */
        if (each->got + got > expected_size || memcmp(expected + each->got, buffer, got))
            fail("a wrong answer");
        each->got += got;
        if (each->got == expected_size)
            complete(each);
        if ((size_t)got < sizeof buffer)
            return;
    }
}

/* The first answer, which all others have to equal. */
static void learn(Connection *from)
{
    size_t got = 0, size = 0;
    expected = malloc(BIGGEST);
    from->to_send = frame_size;
    while (size == 0 || got < size) {
        send_some(from);
        ssize_t more = recv(from->fd, expected + got, BIGGEST - got, from->to_send ? MSG_DONTWAIT : 0);
        if (more < 0 && errno == EAGAIN)
            continue;
        if (more <= 0)
            fail("no answer");
        got += more;
        size = size_of((unsigned char *)expected, got);
    }
    if (got != size)
        fail("more than one frame");
    expected_size = size;
    for (int i = 1; broadcast && i < count; i++) /* the others got it as well */
        for (got = 0; got < size; got += recv(connections[i].fd, frame + BIGGEST / 2, size - got, MSG_WAITALL))
            ;
}

int main(int argc, char **argv)
{
    if (argc != 8)
        fail("PORT CONNECTIONS SECONDS PATH FRAME EXTENSIONS MODE");
    count = atoi(argv[2]);
    double seconds = atof(argv[3]);
    read_file(argv[5]);
    broadcast = !strcmp(argv[7], "broadcast");
    if (frame_size > BIGGEST / 2)
        fail("the frame is too large");
    connections = calloc(count, sizeof *connections);
    for (int i = 0; i < count; i++)
        open_one(&connections[i], atoi(argv[1]), argv[4], argv[6]);
    learn(&connections[0]);
    epoll_fd = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &connections[i]};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connections[i].fd, &event);
    }
    double began = now();
    waiting = count;
    for (int i = 0; i < (broadcast ? 1 : count); i++)
        begin(&connections[i]);
    struct epoll_event events[256];
    while (now() < began + seconds) {
        int ready = epoll_wait(epoll_fd, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            Connection *each = events[i].data.ptr;
            if (each->to_send)
                send_some(each);
            if (events[i].events & EPOLLIN)
                receive_some(each);
        }
    }
    printf("report %lld %f\n", messages, now() - began);
    return 0;
}
