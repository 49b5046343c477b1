/* Put a response together: the twin of `_encode_py.encode`. One allocation, in which everything is written once. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

/* Text of which every character is one byte, as those bytes. */
typedef struct {
    const char *data;
    Py_ssize_t size;
    PyObject *owner; /* NULL: the text itself owns them */
} Latin;

static int look(PyObject *text, Latin *latin)
{
    latin->owner = NULL;
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "encode() takes text, not %R", text);
        return -1;
    }
#ifndef Py_LIMITED_API
    if (PyUnicode_KIND(text) == PyUnicode_1BYTE_KIND) {
        latin->data = (const char *)PyUnicode_1BYTE_DATA(text);
        latin->size = PyUnicode_GET_LENGTH(text);
        return 0;
    }
#endif
    /* Also what raises the UnicodeEncodeError. */
    latin->owner = PyUnicode_AsLatin1String(text);
    if (latin->owner == NULL)
        return -1;
    latin->data = PyBytes_AsString(latin->owner);
    latin->size = PyBytes_Size(latin->owner);
    return 0;
}

static char *put(char *at, const char *data, Py_ssize_t size)
{
    memcpy(at, data, (size_t)size);
    return at + size;
}

#define LENGTH_NAME "Content-Length: "
#define LENGTH_BYTES (sizeof LENGTH_NAME - 1 + 20 + 2) /* a number of 64 bits has at most 20 digits */

/* Write the field; the number of bytes. */
static Py_ssize_t write_length(char *line, long long length)
{
    char digits[20];
    char *at = put(line, LENGTH_NAME, sizeof LENGTH_NAME - 1);
    int count = 0;
    do
        digits[count++] = (char)('0' + length % 10);
    while ((length /= 10) > 0);
    while (count > 0)
        *at++ = digits[--count];
    *at++ = '\r';
    *at++ = '\n';
    return at - line;
}

/* encode(status_line, date, length, lines, body=b"") -> bytes */
static PyObject *encode(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 4 && nargs != 5) {
        PyErr_SetString(PyExc_TypeError, "encode() takes 4 or 5 arguments");
        return NULL;
    }
    char *body = NULL;
    Py_ssize_t body_size = 0;
    if (nargs == 5 && PyBytes_AsStringAndSize(args[4], &body, &body_size) < 0)
        return NULL;
    long long length = PyLong_AsLongLong(args[2]);
    if (length == -1 && PyErr_Occurred())
        return NULL;
    char framing[LENGTH_BYTES];
    Py_ssize_t framing_size = length < 0 ? 0 : write_length(framing, length);

    PyObject *result = NULL;
    Latin status = {0}, date = {0}, lines = {0};
    if (look(args[0], &status) < 0 || look(args[1], &date) < 0 || look(args[3], &lines) < 0)
        goto done;
    result = PyBytes_FromStringAndSize(NULL, status.size + date.size + framing_size + lines.size + 2 + body_size);
    if (result == NULL)
        goto done;
    char *at = PyBytes_AsString(result);
    at = put(at, status.data, status.size);
    at = put(at, date.data, date.size);
    at = put(at, framing, framing_size);
    at = put(at, lines.data, lines.size);
    at = put(at, "\r\n", 2);
    if (body_size > 0)
        put(at, body, body_size);
done:
    Py_XDECREF(status.owner);
    Py_XDECREF(date.owner);
    Py_XDECREF(lines.owner);
    return result;
}

static PyMethodDef methods[] = {
    {"encode", (PyCFunction)(void (*)(void))encode, METH_FASTCALL, NULL},
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
    .m_name = "nimloop_http._encode_c",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__encode_c(void)
{
    return PyModuleDef_Init(&definition);
}
