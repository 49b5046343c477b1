/* Take the usual head of a request apart in one pass: the twin of `_scan_py.scan_head`.
 *
 * It knows only what nearly every request is made of, and accepts nothing that the strict grammar of `_grammar.py` and
 * the rules of `_framing.py` would refuse. For whatever else there is, an unusual field, a head that is not complete, a
 * fault, it returns None, and the Python looks at it in its own time. So it never has to explain an error.
 *
 * It looks at no byte before the first or behind the last one, and keeps no state but the names of methods. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define BLOCK 16
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define BLOCK 16
#endif

typedef unsigned char Byte;

/* What a byte may be part of. */
enum { TCHAR = 1, TARGET = 2, VALUE = 4, HOST = 8, DIGIT = 16 };

/* As nimloop_http._scan_py has them. */
enum { KEEP_ALIVE = 1, CHUNKED = 2, EXPECT_CONTINUE = 4, HAS_LENGTH = 8 };

/* RFC 9110 5.6.2: tchar. RFC 9112 3.2: visible ASCII but "#". RFC 9110 5.5: field-vchar, SP and HTAB. RFC 3986 3.2.2:
 * what a registered name or an IPv4 address is made of, without percent-encoding and sub-delims, which no host has. */
static Byte kinds[256];

static void classify(void)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    Byte table[256] = {0};
    for (int byte = 0x21; byte < 0x7f; byte++)
        table[byte] |= byte == '#' ? VALUE : TARGET | VALUE;
    for (int byte = 0x80; byte < 0x100; byte++)
        table[byte] |= VALUE;
    table[' '] |= VALUE;
    table['\t'] |= VALUE;
    for (const char *mark = marks; *mark != 0; mark++)
        table[(Byte)*mark] |= TCHAR;
    for (int byte = '0'; byte <= '9'; byte++)
        table[byte] |= TCHAR | HOST | DIGIT;
    for (int byte = 'a'; byte <= 'z'; byte++) {
        table[byte] |= TCHAR | HOST;
        table[byte - 'a' + 'A'] |= TCHAR | HOST;
    }
    table['-'] |= HOST;
    table['.'] |= HOST;
    memcpy(kinds, table, sizeof kinds); /* the same every time: no harm if two interpreters do it at once */
}

static const Byte *skip(const Byte *at, const Byte *end, Byte kind)
{
    while (at < end && kinds[*at] & kind)
        at++;
    return at;
}

/* Skip what a field value may consist of, many bytes at a time. */
static const Byte *skip_value(const Byte *at, const Byte *end)
{
#ifdef BLOCK
    while (end - at >= BLOCK) {
#if defined(__ARM_NEON) && defined(__aarch64__)
        uint8x16_t block = vld1q_u8(at);
        uint8x16_t bad = vorrq_u8(vcltq_u8(block, vdupq_n_u8(0x20)), vceqq_u8(block, vdupq_n_u8(0x7f)));
        if (vmaxvq_u8(bad) != 0)
            break;
#else
        __m128i block = _mm_loadu_si128((const __m128i *)at);
        /* Bytes are signed here: with the top bit turned over, the control characters are the lowest. */
        __m128i turned = _mm_xor_si128(block, _mm_set1_epi8((char)0x80));
        __m128i bad = _mm_or_si128(_mm_cmplt_epi8(turned, _mm_set1_epi8((char)(0x20 ^ 0x80))),
                                   _mm_cmpeq_epi8(block, _mm_set1_epi8(0x7f)));
        if (_mm_movemask_epi8(bad) != 0)
            break;
#endif
        at += BLOCK;
    }
#endif
    return skip(at, end, VALUE);
}

/* Whether bytes are a word, given in lower case, in any case. */
static int is_word(const Byte *at, Py_ssize_t size, const char *word, Py_ssize_t length)
{
    if (size != length)
        return 0;
    for (Py_ssize_t index = 0; index < size; index++) {
        Byte byte = at[index];
        if (byte >= 'A' && byte <= 'Z')
            byte += 'a' - 'A';
        if (byte != (Byte)word[index])
            return 0;
    }
    return 1;
}

