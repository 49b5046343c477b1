/* Receive from and send to a non-blocking datagram socket: the twins of the functions in `_datagram_py`.
 *
 * Linux hands out a batch of datagrams in one call, which also tells that there are no more. They keep no state. */

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* Python ignores SIGPIPE by itself */
#endif

enum {
    BATCH = 16,
    DATAGRAM_BYTES = 65536, /* a length of 16 bits counts the header, too (RFC 768) */
    BUFFER_BYTES = BATCH * DATAGRAM_BYTES,
};

typedef union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} address_t;

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

/* An address as the socket module writes it. */
static PyObject *written(const address_t *address)
{
    char host[INET6_ADDRSTRLEN];
    if (address->any.sa_family == AF_INET6) {
        if (inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof host) == NULL)
            return PyErr_SetFromErrno(PyExc_OSError);
        return Py_BuildValue("(siII)", host, (int)ntohs(address->v6.sin6_port),
                             (unsigned int)ntohl(address->v6.sin6_flowinfo), (unsigned int)address->v6.sin6_scope_id);
    }
    if (inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof host) == NULL)
        return PyErr_SetFromErrno(PyExc_OSError);
    return Py_BuildValue("(si)", host, (int)ntohs(address->v4.sin_port));
}

/* The other way round, for a literal; 0 with an exception set for anything else. */
static socklen_t read_address(PyObject *given, address_t *address)
{
    Py_ssize_t size = PyTuple_Size(given);
    if (size != 2 && size != 4) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "an address has 2 or 4 items");
        return 0;
    }
    const char *host = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(given, 0), NULL);
    if (host == NULL)
        return 0;
    long port = PyLong_AsLong(PyTuple_GetItem(given, 1));
    if (port == -1 && PyErr_Occurred())
        return 0;
    memset(address, 0, sizeof *address);
    int literal;
    if (size == 4) {
        unsigned long flow = PyLong_AsUnsignedLong(PyTuple_GetItem(given, 2));
        unsigned long scope = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLong(PyTuple_GetItem(given, 3));
        if (PyErr_Occurred())
            return 0;
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = htons((unsigned short)port);
        address->v6.sin6_flowinfo = htonl((unsigned int)flow);
        address->v6.sin6_scope_id = (unsigned int)scope;
        literal = inet_pton(AF_INET6, host, &address->v6.sin6_addr);
    } else {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = htons((unsigned short)port);
        literal = inet_pton(AF_INET, host, &address->v4.sin_addr);
    }
    if (literal != 1) {
        PyErr_Format(PyExc_ValueError, "not a literal address: %R", given);
        return 0;
    }
    return size == 4 ? sizeof address->v6 : sizeof address->v4;
}

/* Returns 0, or -1 with an exception set. */
static int append(PyObject *list, PyObject *item)
{
    if (item == NULL)
        return -1;
    int result = PyList_Append(list, item);
    Py_DECREF(item);
    return result;
}

static int append_datagram(PyObject *list, const char *data, size_t size, const address_t *address)
{
    PyObject *sender = written(address);
    if (sender == NULL)
        return -1;
    return append(list, Py_BuildValue("(y#N)", data, (Py_ssize_t)size, sender));
}

static int append_error(PyObject *list)
{
    PyErr_SetFromErrno(PyExc_OSError);
    PyObject *kind, *error, *traceback;
    PyErr_Fetch(&kind, &error, &traceback);
    PyErr_NormalizeException(&kind, &error, &traceback);
    Py_XDECREF(kind);
    Py_XDECREF(traceback);
    return append(list, error);
}

