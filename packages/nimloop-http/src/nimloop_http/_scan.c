/* Scan the head of a request, and take chunks apart: the twin of `_scan_py`. One call checks all of a head, says where its
fields are, and copies nothing but the target; one call undoes the coding of as many chunks as there are.

`_scan_head.h` and `_scan_chunks.h` know nothing of Python, so that they can be fuzzed alone. */

#include "_scan_chunks.h"
#include "_scan_head.h"

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "_scan_names.h"

/* The bytes of any object that has some in a row. */
typedef struct {
    Py_buffer buffer;
    const Byte *at, *end;
} Input;

static int look(PyObject *object, Input *input)
{
    input->buffer.obj = NULL;
    if (PyBytes_Check(object)) { /* bytes never move: no need to hold them */
        input->at = (const Byte *)PyBytes_AsString(object);
        input->end = input->at + PyBytes_Size(object);
        return 0;
    }
    if (PyObject_GetBuffer(object, &input->buffer, PyBUF_SIMPLE) < 0)
        return -1;
    input->at = input->buffer.buf;
    input->end = input->at + input->buffer.len;
    return 0;
}

static void leave(Input *input)
{
    if (input->buffer.obj != NULL)
        PyBuffer_Release(&input->buffer);
}

/* A whole number; what is larger than the largest is taken for the largest. */
static int to_size(PyObject *number, ptrdiff_t *size)
{
    *size = PyLong_Check(number) ? PyLong_AsSsize_t(number) : -1; /* nearly always this will do, and is quicker */
    if (*size != -1)
        return 0;
    PyErr_Clear();
    *size = PyNumber_AsSsize_t(number, NULL);
    return *size == -1 && PyErr_Occurred() ? -1 : 0;
}

static int to_bounds(PyObject *tuple, Bounds *bounds)
{
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) != 3) {
        PyErr_SetString(PyExc_TypeError, "the limits are a tuple of three numbers");
        return -1;
    }
    if (to_size(GET_FROM_TUPLE(tuple, 0), &bounds->line) < 0 || to_size(GET_FROM_TUPLE(tuple, 1), &bounds->bytes) < 0)
        return -1;
    return to_size(GET_FROM_TUPLE(tuple, 2), &bounds->fields);
}

/* A tuple that takes over all items; NULL when one of them is. */
static PyObject *tuple_of(PyObject *const *items, Py_ssize_t size)
{
    int good = 1;
    PyObject *tuple = PyTuple_New(size);
    for (Py_ssize_t i = 0; i < size; i++) {
        good = good && items[i] != NULL;
        if (tuple != NULL)
            PUT_IN_TUPLE(tuple, i, items[i]);
        else
            Py_XDECREF(items[i]);
    }
    if (!good)
        Py_CLEAR(tuple);
    return tuple;
}

/* Part of an object that was looked at: itself where that is all of it, and can be kept. */
static PyObject *part_of(PyObject *object, const Input *input, const Byte *at, const Byte *end)
{
    if (at == input->at && end == input->end && PyBytes_CheckExact(object)) {
        Py_INCREF(object);
        return object;
    }
    return PyBytes_FromStringAndSize((const char *)at, end - at);
}

/* The places of fields as Python keeps them: bytes that are as many `Field`, in the order of the head. */
static PyObject *offsets_of(const Head *head)
{
    if (head->count > MOST_PLACES)
        return Py_NewRef(Py_None);
    return PyBytes_FromStringAndSize((const char *)head->fields, head->count * (Py_ssize_t)sizeof(Field));
}

/* scan_request(data, start, (line, bytes, fields)) -> (raw, method, target, flags, length, offsets) or None */
static PyObject *scan_request(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    ptrdiff_t start;
    Bounds bounds;
    Input input;
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "scan_request() takes 3 arguments");
        return NULL;
    }
    if (to_size(args[1], &start) < 0 || to_bounds(args[2], &bounds) < 0 || look(args[0], &input) < 0)
        return NULL;

    Head head;
    PyObject *result;
    if (start < 0 || start > input.end - input.at || !read_head(input.at + start, input.end, &bounds, &head)) {
        result = Py_NewRef(Py_None);
    } else {
        PyObject *items[] = {
            part_of(args[0], &input, input.at + start, head.end),
            method_of(PyModule_GetState(module), input.at + start, head.method_end),
            text_of(head.target, head.target_end),
            PyLong_FromLong(head.flags),
            PyLong_FromLongLong(head.length),
            offsets_of(&head),
        };
        result = tuple_of(items, sizeof items / sizeof *items);
    }
    leave(&input);
    return result;
}

