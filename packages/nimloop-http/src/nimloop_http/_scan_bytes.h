/* Bytes 16 at a time: what the scanner skips over and searches for. No byte outside the buffer is ever looked at.

SSE2 and NEON belong to every x86-64 and AArch64, so that nothing has to be chosen at run time; where fewer than 16 bytes
are left, they are taken one by one. */

#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

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
static inline Block neither(Block one, Block two) { return equal(either(one, two), 0); }
static inline Block small(Block block) { return either(block, _mm_set1_epi8(0x20)); }
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
static inline Block neither(Block one, Block two) { return vmvnq_u8(vorrq_u8(one, two)); }
static inline Block small(Block block) { return vorrq_u8(block, vdupq_n_u8(0x20)); }
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
static inline Block within(Block block, Byte first, Byte last)
{
    return both(at_least(block, first), at_most(block, last));
}
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

/* A token (RFC 9110 5.6.2). Letters, digits and hyphens are all that nearly every name has. */
static const Byte *skip_token(const Byte *at, const Byte *end)
{
#ifdef BLOCK
    if (end - at >= BLOCK) {
        Block block = load(at);
        Block letters = within(small(block), 'a', 'z');
        Block others = either(within(block, '0', '9'), equal(block, '-'));
        uint64_t bits = bits_of(neither(letters, others));
        if (bits == 0)
            at += BLOCK;
        else
            at += first_lane(bits);
    }
#endif
    return skip_class(at, end, TCHAR);
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
