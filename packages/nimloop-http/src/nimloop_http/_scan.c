/* Scan the head of a request, and take chunks apart: the twin of `_scan_py`. One call checks all of a head and copies
nothing but the target; one call undoes the coding of as many chunks as there are.

How it gets along: what may stand in a value, or in a target, is told for 16 bytes at a time (SSE2 and NEON belong to
every x86-64 and AArch64, so that nothing has to be chosen at run time), and byte by byte where fewer are left: no byte
outside the buffer is ever looked at. Names are short and go through a table.

A field that decides about framing or connection is understood in the one form in which nearly everybody sends it. A
head in which one has another form, comes twice or is missing is marked `CAREFUL`: it is well-formed, and Python applies
the rules, which are thus written down once. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What follows up to the Python part knows nothing of Python, so that it can be fuzzed alone. */

typedef unsigned char Byte;

/* Blocks of 16 bytes; a lane of a mask is all ones or all zeros. ------------------------------------------------- */

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define SIMD "SSE2"
typedef __m128i Block;
static inline Block load(const Byte *at) { return _mm_loadu_si128((const __m128i *)at); }
static inline Block equal(Block block, Byte byte) { return _mm_cmpeq_epi8(block, _mm_set1_epi8((char)byte)); }
static inline Block at_most(Block block, Byte byte)
{
    return _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8((char)byte)), block);
}
static inline Block at_least(Block block, Byte byte)
{
    return _mm_cmpeq_epi8(_mm_max_epu8(block, _mm_set1_epi8((char)byte)), block);
}
static inline Block either(Block one, Block two) { return _mm_or_si128(one, two); }
static inline Block both(Block one, Block two) { return _mm_and_si128(one, two); }
static inline Block without(Block block, Block taken) { return _mm_andnot_si128(taken, block); }
#define LANE_BITS 1
static inline uint64_t bits_of(Block mask) { return (uint64_t)(uint32_t)_mm_movemask_epi8(mask); }
#elif defined(__AARCH64EL__) || defined(_M_ARM64)
#include <arm_neon.h>
#define SIMD "NEON"
typedef uint8x16_t Block;
static inline Block load(const Byte *at) { return vld1q_u8(at); }
static inline Block equal(Block block, Byte byte) { return vceqq_u8(block, vdupq_n_u8(byte)); }
static inline Block at_most(Block block, Byte byte) { return vcleq_u8(block, vdupq_n_u8(byte)); }
static inline Block at_least(Block block, Byte byte) { return vcgeq_u8(block, vdupq_n_u8(byte)); }
static inline Block either(Block one, Block two) { return vorrq_u8(one, two); }
static inline Block both(Block one, Block two) { return vandq_u8(one, two); }
static inline Block without(Block block, Block taken) { return vbicq_u8(block, taken); }
/* NEON has no movemask; half of each lane, by a narrowing shift, is the next best thing. */
#define LANE_BITS 4
static inline uint64_t bits_of(Block mask)
{
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(mask), 4)), 0);
}
#else
#define SIMD "scalar"
#endif

#ifdef LANE_BITS
#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
static inline ptrdiff_t first_lane(uint64_t bits)
{
    unsigned long index;
    _BitScanForward64(&index, bits);
    return (ptrdiff_t)(index / LANE_BITS);
}
#else
static inline ptrdiff_t first_lane(uint64_t bits) { return __builtin_ctzll(bits) / LANE_BITS; }
#endif
#define BLOCK 16
#endif

/* Classes of bytes ------------------------------------------------------------------------------------------------ */

#define TCHAR 1 /* RFC 9110 5.6.2: what tokens consist of */
#define REG_NAME 2 /* RFC 3986 3.2.2: what names of hosts consist of, but for percent-encoding */

static const Byte classes[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 3, 0, 1, 3, 1, 3, 3, 2, 2, 3, 3, 2, 3, 3, 0,
    3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 2, 0, 2, 0, 0,
    0, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3,
    3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 0, 0, 1, 3,
    1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3,
    3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 1, 0, 3, 0,
};

/* RFC 9110 5.5: a value has no control character but HTAB. */
static const Byte *skip_value(const Byte *at, const Byte *end)
{
#ifdef BLOCK
    for (; end - at >= BLOCK; at += BLOCK) {
        Block block = load(at);
        Block controls = without(at_most(block, 0x1f), equal(block, '\t'));
        uint64_t bits = bits_of(either(controls, equal(block, 0x7f)));
        if (bits != 0)
            return at + first_lane(bits);
    }
#endif
    while (at < end && ((*at >= 0x20 && *at != 0x7f) || *at == '\t'))
        at++;
    return at;
}

