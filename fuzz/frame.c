/* libFuzzer's target for the C of WebSocket frames, with ASan and UBSan:
 *
 *     hatch run fuzz:frame
 *
 * The input lies in a block of just its size, so that a look past either end is an error; what the vectors do is compared
 * with what a plain loop does, and a header that is written has to be read again. */

#include <stdlib.h>

#define FRAME_WITHOUT_PYTHON
#include "../packages/nimloop-ws/src/nimloop_ws/_frame_c.c"

#define CHECK(holds)                                                                                                   \
    do {                                                                                                               \
        if (!(holds))                                                                                                  \
            abort();                                                                                                   \
    } while (0)

static void check_mask(Mask mask_some, const uint8_t *in, size_t size, uint32_t key)
{
    uint8_t bytes[4], *out = malloc(size ? size : 1);
    memcpy(bytes, &key, 4);
    mask_some(out, in, size, key);
    for (size_t i = 0; i < size; i++)
        CHECK(out[i] == (uint8_t)(in[i] ^ bytes[i & 3]));
    free(out);
}

/* Two pieces, masked apart, are masked as one. */
static void check_turn(const uint8_t *in, size_t size, uint32_t key)
{
    const size_t cut = size / 3;
    uint8_t *whole = malloc(size ? size : 1), *parts = malloc(size ? size : 1);
    mask(whole, in, size, key);
    mask_behind(parts, in, cut, key, 0);
    mask_behind(parts + cut, in + cut, size - cut, key, cut);
    CHECK(!memcmp(whole, parts, size));
    free(whole);
    free(parts);
}

static void check_frame(const uint8_t *data, size_t size, int masked)
{
    size_t header, payload;
    if (!measure(data, size, masked, 1 << 20, &header, &payload))
        return;
    CHECK(header >= 2 && header <= 14 && payload <= 1 << 20 && header + payload <= size);
    uint8_t out[14];
    uint32_t key;
    memcpy(&key, data + header - 4 * masked, masked ? 4 : 0);
    CHECK(write_header(out, data[0], payload, masked ? &key : NULL) == header);
    CHECK(!memcmp(out, data, header)); /* there is only one way to say it */
    for (size_t less = 0; less < header; less++)
        CHECK(!measure(data, less, masked, 1 << 20, &header, &payload));
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static int chosen;
    if (!chosen) {
        choose_instructions();
        chosen = 1;
    }
    uint8_t *data = malloc(size ? size : 1);
    memcpy(data, input, size);
    uint32_t key = 0x9e3779b9u * (uint32_t)(size + 1);
    check_mask(mask, data, size, key);
    check_mask(mask_words, data, size, key);
#ifdef HAVE_SSE2
    check_mask(mask_sse2, data, size, key);
#endif
    check_turn(data, size, key);
    check_frame(data, size, 0);
    check_frame(data, size, 1);
    free(data);
    return 0;
}