/* Fill the list as far as there is something; -1 with an exception set, else 0. */
static int fill(PyObject *list, int fd, char *buffer)
{
#ifdef __linux__
    struct mmsghdr messages[BATCH];
    struct iovec pieces[BATCH];
    address_t senders[BATCH];
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){.iov_base = buffer + (size_t)i * DATAGRAM_BYTES, .iov_len = DATAGRAM_BYTES};
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = &senders[i], .msg_namelen = sizeof senders[i], .msg_iov = &pieces[i], .msg_iovlen = 1};
    }
    for (;;) {
        int count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < count; i++)
            if (append_datagram(list, buffer + (size_t)i * DATAGRAM_BYTES, messages[i].msg_len, &senders[i]) < 0)
                return -1;
        if (count >= 0 || errno == EAGAIN || errno == EWOULDBLOCK)
            return 0;
        if (errno != EINTR)
            return append_error(list);
        if (PyErr_CheckSignals() < 0)
            return -1;
    }
#else
    for (int i = 0; i < BATCH;) {
        address_t sender;
        socklen_t size = sizeof sender;
        ssize_t count = recvfrom(fd, buffer, DATAGRAM_BYTES, MSG_DONTWAIT, &sender.any, &size);
        if (count >= 0) {
            if (append_datagram(list, buffer, (size_t)count, &sender) < 0)
                return -1;
            i++;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return 0;
        } else if (errno != EINTR) {
            return append_error(list);
        } else if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
    return 0;
#endif
}

/* receive(socket, fd, buffer) -> what has arrived, each with its sender; an error comes in its turn, and last */
static PyObject *receive(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "receive() takes 3 arguments");
        return NULL;
    }
    int fd = fd_of(args[1]);
    if (fd < 0)
        return NULL;
    if (PyByteArray_Size(args[2]) < BUFFER_BYTES) {
        PyErr_SetString(PyExc_ValueError, "the buffer is too small");
        return NULL;
    }
    PyObject *list = PyList_New(0);
    if (list != NULL && fill(list, fd, PyByteArray_AsString(args[2])) < 0) {
        Py_DECREF(list);
        return NULL;
    }
    return list;
}

static PyObject *send_some(int fd, PyObject *given, const address_t *address, socklen_t size)
{
    Py_buffer data;
    if (PyObject_GetBuffer(given, &data, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *result = NULL;
    for (;;) {
        ssize_t count = sendto(fd, data.buf, (size_t)data.len, MSG_DONTWAIT | MSG_NOSIGNAL,
                               size ? &address->any : NULL, size);
        if (count >= 0 || errno == EAGAIN || errno == EWOULDBLOCK) {
            result = PyBool_FromLong(count >= 0);
            break;
        }
        if (errno != EINTR) {
            PyErr_SetFromErrno(PyExc_OSError);
            break;
        }
        if (PyErr_CheckSignals() < 0)
            break;
    }
    PyBuffer_Release(&data);
    return result;
}

/* send(socket, fd, data) -> whether there was room */
static PyObject *send_connected(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "send() takes 3 arguments");
        return NULL;
    }
    int fd = fd_of(args[1]);
    return fd < 0 ? NULL : send_some(fd, args[2], NULL, 0);
}

/* send_to(socket, fd, data, address) -> whether there was room */
static PyObject *send_to(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 4) {
        PyErr_SetString(PyExc_TypeError, "send_to() takes 4 arguments");
        return NULL;
    }
    int fd = fd_of(args[1]);
    if (fd < 0)
        return NULL;
    address_t address;
    socklen_t size = read_address(args[3], &address);
    return size == 0 ? NULL : send_some(fd, args[2], &address, size);
}

static PyMethodDef methods[] = {
    {"receive", (PyCFunction)(void (*)(void))receive, METH_FASTCALL, NULL},
    {"send", (PyCFunction)(void (*)(void))send_connected, METH_FASTCALL, NULL},
    {"send_to", (PyCFunction)(void (*)(void))send_to, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static int begin(PyObject *module)
{
    return PyModule_AddIntConstant(module, "BUFFER_BYTES", BUFFER_BYTES);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, begin},
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
    .m_name = "nimloop_net._datagram_c",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__datagram_c(void)
{
    return PyModuleDef_Init(&definition);
}
