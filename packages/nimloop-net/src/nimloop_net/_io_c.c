/* Receive from and send to a non-blocking socket: the twins of the functions in `_io_py`.
 *
 * What they save is what the socket module does around the system call: parsing arguments, letting go of the GIL and
 * taking it again for a call that never waits, and an exception where nothing has arrived. They keep no state. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <sys/socket.h>
#include <sys/types.h>

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
    for (;;) {
        ssize_t count = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (count >= 0)
            return PyBytes_FromStringAndSize(buffer, count);
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            Py_RETURN_NONE;
        if (errno != EINTR)
            return PyErr_SetFromErrno(PyExc_OSError);
        if (PyErr_CheckSignals() < 0)
            return NULL;
    }
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
    PyObject *result = NULL;
    for (;;) {
        ssize_t count = send(fd, data.buf, (size_t)data.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count >= 0 || errno == EAGAIN || errno == EWOULDBLOCK) {
            result = PyLong_FromSsize_t(count);
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

static PyMethodDef methods[] = {
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