#define IS(at, size, word) is_word(at, size, word, sizeof word - 1)

/* The fields that decide about framing and connection. */
typedef struct {
    const Byte *host;
    Py_ssize_t host_size;
    long long length;
    int flags;
    int connection_seen;
} Control;

/* A name or an IPv4 address, with an optional port. */
static int take_host(Control *control, const Byte *value, Py_ssize_t size)
{
    const Byte *end = value + size;
    const Byte *at = skip(value, end, HOST);
    if (control->host != NULL || at == value)
        return 0;
    if (at < end) {
        if (*at != ':' || end - at > 6 || skip(at + 1, end, DIGIT) != end)
            return 0;
    }
    control->host = value;
    control->host_size = size;
    return 1;
}

static int take_length(Control *control, const Byte *value, Py_ssize_t size)
{
    /* Eighteen digits fit into 63 bits; longer ones, and lists, are for the Python to judge. */
    if (control->flags & (HAS_LENGTH | CHUNKED) || size == 0 || size > 18)
        return 0;
    long long length = 0;
    for (Py_ssize_t index = 0; index < size; index++) {
        if (!(kinds[value[index]] & DIGIT))
            return 0;
        length = length * 10 + (value[index] - '0');
    }
    control->length = length;
    control->flags |= HAS_LENGTH;
    return 1;
}

/* Take note of a field; 0 when the Python has to look at it. */
static int take_field(Control *control, const Byte *name, Py_ssize_t size, const Byte *value, Py_ssize_t value_size)
{
    switch (size) {
    case 4:
        return IS(name, size, "host") ? take_host(control, value, value_size) : 1;
    case 6:
        if (!IS(name, size, "expect"))
            return 1;
        control->flags |= EXPECT_CONTINUE;
        return IS(value, value_size, "100-continue");
    case 7:
        return !IS(name, size, "upgrade");
    case 10:
        if (!IS(name, size, "connection"))
            return 1;
        if (control->connection_seen)
            return 0;
        control->connection_seen = 1;
        if (IS(value, value_size, "close"))
            control->flags &= ~KEEP_ALIVE;
        else if (!IS(value, value_size, "keep-alive"))
            return 0;
        return 1;
    case 14:
        return IS(name, size, "content-length") ? take_length(control, value, value_size) : 1;
    case 17:
        if (!IS(name, size, "transfer-encoding"))
            return 1;
        if (control->flags & (HAS_LENGTH | CHUNKED) || !IS(value, value_size, "chunked"))
            return 0;
        control->flags |= CHUNKED;
        return 1;
    default:
        return 1;
    }
}

/* Read the field lines and the empty line; where the head ends, or NULL. */
static const Byte *read_fields(Control *control, const Byte *at, const Byte *end, long most_bytes, long most_fields)
{
    const Byte *begin = at;
    for (long number = 0;; number++) {
        if (end - at < 2)
            return NULL;
        if (at[0] == '\r') {
            int fits = at - begin <= most_bytes && number <= most_fields;
            return at[1] == '\n' && fits ? at + 2 : NULL;
        }
        const Byte *name = at;
        at = skip(at, end, TCHAR);
        Py_ssize_t size = at - name;
        if (size == 0 || at == end || *at != ':')
            return NULL;
        at++;
        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
        const Byte *value = at;
        at = skip_value(at, end);
        if (end - at < 2 || at[0] != '\r' || at[1] != '\n')
            return NULL;
        const Byte *value_end = at;
        while (value_end > value && (value_end[-1] == ' ' || value_end[-1] == '\t'))
            value_end--;
        if (!take_field(control, name, size, value, value_end - value))
            return NULL;
        at += 2;
    }
}

#define METHODS 9
static const char *const method_names[METHODS] = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                                  "CONNECT", "OPTIONS", "TRACE", "PATCH"};

typedef struct {
    PyObject *methods[METHODS];
} State;

