/* Methods and names of fields as strings that exist once: the cheapest to make, to compare and to look up in sets and
dictionaries. They are part of the module's state, of which each interpreter has its own. */

#pragma once
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "_scan_bytes.h"

/* The macros do the same without checks; they are not there for a library that serves all later Pythons. */
#ifdef Py_LIMITED_API
#define GET_FROM_TUPLE PyTuple_GetItem
#define PUT_IN_TUPLE PyTuple_SetItem
#define PUT_IN_LIST PyList_SetItem
#else
#define GET_FROM_TUPLE PyTuple_GET_ITEM
#define PUT_IN_TUPLE PyTuple_SET_ITEM
#define PUT_IN_LIST PyList_SET_ITEM
#endif

static const char *const method_names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
#define METHODS ((Py_ssize_t)(sizeof method_names / sizeof *method_names))

/* What browsers, programs and proxies send, as it is spelt in the RFCs. */
static const char *const field_names[] = {
    "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Access-Control-Request-Headers",
    "Access-Control-Request-Method", "Authorization", "CF-Connecting-IP", "CF-IPCountry", "CF-Ray", "CF-Visitor",
    "Cache-Control", "Connection", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length",
    "Content-Location", "Content-Range", "Content-Type", "Cookie", "DNT", "Date", "ETag", "Expect", "Expires", "Forwarded",
    "From", "Host", "Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range",
    "If-Unmodified-Since", "Keep-Alive", "Last-Modified", "Location", "Max-Forwards", "Origin", "Pragma", "Priority",
    "Proxy-Authorization", "Proxy-Connection", "Purpose", "Range", "Referer", "Save-Data", "Sec-CH-UA", "Sec-CH-UA-Mobile",
    "Sec-CH-UA-Platform", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User", "Sec-GPC",
    "Sec-WebSocket-Extensions", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Sec-WebSocket-Version", "Server",
    "Set-Cookie", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Upgrade-Insecure-Requests", "User-Agent", "Vary", "Via",
    "X-API-Key", "X-CSRF-Token", "X-Correlation-ID", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port",
    "X-Forwarded-Proto", "X-Real-IP", "X-Request-ID", "X-Requested-With", "traceparent", "tracestate",
};
#define NAMES ((Py_ssize_t)(sizeof field_names / sizeof *field_names))
#define STRINGS (METHODS + 2 * NAMES)
#define LONGEST_NAME 32 /* with a zero behind it */
#define SLOTS 256 /* a power of two, and so many more than names that nearly each has one to itself */

typedef struct {
    PyObject *strings[STRINGS]; /* the methods, the names as they are spelt, the names in lower case */
    Byte small[NAMES][LONGEST_NAME];
    Byte sizes[NAMES];
    Byte slots[SLOTS]; /* number of a name and one, at its hash or behind it; 0 where there is none */
} State;

static unsigned hash_of(const Byte *name, Py_ssize_t size)
{
    unsigned first = name[0] | 0x20, middle = name[size / 2] | 0x20, last = name[size - 1] | 0x20;
    return (first * 5 + middle * 11 + last * 3 + (unsigned)size * 17) % SLOTS;
}

static Byte in_lower_case(Byte byte) { return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte; }

static int same_without_case(const Byte *one, const Byte *two, Py_ssize_t size)
{
    for (Py_ssize_t i = 0; i < size; i++)
        if (one[i] != two[i] && in_lower_case(one[i]) != in_lower_case(two[i]))
            return 0;
    return 1;
}

static int is_ascii(const Byte *at, const Byte *end)
{
    uint64_t seen = 0, word;
    for (; end - at >= 8; at += 8) {
        memcpy(&word, at, 8);
        seen |= word;
    }
    for (; at < end; at++)
        seen |= *at;
    return (seen & 0x8080808080808080u) == 0;
}

static PyObject *text_of(const Byte *at, const Byte *end)
{
#ifndef Py_LIMITED_API
    if (end - at > 1 && is_ascii(at, end)) { /* nearly always; what the decoder does besides takes as long again */
        PyObject *text = PyUnicode_New(end - at, 127);
        if (text != NULL)
            memcpy(PyUnicode_1BYTE_DATA(text), at, (size_t)(end - at));
        return text;
    }
#endif
    return PyUnicode_DecodeLatin1((const char *)at, end - at, NULL);
}

static PyObject *method_of(const State *state, const Byte *at, const Byte *end)
{
    for (Py_ssize_t i = 0; i < METHODS; i++) {
        const char *name = method_names[i];
        if (*at == (Byte)*name && strncmp((const char *)at, name, (size_t)(end - at)) == 0 && name[end - at] == '\0')
            return Py_NewRef(state->strings[i]);
    }
    return text_of(at, end);
}

/* The name of a field as it is spelt or, `lower`, in lower case. */
static PyObject *name_of(const State *state, const Byte *at, const Byte *end, int lower)
{
    Py_ssize_t size = end - at;
    if (size > 0 && size < LONGEST_NAME)
        for (unsigned slot = hash_of(at, size); state->slots[slot] != 0; slot = (slot + 1) % SLOTS) {
            Py_ssize_t i = state->slots[slot] - 1;
            if (state->sizes[i] != size)
                continue;
            int spelt = memcmp(at, field_names[i], (size_t)size) == 0;
            if (spelt && !lower)
                return Py_NewRef(state->strings[METHODS + i]);
            if (spelt || memcmp(at, state->small[i], (size_t)size) == 0
                || (lower && same_without_case(at, state->small[i], size)))
                return Py_NewRef(state->strings[METHODS + NAMES + i]);
        }
    PyObject *name = text_of(at, end);
    if (!lower || name == NULL)
        return name;
    PyObject *small = PyObject_CallMethod(name, "lower", NULL);
    Py_DECREF(name);
    return small;
}

static void add_name(State *state, Py_ssize_t number)
{
    const Byte *name = (const Byte *)field_names[number];
    Byte size = (Byte)strlen(field_names[number]);
    unsigned slot = hash_of(name, size);
    while (state->slots[slot] != 0)
        slot = (slot + 1) % SLOTS;
    state->slots[slot] = (Byte)(number + 1);
    state->sizes[number] = size;
    for (Byte i = 0; i < size; i++)
        state->small[number][i] = in_lower_case(name[i]);
}

static int make_strings(State *state)
{
    PyObject **strings = state->strings;
    for (Py_ssize_t i = 0; i < METHODS; i++)
        if ((*strings++ = PyUnicode_InternFromString(method_names[i])) == NULL)
            return -1;
    for (Py_ssize_t i = 0; i < NAMES; i++) {
        add_name(state, i);
        if ((strings[i] = PyUnicode_InternFromString(field_names[i])) == NULL
            || (strings[NAMES + i] = PyUnicode_InternFromString((const char *)state->small[i])) == NULL)
            return -1;
    }
    return 0;
}
