/* libFuzzer's target for the C of the scanner, with ASan and UBSan: `hatch run fuzz:scan`.

The input lies in a block of just its size, so that a look past either end is an error; what the vectors find is compared
with what a plain loop finds. */

#include <ctype.h>
#include <stdlib.h>

#include "../packages/nimloop-http/src/nimloop_http/_scan_chunks.h"
#include "../packages/nimloop-http/src/nimloop_http/_scan_head.h"

#define CHECK(holds)                                                                                                   \
    do {                                                                                                               \
        if (!(holds))                                                                                                  \
            abort();                                                                                                   \
    } while (0)

static const Byte *plainly_skip_value(const Byte *at, const Byte *end)
{
    while (at < end && (*at == '\t' || (*at >= 0x20 && *at != 0x7f)))
        at++;
    return at;
}

static const Byte *plainly_skip_target(const Byte *at, const Byte *end)
{
    while (at < end && *at > ' ' && *at < 0x7f && *at != '#')
        at++;
    return at;
}

static const Byte *plainly_skip_token(const Byte *at, const Byte *end)
{
    while (at < end && *at != 0 && (isalnum(*at) || strchr("!#$%&'*+-.^_`|~", *at) != NULL) && *at < 0x80)
        at++;
    return at;
}

static const Byte *plainly_search(const Byte *at, const Byte *end, const char *what, ptrdiff_t size)
{
    for (; end - at >= size; at++)
        if (memcmp(at, what, (size_t)size) == 0)
            return at;
    return NULL;
}

static void check_head(const Byte *data, const Byte *end, const Bounds *bounds)
{
    Head head;
    if (!read_head(data, end, bounds, &head))
        return;
    CHECK(data < head.method_end && head.method_end + 1 == head.target && head.target < head.target_end);
    CHECK(head.target_end < head.end && head.end <= end);
    CHECK(plainly_search(data, end, "\r\n\r\n", 4) + 4 == head.end);
    CHECK(plainly_search(data, end, "\r\n", 2) - data <= bounds->line);
    CHECK((head.flags & CAREFUL) == 0 || head.length == -1);
    CHECK((head.flags & CHUNKED) == 0 || (head.length == -1 && (head.flags & HTTP_1_1)));

    ptrdiff_t count = 0;
    const Byte *at = search_crlf(data, head.end) + 2;
    const Byte *fields = at;
    Field field;
    for (; (at = next_field(data, at, head.end, &field)) != NULL; count++) {
        CHECK(fields <= data + field.name && field.name < field.name_end && field.name_end < field.value);
        CHECK(field.value <= field.value_end && data + field.value_end <= head.end - 4);
        CHECK(plainly_skip_token(data + field.name, end) == data + field.name_end);
        CHECK(plainly_skip_value(data + field.value, data + field.value_end) == data + field.value_end);
        CHECK(count >= MOST_PLACES || memcmp(&head.fields[count], &field, sizeof field) == 0);
    }
    CHECK(count == head.count && count <= bounds->fields && head.end - fields - 2 <= bounds->bytes);

    Head shorter; /* one byte less is no head, one more changes nothing */
    CHECK(!read_head(data, head.end - 1, bounds, &shorter));
    CHECK(read_head(data, head.end, bounds, &shorter) && shorter.end == head.end && shorter.flags == head.flags);
}

/* One byte at a time, as RFC 9112 7.1 has it: how far it is good and plain, and what the data is. */
static Chunks plainly_join(Chunks chunks, const Byte *end, long long room, ptrdiff_t line, Byte *to)
{
    for (;;) {
        if (chunks.left > 0) {
            if (chunks.at == end)
                return chunks;
            *to++ = *chunks.at++;
            chunks.left--;
        } else if (chunks.left == 0) {
            if (end - chunks.at < 2 || memcmp(chunks.at, "\r\n", 2) != 0)
                return chunks;
            chunks.at += 2;
            chunks.left = -1;
        } else {
            const Byte *stop = plainly_search(chunks.at, end, "\r\n", 2);
            ptrdiff_t digits = stop == NULL ? 0 : stop - chunks.at;
            if (digits < 1 || digits > 16 || digits > line)
                return chunks;
            char text[17] = "", *last;
            memcpy(text, chunks.at, (size_t)digits);
            if (strspn(text, "0123456789abcdefABCDEF") != (size_t)digits)
                return chunks;
            unsigned long long size = strtoull(text, &last, 16);
            if (size == 0 || size > (unsigned long long)(room - chunks.size))
                return chunks;
            chunks.at = stop + 2;
            chunks.left = (long long)size;
            chunks.size += (long long)size;
        }
    }
}

static void check_chunks(const Byte *data, const Byte *end, long long left, long long room, ptrdiff_t line)
{
    Chunks found = {data, left, 0};
    Byte *joined = malloc((size_t)(end - data) + 1), *to = joined;
    const Chunks wanted = plainly_join(found, end, room, line, joined);
    const Byte *piece;
    ptrdiff_t size;
    while ((size = next_piece(&found, end, room, line, &piece)) > 0) {
        CHECK(data <= piece && piece + size == found.at && found.at <= end);
        CHECK(memcmp(to, piece, (size_t)size) == 0);
        to += size;
    }
    CHECK(found.at == wanted.at && found.left == wanted.left && found.size == wanted.size);
    CHECK(found.size <= room && (found.left <= 0 || found.at == end));
    free(joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    Byte *data = malloc(size ? size : 1);
    if (size)
        memcpy(data, input, size);
    const Byte *end = data + size;
    CHECK(skip_value(data, end) == plainly_skip_value(data, end));
    CHECK(skip_token(data, end) == plainly_skip_token(data, end));
    CHECK(skip_target(data, end) == plainly_skip_target(data, end));
    CHECK(search_crlf(data, end) == plainly_search(data, end, "\r\n", 2));
    CHECK(search_double_crlf(data, end) == plainly_search(data, end, "\r\n\r\n", 4));
    const Bounds generous = {8192, 8192, 100};
    const Bounds tight = {(ptrdiff_t)(size % 64), (ptrdiff_t)(size % 128), (ptrdiff_t)(size % 5)};
    check_head(data, end, &generous);
    check_head(data, end, &tight);
    check_chunks(data, end, -1, PTRDIFF_MAX, PTRDIFF_MAX);
    check_chunks(data, end, -1, (long long)(size % 40), (ptrdiff_t)(size % 18));
    check_chunks(data, end, (long long)(size % 7) - 1, 1 << 20, 16);
    Field field; /* unchecked bytes must be harmless, too */
    for (const Byte *at = data; (at = next_field(data, at, end, &field)) != NULL;)
        CHECK(field.name <= field.name_end && field.name_end < field.value && field.value <= field.value_end
              && data + field.value_end <= end);
    free(data);
    return 0;
}