/* Visible ASCII but "#": no form of a target has a fragment (RFC 9112 3.2). */
static const Byte *skip_target(const Byte *at, const Byte *end)
{
#ifdef BLOCK
    for (; end - at >= BLOCK; at += BLOCK) {
        Block block = load(at);
        Block outside = either(at_most(block, 0x20), at_least(block, 0x7f));
        uint64_t bits = bits_of(either(outside, equal(block, '#')));
        if (bits != 0)
            return at + first_lane(bits);
    }
#endif
    while (at < end && *at > 0x20 && *at < 0x7f && *at != '#')
        at++;
    return at;
}

static const Byte *skip_class(const Byte *at, const Byte *end, Byte class)
{
    while (at < end && (classes[*at] & class))
        at++;
    return at;
}

/* Searching ------------------------------------------------------------------------------------------------------- */

/* The first CR that an LF follows, or NULL. */
static const Byte *search_crlf(const Byte *at, const Byte *end)
{
#ifdef BLOCK
    /* The second load is one byte ahead, so a pair that lies across two blocks is a pair like any other. */
    for (; end - at > BLOCK; at += BLOCK) {
        uint64_t bits = bits_of(both(equal(load(at), '\r'), equal(load(at + 1), '\n')));
        if (bits != 0)
            return at + first_lane(bits);
    }
#endif
    for (; end - at >= 2; at++)
        if (at[0] == '\r' && at[1] == '\n')
            return at;
    return NULL;
}

/* The first CR LF CR LF, or NULL. */
static const Byte *search_double_crlf(const Byte *at, const Byte *end)
{
    while ((at = search_crlf(at, end)) != NULL && end - at >= 4) {
        if (at[2] == '\r' && at[3] == '\n')
            return at;
        at += 2;
    }
    return NULL;
}

/* The head of a request ------------------------------------------------------------------------------------------- */

enum { HTTP_1_1 = 1, KEEP_ALIVE = 2, CHUNKED = 4, EXPECTS = 8, CAREFUL = 16 }; /* as in _scan_py.py */
enum { CLOSE = 32 };

typedef struct {
    ptrdiff_t line, bytes, fields;
} Bounds; /* as in limits.py */

typedef struct {
    const Byte *method_end, *target, *target_end, *end;
    long long length; /* of the body as announced, or -1 */
    int flags;
} Head;

typedef struct {
    int host, connection, coding, expect;
} Seen;

/* Compare without case. The name must be in lower case and the text a token: then setting the bit that tells the cases
apart makes letters small, and nothing else into a letter or a hyphen. */
static int is_name(const Byte *text, const char *name, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((text[i] | 0x20) != (Byte)name[i])
            return 0;
    return 1;
}

static int is_value(const Byte *at, const Byte *end, const char *value, size_t size)
{
    return (size_t)(end - at) == size && skip_class(at, end, TCHAR) == end && is_name(at, value, size);
}

#define IS_NAME(at, name) is_name(at, name, sizeof name - 1)
#define IS_VALUE(at, end, value) is_value(at, end, value, sizeof value - 1)

/* A registered name or an IPv4 address, and perhaps a port. */
static int is_plain_host(const Byte *at, const Byte *end)
{
    at = skip_class(at, end, REG_NAME);
    if (at < end && *at == ':')
        for (int digits = 0; ++at < end && *at >= '0' && *at <= '9' && digits < 5; digits++)
            ;
    return at == end;
}

/* Digits that 63 bits surely hold. */
static int read_length(const Byte *at, const Byte *end, long long *length)
{
    if (*length >= 0 || at == end || end - at > 18)
        return 0;
    long long number = 0;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return 0;
        number = number * 10 + (*at - '0');
    }
    *length = number;
    return 1;
}

/* Note what a field says if it is one that decides; 0 when it has to be looked at with care. */
static int read_field(const Byte *name, ptrdiff_t name_size, const Byte *value, const Byte *end, Head *head, Seen *seen)
{
    int option;
    switch (name_size) {
    case 4:
        return !IS_NAME(name, "host") || (seen->host++ == 0 && is_plain_host(value, end));
    case 6:
        return !IS_NAME(name, "expect") || (seen->expect++ == 0 && IS_VALUE(value, end, "100-continue"));
    case 7:
        return !IS_NAME(name, "upgrade");
    case 10:
        if (!IS_NAME(name, "connection"))
            return 1;
        option = IS_VALUE(value, end, "keep-alive") ? KEEP_ALIVE : IS_VALUE(value, end, "close") ? CLOSE : 0;
        if (option == 0 || (seen->connection != 0 && seen->connection != option))
            return 0;
        seen->connection = option;
        return 1;
    case 14:
        return !IS_NAME(name, "content-length") || read_length(value, end, &head->length);
    case 17:
        return !IS_NAME(name, "transfer-encoding") || (seen->coding++ == 0 && IS_VALUE(value, end, "chunked"));
    default:
        return 1;
    }
}