/* The data of all chunks there are, as bytes. They are read once to measure, and once to copy: reading the sizes again
costs less than to move what was copied already. */
static PyObject *data_of(Chunks *chunks, const Byte *end, long long room, ptrdiff_t line)
{
    Chunks again = *chunks;
    const Byte *piece;
    ptrdiff_t size, total = 0;
    for (int pieces = 0; pieces < MOST_PIECES && (size = next_piece(chunks, end, room, line, &piece)) > 0; pieces++)
        total += size;
    PyObject *body = PyBytes_FromStringAndSize(NULL, total);
    if (body == NULL)
        return NULL;
    char *to = PyBytes_AsString(body);
    while (total > 0 && (size = next_piece(&again, end, room, line, &piece)) > 0) {
        if (size > total) /* only where another thread has changed a bytearray meanwhile */
            size = total;
        memcpy(to, piece, (size_t)size);
        to += size;
        total -= size;
    }
    memset(to, 0, (size_t)total);
    return body;
}

/* join_chunks(data, start, left, room, line) -> (end, left, size, body) */
static PyObject *join_chunks(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    ptrdiff_t start, left, room, line;
    Input input;
    if (nargs != 5) {
        PyErr_SetString(PyExc_TypeError, "join_chunks() takes 5 arguments");
        return NULL;
    }
    if (to_size(args[1], &start) < 0 || to_size(args[2], &left) < 0 || to_size(args[3], &room) < 0
        || to_size(args[4], &line) < 0 || look(args[0], &input) < 0)
        return NULL;
    PyObject *result = NULL;
    if (start < 0 || start > input.end - input.at || room < 0 || line < 0) {
        PyErr_SetString(PyExc_ValueError, "join_chunks() wants a place within the data, and limits of 0 at least");
    } else {
        Chunks chunks = {input.at + start, left, 0};
        PyObject *body = data_of(&chunks, input.end, room, line);
        PyObject *items[] = {
            PyLong_FromSsize_t(chunks.at - input.at),
            PyLong_FromLongLong(chunks.left),
            PyLong_FromLongLong(chunks.size),
            body,
        };
        result = tuple_of(items, sizeof items / sizeof *items);
    }
    leave(&input);
    return result;
}

/* The fields of a head that was checked: where the scan has found them, or by walking over it once more. */
typedef struct {
    Input head;
    PyObject *offsets; /* bytes that are so many `Field` */
    Py_ssize_t count;
} Fields;

static PyObject *find_offsets(const Input *head)
{
    const Byte *first = search_crlf(head->at, head->end);
    Field field;
    Py_ssize_t count = 0;
    for (const Byte *at = first != NULL ? first + 2 : NULL;
         at != NULL && (at = next_field(head->at, at, head->end, &field)) != NULL;)
        count++;
    PyObject *offsets = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)sizeof(Field));
    if (offsets == NULL)
        return NULL;
    char *to = PyBytes_AsString(offsets);
    memset(to, 0, (size_t)count * sizeof(Field)); /* stays only where another thread has changed a bytearray meanwhile */
    for (const Byte *at = first + 2; count > 0 && (at = next_field(head->at, at, head->end, &field)) != NULL; count--) {
        memcpy(to, &field, sizeof field);
        to += sizeof field;
    }
    return offsets;
}

static int look_at_fields(PyObject *head, PyObject *offsets, Fields *fields)
{
    if (offsets != Py_None && (!PyBytes_Check(offsets) || PyBytes_Size(offsets) % (Py_ssize_t)sizeof(Field) != 0)) {
        PyErr_SetString(PyExc_TypeError, "the offsets are those of scan_request(), or None");
        return -1;
    }
    if (look(head, &fields->head) < 0)
        return -1;
    fields->offsets = offsets != Py_None ? Py_NewRef(offsets) : find_offsets(&fields->head);
    if (fields->offsets == NULL) {
        leave(&fields->head);
        return -1;
    }
    fields->count = PyBytes_Size(fields->offsets) / (Py_ssize_t)sizeof(Field);
    return 0;
}

static void leave_fields(Fields *fields)
{
    Py_DECREF(fields->offsets);
    leave(&fields->head);
}

/* Offsets of another head must not lead anywhere outside of this one. */
static int get_field(const Fields *fields, Py_ssize_t number, Field *field)
{
    memcpy(field, PyBytes_AsString(fields->offsets) + number * (Py_ssize_t)sizeof(Field), sizeof *field);
    if (field->name <= field->name_end && field->name_end <= field->value && field->value <= field->value_end
        && (ptrdiff_t)field->value_end <= fields->head.end - fields->head.at)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the offsets are not those of this head");
    return -1;
}

static PyObject *pair_of(const State *state, const Byte *head, const Field *field, int lower)
{
    PyObject *items[] = {
        name_of(state, head + field->name, head + field->name_end, lower),
        text_of(head + field->value, head + field->value_end),
    };
    return tuple_of(items, 2);
}

