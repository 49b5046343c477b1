/* Accept from, receive from and send to a non-blocking socket: the twins of the functions in `_io_py`.
 *
 * What they save is what the socket module does around the system call: parsing arguments, letting go of the GIL and
 * taking it again for a call that never waits, and an exception where nothing has arrived. They keep no state. */

#define _GNU_SOURCE /* accept4 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* Python ignores SIGPIPE by itself */
#endif

#define RECEIVE_BYTES 65536 /* as `Loop.read_buffer`: a shorter read proves that the socket is empty */

static int fd_of(PyObject *number)
{
    long fd = PyLong_AsLong(number);
    if (fd == -1 && PyErr_Occurred())
        return -1;
    if (fd < 0) {
        errno = EBADF;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return (int)fd;
}

/* After a call that failed: 1 to make it again, 0 when it would have waited, -1 with an exception. */
static int again(void)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return 0;
    if (errno == EINTR)
        return PyErr_CheckSignals() < 0 ? -1 : 1;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* receive(socket, fd, buffer) -> bytes, b"" at the end of the stream, None when nothing has arrived */
static PyObject *receive(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "receive() takes 3 arguments");
        return NULL;
    }
    int fd = fd_of(args[1]);
    if (fd < 0)
        return NULL;
    char buffer[RECEIVE_BYTES];
    int more;
    do {
        ssize_t count = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (count >= 0)
            return PyBytes_FromStringAndSize(buffer, count);
        more = again();
    } while (more > 0);
    return more < 0 ? NULL : Py_NewRef(Py_None);
}

/* send(socket, fd, data) -> bytes taken, -1 when there is no room */
static PyObject *send_some(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "send() takes 3 arguments");
        return NULL;
    }
    int fd = fd_of(args[1]);
    if (fd < 0)
        return NULL;
    Py_buffer data;
    if (PyObject_GetBuffer(args[2], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    ssize_t count;
    int more;
    do {
        count = send(fd, data.buf, (size_t)data.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        more = count < 0 ? again() : 0;
    } while (more > 0);
    PyBuffer_Release(&data);
    return more < 0 ? NULL : PyLong_FromSsize_t(count);
}

/* accept(2) for a socket that neither blocks nor is handed down to other programs. */
static int accept_one(int listener, struct sockaddr_storage *peer, socklen_t *size)
{
#if defined(__linux__) || defined(__FreeBSD__)
    return accept4(listener, (struct sockaddr *)peer, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    int fd = accept(listener, (struct sockaddr *)peer, size);
    if (fd >= 0 && (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)) {
        int number = errno;
        close(fd);
        errno = number;
        return -1;
    }
    return fd;
#endif
}

/* accept(listener, fd) -> (fd, the peer's address for `address`), None when nobody waits */
static PyObject *accept_waiting(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "accept() takes 2 arguments");
        return NULL;
    }
    int listener = fd_of(args[1]);
    if (listener < 0)
        return NULL;
    struct sockaddr_storage peer;
    int more;
    do {
        socklen_t size = sizeof peer;
        int fd = accept_one(listener, &peer, &size);
        if (fd >= 0) {
            PyObject *result = Py_BuildValue("iy#", fd, (char *)&peer, (Py_ssize_t)(size < sizeof peer ? size : sizeof peer));
            if (result == NULL)
                close(fd);
            return result;
        }
        more = again();
    } while (more > 0);
    return more < 0 ? NULL : Py_NewRef(Py_None);
}

/* unix(7): the name of an abstract socket is as long as it is said to be, a path ends with a NUL or at the end. */
static PyObject *path_of(const struct sockaddr_un *name, size_t size)
{
    size_t length = size > offsetof(struct sockaddr_un, sun_path) ? size - offsetof(struct sockaddr_un, sun_path) : 0;
    if (length > sizeof name->sun_path)
        length = sizeof name->sun_path;
    if (length > 0 && name->sun_path[0] != 0)
        length = strnlen(name->sun_path, length);
#ifndef __linux__
    else
        length = 0;
#endif
    return PyUnicode_DecodeFSDefaultAndSize(name->sun_path, (Py_ssize_t)length);
}

/* address(what accept has given) -> (host, port), or the path of a Unix socket */
static PyObject *address(PyObject *module, PyObject *raw)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un path;
        struct sockaddr_storage storage;
    } peer;
    char *bytes, host[INET6_ADDRSTRLEN];
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(raw, &bytes, &size) < 0)
        return NULL;
    memset(&peer, 0, sizeof peer);
    memcpy(&peer, bytes, (size_t)size < sizeof peer ? (size_t)size : sizeof peer);
    if (peer.any.sa_family == AF_INET && inet_ntop(AF_INET, &peer.v4.sin_addr, host, sizeof host) != NULL)
        return Py_BuildValue("si", host, (int)ntohs(peer.v4.sin_port));
    if (peer.any.sa_family == AF_INET6 && inet_ntop(AF_INET6, &peer.v6.sin6_addr, host, sizeof host) != NULL)
        return Py_BuildValue("si", host, (int)ntohs(peer.v6.sin6_port));
    return path_of(&peer.path, peer.any.sa_family == AF_UNIX ? (size_t)size : 0);
}

static PyMethodDef methods[] = {
    {"accept", (PyCFunction)(void (*)(void))accept_waiting, METH_FASTCALL, NULL},
    {"address", address, METH_O, NULL},
    {"receive", (PyCFunction)(void (*)(void))receive, METH_FASTCALL, NULL},
    {"send", (PyCFunction)(void (*)(void))send_some, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "nimloop_net._io_c",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__io_c(void)
{
    return PyModuleDef_Init(&definition);
}