static PyObject *method_text(const State *state, const Byte *name, Py_ssize_t size)
{
    for (int index = 0; index < METHODS; index++) {
        const char *known = method_names[index];
        if (known[0] == (char)name[0] && strlen(known) == (size_t)size && memcmp(known, name, (size_t)size) == 0) {
            Py_INCREF(state->methods[index]);
            return state->methods[index];
        }
    }
    return PyUnicode_DecodeLatin1((const char *)name, size, NULL);
}

static PyObject *result_of(const State *state, Py_ssize_t end, const Byte *method, Py_ssize_t method_size,
                           const Byte *target, Py_ssize_t target_size, const Control *control)
{
    PyObject *items[6] = {
        PyLong_FromSsize_t(end),
        method_text(state, method, method_size),
        PyUnicode_DecodeLatin1((const char *)target, target_size, NULL),
        PyUnicode_DecodeLatin1((const char *)control->host, control->host_size, NULL),
        PyLong_FromLongLong(control->length),
        PyLong_FromLong(control->flags),
    };
    PyObject *result = PyTuple_New(6);
    for (int index = 0; index < 6; index++) {
        if (items[index] == NULL)
            Py_CLEAR(result);
        if (result == NULL)
            Py_XDECREF(items[index]);
        else
            PyTuple_SetItem(result, index, items[index]);
    }
    return result;
}

static PyObject *scan(const State *state, const Byte *data, Py_ssize_t size, Py_ssize_t start, long most_line,
                      long most_bytes, long most_fields)
{
    static const char version[] = " HTTP/1.1\r\n";
    const Byte *at = data + start, *end = data + size;
    const Byte *method = at;
    at = skip(at, end, TCHAR);
    Py_ssize_t method_size = at - method;
    if (method_size == 0 || end - at < 2 || at[0] != ' ' || at[1] != '/' || IS(method, method_size, "connect"))
        Py_RETURN_NONE;
    const Byte *target = ++at;
    at = skip(at, end, TARGET);
    Py_ssize_t target_size = at - target;
    if (end - at < (Py_ssize_t)sizeof version - 1 || memcmp(at, version, sizeof version - 1) != 0)
        Py_RETURN_NONE;
    at += sizeof version - 1;
    if (at - 2 - method > most_line)
        Py_RETURN_NONE;
    Control control = {.length = -1, .flags = KEEP_ALIVE};
    at = read_fields(&control, at, end, most_bytes, most_fields);
    if (at == NULL || control.host == NULL)
        Py_RETURN_NONE;
    return result_of(state, at - data, method, method_size, target, target_size, &control);
}

/* scan_head(data, start, most_line, most_bytes, most_fields) -> (end, method, target, host, length, flags) or None */
static PyObject *scan_head(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 5) {
        PyErr_SetString(PyExc_TypeError, "scan_head() takes 5 arguments");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[1]);
    long most_line = PyLong_AsLong(args[2]);
    long most_bytes = PyLong_AsLong(args[3]);
    long most_fields = PyLong_AsLong(args[4]);
    if (PyErr_Occurred())
        return NULL;
    const State *state = PyModule_GetState(module);
    if (PyBytes_Check(args[0])) {
        char *data;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(args[0], &data, &size) < 0)
            return NULL;
        if (start < 0 || start > size)
            Py_RETURN_NONE;
        return scan(state, (const Byte *)data, size, start, most_line, most_bytes, most_fields);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *result = Py_None;
    if (start < 0 || start > view.len)
        Py_INCREF(result);
    else
        result = scan(state, view.buf, view.len, start, most_line, most_bytes, most_fields);
    PyBuffer_Release(&view);
    return result;
}

static PyMethodDef methods[] = {
    {"scan_head", (PyCFunction)(void (*)(void))scan_head, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static int prepare(PyObject *module)
{
    State *state = PyModule_GetState(module);
    classify();
    for (int index = 0; index < METHODS; index++) {
        state->methods[index] = PyUnicode_InternFromString(method_names[index]);
        if (state->methods[index] == NULL)
            return -1;
    }
    return 0;
}

static int clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    for (int index = 0; index < METHODS; index++)
        Py_CLEAR(state->methods[index]);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, prepare},
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
    .m_name = "nimloop_http._scan_c",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__scan_c(void)
{
    return PyModuleDef_Init(&definition);
}