/* split_fields(head, offsets, lower) -> [(name, value), ...] */
static PyObject *split_fields(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    Fields fields;
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "split_fields() takes 3 arguments");
        return NULL;
    }
    int lower = PyObject_IsTrue(args[2]);
    if (lower < 0 || look_at_fields(args[0], args[1], &fields) < 0)
        return NULL;
    const State *state = PyModule_GetState(module);
    PyObject *list = PyList_New(fields.count);
    for (Py_ssize_t i = 0; list != NULL && i < fields.count; i++) {
        Field field;
        PyObject *pair = get_field(&fields, i, &field) == 0 ? pair_of(state, fields.head.at, &field, lower) : NULL;
        if (pair != NULL)
            PUT_IN_LIST(list, i, pair);
        else
            Py_CLEAR(list);
    }
    leave_fields(&fields);
    return list;
}

/* The values of all fields of a name, which are one with commas between them (RFC 9110 5.3); None without any. */
static PyObject *value_of(const Fields *fields, const Byte *name, Py_ssize_t size)
{
    const Byte *head = fields->head.at;
    PyObject *found = Py_NewRef(Py_None);
    Field field;
    for (Py_ssize_t i = 0; found != NULL && i < fields->count; i++) {
        if (get_field(fields, i, &field) < 0) {
            Py_CLEAR(found);
        } else if ((Py_ssize_t)(field.name_end - field.name) == size && same_without_case(head + field.name, name, size)) {
            PyObject *before = found, *value = text_of(head + field.value, head + field.value_end);
            found = value == NULL || before == Py_None ? Py_XNewRef(value) : PyUnicode_FromFormat("%U, %U", before, value);
            Py_DECREF(before);
            Py_XDECREF(value);
        }
    }
    return found;
}

/* find_value(head, offsets, name) -> value or None */
static PyObject *find_value(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Fields fields;
    Py_ssize_t size;
    if (nargs != 3 || !PyUnicode_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "find_value() takes a head, offsets and a name");
        return NULL;
    }
    const char *name = PyUnicode_AsUTF8AndSize(args[2], &size);
    if (name == NULL && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        PyErr_Clear(); /* a lone surrogate: no head has that */
        return Py_NewRef(Py_None);
    }
    if (name == NULL || look_at_fields(args[0], args[1], &fields) < 0)
        return NULL;
    PyObject *value = value_of(&fields, (const Byte *)name, size);
    leave_fields(&fields);
    return value;
}

/* find_…(data, start=0, end=None): the place that `search` finds, and `beyond` bytes more; -1 where there is none. */
static PyObject *find(
    PyObject *const *args, Py_ssize_t nargs, const Byte *(*search)(const Byte *, const Byte *), Py_ssize_t beyond)
{
    ptrdiff_t start = 0, end = PY_SSIZE_T_MAX;
    Input input;
    if (nargs < 1 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "1 to 3 arguments are wanted");
        return NULL;
    }
    if ((nargs > 1 && to_size(args[1], &start) < 0) || (nargs > 2 && args[2] != Py_None && to_size(args[2], &end) < 0)
        || look(args[0], &input) < 0)
        return NULL;
    ptrdiff_t size = input.end - input.at;
    if (start < 0 && (start += size) < 0)
        start = 0;
    if (end < 0)
        end += size;
    else if (end > size)
        end = size;
    const Byte *found = start < end ? search(input.at + start, input.at + end) : NULL;
    ptrdiff_t place = found != NULL ? found - input.at + beyond : -1;
    leave(&input);
    return PyLong_FromSsize_t(place);
}

static PyObject *find_crlf(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    return find(args, nargs, search_crlf, 0);
}

static PyObject *find_double_crlf(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    return find(args, nargs, search_double_crlf, 4);
}

static int fill(PyObject *module)
{
    if (make_strings(PyModule_GetState(module)) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "SIMD_NAME", SIMD);
}

static int visit_state(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    for (Py_ssize_t i = 0; state != NULL && i < STRINGS; i++)
        Py_VISIT(state->strings[i]);
    return 0;
}

static int clear_state(PyObject *module)
{
    State *state = PyModule_GetState(module);
    for (Py_ssize_t i = 0; state != NULL && i < STRINGS; i++)
        Py_CLEAR(state->strings[i]);
    return 0;
}

static void free_module(void *module)
{
    clear_state(module);
}

#define FAST(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL

static PyMethodDef functions[] = {
    {"scan_request", FAST(scan_request), NULL},
    {"join_chunks", FAST(join_chunks), NULL},
    {"split_fields", FAST(split_fields), NULL},
    {"find_value", FAST(find_value), NULL},
    {"find_crlf", FAST(find_crlf), NULL},
    {"find_double_crlf", FAST(find_double_crlf), NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)fill},
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
    .m_name = "nimloop_http._scan",
    .m_size = sizeof(State),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = visit_state,
    .m_clear = clear_state,
    .m_free = free_module,
};

PyMODINIT_FUNC PyInit__scan(void)
{
    return PyModuleDef_Init(&definition);
}