/* Take a head apart; 0 when it is incomplete, malformed or larger than it may be. */
static int read_head(const Byte *start, const Byte *end, const Bounds *bounds, Head *head)
{
    const Byte *at = skip_class(start, end, TCHAR);
    head->method_end = at;
    if (at == start || at == end || *at++ != ' ')
        return 0;
    head->target = at;
    at = skip_target(at, end);
    head->target_end = at;
    if (at == head->target || end - at < 11 || memcmp(at, " HTTP/1.", 8) != 0 || (at[8] != '1' && at[8] != '0')
        || at[9] != '\r' || at[10] != '\n')
        return 0;
    int minor = at[8] - '0';
    at += 9;
    if (at - start > bounds->line)
        return 0;
    at += 2;

    int careful = *head->target != '/' || (head->method_end - start == 7 && memcmp(start, "CONNECT", 7) == 0);
    Seen seen = {0, 0, 0, 0};
    head->flags = minor ? HTTP_1_1 : 0;
    head->length = -1;
    const Byte *fields = at;
    ptrdiff_t count = 0;
    while (at < end && *at != '\r') {
        const Byte *name = at;
        at = skip_class(at, end, TCHAR);
        ptrdiff_t name_size = at - name;
        if (name_size == 0 || at == end || *at != ':' || ++count > bounds->fields)
            return 0;
        at++;
        const Byte *value = at;
        at = skip_value(at, end);
        if (end - at < 2 || at[0] != '\r' || at[1] != '\n')
            return 0;
        const Byte *value_end = at;
        at += 2;
        if (name_size > 17 || careful)
            continue;
        while (value < value_end && (*value == ' ' || *value == '\t'))
            value++;
        while (value < value_end && (value_end[-1] == ' ' || value_end[-1] == '\t'))
            value_end--;
        careful = !read_field(name, name_size, value, value_end, head, &seen);
    }
    if (end - at < 2 || at[1] != '\n' || at - fields > bounds->bytes)
        return 0;
    head->end = at + 2;
    if (careful || (minor && !seen.host) || (seen.coding && (!minor || head->length >= 0))) {
        head->flags |= CAREFUL;
        head->length = -1;
        return 1;
    }
    if (seen.connection == KEEP_ALIVE || (minor && seen.connection != CLOSE))
        head->flags |= KEEP_ALIVE;
    if (seen.coding)
        head->flags |= CHUNKED;
    if (seen.expect && minor) /* RFC 9110 10.1.1: one from an HTTP/1.0 client must be ignored */
        head->flags |= EXPECTS;
    return 1;
}

/* Taking checked fields apart: from `at`, behind a CR LF, on. Gives where the next line begins; NULL at the end. */
typedef struct {
    const Byte *name, *name_end, *value, *value_end;
} Field;

static const Byte *next_field(const Byte *at, const Byte *end, Field *field)
{
    const Byte *line_end = search_crlf(at, end);
    if (line_end == NULL || line_end == at)
        return NULL;
    const Byte *colon = memchr(at, ':', (size_t)(line_end - at));
    if (colon == NULL)
        return NULL;
    const Byte *value = colon + 1;
    const Byte *value_end = line_end;
    while (value < value_end && (*value == ' ' || *value == '\t'))
        value++;
    while (value < value_end && (value_end[-1] == ' ' || value_end[-1] == '\t'))
        value_end--;
    *field = (Field){at, colon, value, value_end};
    return line_end + 2;
}

/* The chunks of a body --------------------------------------------------------------------------------------------- */

/* Where a body stands: `left` bytes of a chunk are to come; at 0 the CR LF behind it is, and below that a size. */
#define MOST_PIECES 64 /* as in _scan_py.py */

typedef struct {
    const Byte *at;
    long long left;
    long long size; /* of all chunks that were begun here */
} Chunks;

