/* The head of a request: checked, and where each of its parts lies.

A field that decides about framing or connection is understood in the one form in which nearly everybody sends it. A
head in which one has another form, comes twice or is missing is marked `CAREFUL`: it is well-formed, and Python applies
the rules, which are thus written down once. */

#pragma once
#include "_scan_bytes.h"

enum { HTTP_1_1 = 1, KEEP_ALIVE = 2, CHUNKED = 4, EXPECTS = 8, CAREFUL = 16 }; /* as in _scan_py.py */
enum { CLOSE = 32 };

typedef struct {
    ptrdiff_t line, bytes, fields;
} Bounds; /* as in limits.py */

/* Where a field is, counted from the first byte of its head. */
typedef struct {
    uint32_t name, name_end, value, value_end;
} Field;

#define MOST_PLACES 128 /* more than the usual limit of fields; a head with more is walked once again, when asked for them */

typedef struct {
    const Byte *method_end, *target, *target_end, *end;
    long long length; /* of the body as announced, or -1 */
    int flags;
    ptrdiff_t count; /* of fields, of which at most MOST_PLACES are in `fields` */
    Field fields[MOST_PLACES];
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

#define LONGEST_CONTROL 17 /* bytes of the name Transfer-Encoding */

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

/* The value of a line without the white space around it (RFC 9112 5). */
static Field field_of(const Byte *start, const Byte *name, const Byte *colon, const Byte *line_end)
{
    const Byte *value = colon + 1, *end = line_end;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (value < end && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return (Field){
        (uint32_t)(name - start), (uint32_t)(colon - start), (uint32_t)(value - start), (uint32_t)(end - start)};
}

/* Go over all the field lines and note where they are, and what those say that decide. Gives where the empty line begins;
NULL when they are incomplete, malformed or too many. */
static const Byte *read_fields(
    const Byte *start, const Byte *at, const Byte *end, ptrdiff_t most, Head *head, Seen *seen, int *careful)
{
    ptrdiff_t count = 0;
    for (; at < end && *at != '\r'; at += 2) {
        const Byte *name = at;
        at = skip_token(at, end);
        const Byte *colon = at;
        if (colon == name || at == end || *at != ':' || count >= most)
            return NULL;
        at = skip_value(at + 1, end);
        if (end - at < 2 || at[0] != '\r' || at[1] != '\n')
            return NULL;
        Field field = field_of(start, name, colon, at);
        if (count < MOST_PLACES)
            head->fields[count] = field;
        count++;
        if (colon - name <= LONGEST_CONTROL && !*careful)
            *careful = !read_field(name, colon - name, start + field.value, start + field.value_end, head, seen);
    }
    head->count = count;
    return end - at >= 2 && at[1] == '\n' ? at : NULL;
}

/* Take a head apart; 0 when it is incomplete, malformed or larger than it may be. */
static int read_head(const Byte *start, const Byte *end, const Bounds *bounds, Head *head)
{
    if ((uint64_t)(end - start) > UINT32_MAX) /* a place has 32 bits; the rest is no head, whatever the limits are */
        end = start + UINT32_MAX;
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
    at = read_fields(start, at, end, bounds->fields, head, &seen, &careful);
    if (at == NULL || at - fields > bounds->bytes)
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

/* Find the fields of any head that was checked, one by one: `at` is where a line begins. Gives where the next one does;
NULL at the end. Bytes that were not checked do no harm. */
static const Byte *next_field(const Byte *start, const Byte *at, const Byte *end, Field *field)
{
    const Byte *line_end = search_crlf(at, end);
    if (line_end == NULL || line_end == at)
        return NULL;
    const Byte *colon = memchr(at, ':', (size_t)(line_end - at));
    if (colon == NULL || (uint64_t)(line_end - start) > UINT32_MAX)
        return NULL;
    *field = field_of(start, at, colon, line_end);
    return line_end + 2;
}
