/* The chunks of a body, taken apart. */

#pragma once
#include "_scan_bytes.h"

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