static int hex_digit(Byte byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Begin a chunk whose line is nothing but a size, other than zero. Of up to `line` digits, at most 16, no more than
`room` bytes; 0 when it is something else, or incomplete. */
static int begin_chunk(Chunks *chunks, const Byte *end, long long room, ptrdiff_t line)
{
    const Byte *at = chunks->at;
    uint64_t size = 0;
    int digit;
    if (line > 16)
        line = 16;
    for (; at < end && line > 0 && (digit = hex_digit(*at)) >= 0; at++, line--)
        size = size << 4 | (uint64_t)digit;
    if (end - at < 2 || at[0] != '\r' || at[1] != '\n' || size == 0 || size > (uint64_t)(room - chunks->size))
        return 0;
    chunks->at = at + 2;
    chunks->left = (long long)size;
    chunks->size += (long long)size;
    return 1;
}

/* The next piece of the data; 0 where there is none, or something that is looked at with care. */
static ptrdiff_t next_piece(Chunks *chunks, const Byte *end, long long room, ptrdiff_t line, const Byte **piece)
{
    if (chunks->left == 0 && end - chunks->at >= 2 && chunks->at[0] == '\r' && chunks->at[1] == '\n') {
        chunks->at += 2;
        chunks->left = -1;
    }
    if (chunks->left < 0 && !begin_chunk(chunks, end, room, line))
        return 0;
    ptrdiff_t there = end - chunks->at;
    ptrdiff_t size = chunks->left < there ? (ptrdiff_t)chunks->left : there;
    *piece = chunks->at;
    chunks->at += size;
    chunks->left -= size;
    return size;
}

/* For Python ------------------------------------------------------------------------------------------------------ */

#ifndef SCAN_WITHOUT_PYTHON
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Methods are compared, and looked up in sets, all the time: strings that exist once are the cheapest to do that with. */
static const char *const method_names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
#define METHODS (sizeof method_names / sizeof *method_names)

typedef struct {
    PyObject *methods[METHODS];
} State;

static PyObject *text_of(const Byte *at, const Byte *end)
{
    return PyUnicode_DecodeLatin1((const char *)at, end - at, NULL);
}

static PyObject *method_of(PyObject *module, const Byte *at, const Byte *end)
{
    State *state = PyModule_GetState(module);
    for (size_t i = 0; i < METHODS; i++) {
        const char *name = method_names[i];
        if (*at == (Byte)*name && strlen(name) == (size_t)(end - at) && memcmp(at, name, (size_t)(end - at)) == 0) {
            Py_INCREF(state->methods[i]);
            return state->methods[i];
        }
    }
    return text_of(at, end);
}

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
    if (to_size(PyTuple_GetItem(tuple, 0), &bounds->line) < 0 || to_size(PyTuple_GetItem(tuple, 1), &bounds->bytes) < 0)
        return -1;
    return to_size(PyTuple_GetItem(tuple, 2), &bounds->fields);
}

/* A tuple that takes over all items; NULL when one of them is. */
static PyObject *tuple_of(PyObject *const *items, Py_ssize_t size)
{
    int good = 1;
    PyObject *tuple = PyTuple_New(size);
    for (Py_ssize_t i = 0; i < size; i++) {
        good = good && items[i] != NULL;
        if (tuple != NULL)
            PyTuple_SetItem(tuple, i, items[i]);
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

/* scan_request(data, start, (line, bytes, fields)) -> (end, raw, method, target, flags, length) or None */
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
        result = Py_None;
        Py_INCREF(result);
    } else {
        PyObject *items[] = {
            PyLong_FromSsize_t(head.end - input.at),
            part_of(args[0], &input, input.at + start, head.end),
            method_of(module, input.at + start, head.method_end),
            text_of(head.target, head.target_end),
            PyLong_FromLong(head.flags),
            PyLong_FromLongLong(head.length),
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

/* split_fields(head) -> [(name, value), ...] */
static PyObject *split_fields(PyObject *Py_UNUSED(module), PyObject *data)
{
    Input input;
    if (look(data, &input) < 0)
        return NULL;
    PyObject *list = PyList_New(0);
    const Byte *at = search_crlf(input.at, input.end);
    Field field;
    if (at != NULL)
        at += 2;
    while (list != NULL && at != NULL && (at = next_field(at, input.end, &field)) != NULL) {
        PyObject *name = text_of(field.name, field.name_end);
        PyObject *value = text_of(field.value, field.value_end);
        PyObject *pair = name != NULL && value != NULL ? PyTuple_Pack(2, name, value) : NULL;
        Py_XDECREF(name);
        Py_XDECREF(value);
        if (pair == NULL || PyList_Append(list, pair) < 0)
            Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    leave(&input);
    return list;
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
    State *state = PyModule_GetState(module);
    for (size_t i = 0; i < METHODS; i++)
        if ((state->methods[i] = PyUnicode_InternFromString(method_names[i])) == NULL)
            return -1;
    return PyModule_AddStringConstant(module, "SIMD_NAME", SIMD);
}

static int visit_state(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    for (size_t i = 0; state != NULL && i < METHODS; i++)
        Py_VISIT(state->methods[i]);
    return 0;
}

static int clear_state(PyObject *module)
{
    State *state = PyModule_GetState(module);
    for (size_t i = 0; state != NULL && i < METHODS; i++)
        Py_CLEAR(state->methods[i]);
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
    {"split_fields", split_fields, METH_O, NULL},
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
#endif
