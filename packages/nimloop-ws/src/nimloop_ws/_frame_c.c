/* The steps that touch every byte of a frame: the twin of `_frame_py`, which says what each function means.
 *
 * Plain functions without state. They never look outside of the bytes they are given, and keep the GIL: a read of
 * 64 KiB is unmasked in a few microseconds. */

#ifndef FRAME_WITHOUT_PYTHON /* for fuzz/frame.c */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(_M_X64) || defined(__SSE2__)
#include <emmintrin.h>
#define HAVE_SSE2 1
#if defined(__GNUC__)
#include <immintrin.h>
#define HAVE_AVX2 1 /* compiled for all, used where the processor has it */
#endif
#elif defined(__aarch64__) || defined(_M_ARM64)
#include <arm_neon.h>
#define HAVE_NEON 1
#endif

#define SCRATCH 4096 /* a masked text up to here is unmasked on the stack, on its way to becoming a str */
#define LEAST_WIDE 64

/* Masking (RFC 6455 §5.3): every byte XOR the byte of the key at the same place, modulo 4. Since all the steps below
 * are multiples of 4 bytes, one word of key serves them all. */

typedef void (*Mask)(uint8_t *out, const uint8_t *in, size_t size, uint32_t key);

static void mask_words(uint8_t *out, const uint8_t *in, size_t size, uint32_t key)
{
    uint64_t wide = (uint64_t)key << 32 | key, word;
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        memcpy(&word, in + at, 8);
        word ^= wide;
        memcpy(out + at, &word, 8);
    }
    uint8_t bytes[4];
    memcpy(bytes, &key, 4);
    for (; at < size; at++)
        out[at] = in[at] ^ bytes[at & 3];
}

#ifdef HAVE_SSE2
static void mask_sse2(uint8_t *out, const uint8_t *in, size_t size, uint32_t key)
{
    const __m128i wide = _mm_set1_epi32((int)key);
    size_t at = 0;
    for (; at + 32 <= size; at += 32) {
        __m128i a = _mm_loadu_si128((const __m128i *)(in + at));
        __m128i b = _mm_loadu_si128((const __m128i *)(in + at + 16));
        _mm_storeu_si128((__m128i *)(out + at), _mm_xor_si128(a, wide));
        _mm_storeu_si128((__m128i *)(out + at + 16), _mm_xor_si128(b, wide));
    }
    mask_words(out + at, in + at, size - at, key);
}
#endif

#ifdef HAVE_AVX2
__attribute__((target("avx2"))) static void mask_avx2(uint8_t *out, const uint8_t *in, size_t size, uint32_t key)
{
    const __m256i wide = _mm256_set1_epi32((int)key);
    size_t at = 0;
    for (; at + 64 <= size; at += 64) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(in + at));
        __m256i b = _mm256_loadu_si256((const __m256i *)(in + at + 32));
        _mm256_storeu_si256((__m256i *)(out + at), _mm256_xor_si256(a, wide));
        _mm256_storeu_si256((__m256i *)(out + at + 32), _mm256_xor_si256(b, wide));
    }
    mask_words(out + at, in + at, size - at, key);
}
#endif

#ifdef HAVE_NEON
static void mask_neon(uint8_t *out, const uint8_t *in, size_t size, uint32_t key)
{
    const uint8x16_t wide = vreinterpretq_u8_u32(vdupq_n_u32(key));
    size_t at = 0;
    for (; at + 32 <= size; at += 32) {
        vst1q_u8(out + at, veorq_u8(vld1q_u8(in + at), wide));
        vst1q_u8(out + at + 16, veorq_u8(vld1q_u8(in + at + 16), wide));
    }
    mask_words(out + at, in + at, size - at, key);
}
#endif

/* Chosen once, when the module is loaded; the same in every interpreter. */
static Mask mask_wide = mask_words;
static const char *simd_name = "scalar";

static void choose_instructions(void)
{
#ifdef HAVE_SSE2
    mask_wide = mask_sse2;
    simd_name = "SSE2";
#endif
#ifdef HAVE_AVX2
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) {
        mask_wide = mask_avx2;
        simd_name = "AVX2";
    }
#endif
#ifdef HAVE_NEON
    mask_wide = mask_neon;
    simd_name = "NEON";
#endif
}

static void mask(uint8_t *out, const uint8_t *in, size_t size, uint32_t key)
{
    if (size < LEAST_WIDE)
        mask_words(out, in, size, key);
    else
        mask_wide(out, in, size, key);
}

/* The same for what lies `offset` bytes behind the place where the key begins. */
static void mask_behind(uint8_t *out, const uint8_t *in, size_t size, uint32_t key, size_t offset)
{
    uint8_t bytes[4], turned[4];
    memcpy(bytes, &key, 4);
    for (size_t i = 0; i < 4; i++)
        turned[i] = bytes[(offset + i) & 3];
    memcpy(&key, turned, 4);
    mask(out, in, size, key);
}

/* The sizes of the header and of the payload; 0 when the frame is incomplete, or one for the careful reader. */
static int measure(const uint8_t *at, size_t size, int masked, uint64_t limit, size_t *header, size_t *payload)
{
    if (size < 2 || at[1] >> 7 != masked)
        return 0;
    uint64_t length = at[1] & 0x7f;
    size_t before = masked ? 6 : 2;
    if (length == 126) {
        if (size < 4)
            return 0;
        length = (uint64_t)at[2] << 8 | at[3];
        if (length < 126)
            return 0; /* not the shortest way to say it */
        before += 2;
    } else if (length == 127) {
        if (size < 10)
            return 0;
        length = 0;
        for (int i = 2; i < 10; i++)
            length = length << 8 | at[i];
        if (length < 65536)
            return 0;
        before += 8;
    }
    if (length > limit || size < before || length > size - before)
        return 0;
    *header = before;
    *payload = (size_t)length;
    return 1;
}

static size_t write_header(uint8_t *out, int first, size_t length, const uint32_t *key)
{
    const uint8_t mask_bit = key == NULL ? 0 : 0x80;
    size_t at = 2;
    out[0] = (uint8_t)first;
    if (length < 126) {
        out[1] = mask_bit | (uint8_t)length;
    } else if (length < 65536) {
        out[1] = mask_bit | 126;
        out[2] = (uint8_t)(length >> 8);
        out[3] = (uint8_t)length;
        at = 4;
    } else {
        out[1] = mask_bit | 127;
        for (int i = 0; i < 8; i++)
            out[2 + i] = (uint8_t)((uint64_t)length >> (56 - 8 * i));
        at = 10;
    }
    if (key != NULL) {
        memcpy(out + at, key, 4);
        at += 4;
    }
    return at;
}

#ifndef FRAME_WITHOUT_PYTHON

static int check_count(const char *name, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", name, wanted, given);
    return -1;
}

static int read_key(PyObject *object, uint32_t *key)
{
    char *bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(object, &bytes, &size) < 0)
        return -1;
    if (size != 4) {
        PyErr_Format(PyExc_ValueError, "a masking key has 4 bytes, not %zd", size);
        return -1;
    }
    memcpy(key, bytes, 4);
    return 0;
}

static PyObject *apply_mask(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer data;
    uint32_t key;
    if (check_count("apply_mask", count, 4) < 0 || read_key(args[1], &key) < 0)
        return NULL;
    Py_ssize_t start = PyLong_AsSsize_t(args[2]);
    Py_ssize_t end = PyLong_AsSsize_t(args[3]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *result = NULL;
    if (start < 0 || end < start || end > data.len)
        PyErr_Format(PyExc_ValueError, "not a part of %zd bytes: %zd to %zd", data.len, start, end);
    else if ((result = PyBytes_FromStringAndSize(NULL, end - start)) != NULL)
        mask((uint8_t *)PyBytes_AsString(result), (const uint8_t *)data.buf + start, (size_t)(end - start), key);
    PyBuffer_Release(&data);
    return result;
}

/* Take up to `*left` bytes of a piece from `*start` on, which counts over all pieces, to `out`. */
static int gather_piece(PyObject *piece, uint8_t *out, Py_ssize_t *start, Py_ssize_t *left, Py_ssize_t done,
                        const uint32_t *key)
{
    Py_buffer data;
    if (PyObject_GetBuffer(piece, &data, PyBUF_SIMPLE) < 0)
        return -1;
    const Py_ssize_t skipped = *start < data.len ? *start : data.len;
    const Py_ssize_t size = *left < data.len - skipped ? *left : data.len - skipped;
    const uint8_t *in = (const uint8_t *)data.buf + skipped;
    if (key != NULL)
        mask_behind(out + done, in, (size_t)size, *key, (size_t)done);
    else if (size > 0)
        memcpy(out + done, in, (size_t)size);
    *start -= skipped;
    *left -= size;
    PyBuffer_Release(&data);
    return 0;
}

static PyObject *gather(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    uint32_t key;
    if (check_count("gather", count, 4) < 0)
        return NULL;
    Py_ssize_t start = PyLong_AsSsize_t(args[1]);
    const Py_ssize_t wanted = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return NULL;
    const int masked = args[3] != Py_None;
    if (masked && read_key(args[3], &key) < 0)
        return NULL;
    if (start < 0 || wanted < 0) {
        PyErr_SetString(PyExc_ValueError, "start or size is negative");
        return NULL;
    }
    PyObject *result = PyBytes_FromStringAndSize(NULL, wanted);
    if (result == NULL)
        return NULL;
    uint8_t *out = (uint8_t *)PyBytes_AsString(result);
    Py_ssize_t left = wanted;
    for (Py_ssize_t i = 0; left > 0; i++) {
        PyObject *piece = i < PyList_Size(args[0]) ? PyList_GetItem(args[0], i) : NULL;
        if (piece == NULL) {
            if (!PyErr_Occurred())
                PyErr_Format(PyExc_ValueError, "%zd bytes are not there", left);
            goto failed;
        }
        Py_INCREF(piece);
        const int taken = gather_piece(piece, out, &start, &left, wanted - left, masked ? &key : NULL);
        Py_DECREF(piece);
        if (taken < 0)
            goto failed;
    }
    return result;
failed:
    Py_DECREF(result);
    return NULL;
}

/* The payload of a frame; a whole text message as str. NULL without an exception: not UTF-8. */
static PyObject *payload_of(int first, const uint8_t *payload, size_t size, const uint32_t *key)
{
    PyObject *bytes, *text;
    uint8_t scratch[SCRATCH];
    const int is_text = first == 0x81;
    if (is_text && (key == NULL || size <= SCRATCH)) {
        if (key != NULL) {
            mask(scratch, payload, size, *key);
            payload = scratch;
        }
        text = PyUnicode_DecodeUTF8((const char *)payload, (Py_ssize_t)size, NULL);
    } else {
        bytes = PyBytes_FromStringAndSize(key == NULL ? (const char *)payload : NULL, (Py_ssize_t)size);
        if (bytes == NULL)
            return NULL;
        if (key != NULL)
            mask((uint8_t *)PyBytes_AsString(bytes), payload, size, *key);
        if (!is_text)
            return bytes;
        text = PyUnicode_DecodeUTF8(PyBytes_AsString(bytes), (Py_ssize_t)size, NULL);
        Py_DECREF(bytes);
    }
    if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
        PyErr_Clear();
    return text;
}

static PyObject *read_frame(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer data;
    if (check_count("read_frame", count, 4) < 0)
        return NULL;
    Py_ssize_t start = PyLong_AsSsize_t(args[1]);
    int masked = PyObject_IsTrue(args[2]);
    Py_ssize_t limit = PyLong_AsSsize_t(args[3]);
    if (PyErr_Occurred() || PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *payload = NULL;
    size_t before, length;
    int first = 0;
    if (start < 0 || start > data.len || limit < 0) {
        PyErr_SetString(PyExc_ValueError, "start or limit is out of bounds");
    } else {
        const uint8_t *at = (const uint8_t *)data.buf + start;
        if (measure(at, (size_t)(data.len - start), masked, (uint64_t)limit, &before, &length)) {
            uint32_t key;
            if (masked)
                memcpy(&key, at + before - 4, 4);
            first = at[0];
            payload = payload_of(first, at + before, length, masked ? &key : NULL);
        }
    }
    PyBuffer_Release(&data);
    if (payload == NULL) {
        if (PyErr_Occurred())
            return NULL;
        Py_RETURN_NONE;
    }
    PyObject *result = PyTuple_New(3), *byte = PyLong_FromLong(first);
    PyObject *next = PyLong_FromSsize_t(start + (Py_ssize_t)(before + length));
    if (result == NULL || byte == NULL || next == NULL) {
        Py_DECREF(payload);
        Py_XDECREF(byte);
        Py_XDECREF(next);
        Py_XDECREF(result);
        return NULL;
    }
    PyTuple_SetItem(result, 0, byte);
    PyTuple_SetItem(result, 1, payload);
    PyTuple_SetItem(result, 2, next);
    return result;
}

static PyObject *encode_frame(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer data;
    const char *payload;
    Py_ssize_t size;
    uint32_t key;
    if (check_count("encode_frame", count, 3) < 0)
        return NULL;
    long first = PyLong_AsLong(args[0]);
    if (PyErr_Occurred())
        return NULL;
    if (first < 0 || first > 255) {
        PyErr_Format(PyExc_ValueError, "a byte is between 0 and 255, not %ld", first);
        return NULL;
    }
    const int masked = args[2] != Py_None;
    if (masked && read_key(args[2], &key) < 0)
        return NULL;
    const int is_text = PyUnicode_Check(args[1]);
    if (is_text) {
        payload = PyUnicode_AsUTF8AndSize(args[1], &size);
        if (payload == NULL)
            return NULL;
    } else {
        if (PyObject_GetBuffer(args[1], &data, PyBUF_SIMPLE) < 0)
            return NULL;
        payload = data.buf;
        size = data.len;
    }
    uint8_t header[14];
    size_t before = write_header(header, (int)first, (size_t)size, masked ? &key : NULL);
    PyObject *frame = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)before + size);
    if (frame != NULL) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(frame);
        memcpy(out, header, before);
        if (masked)
            mask(out + before, (const uint8_t *)payload, (size_t)size, key);
        else if (size > 0)
            memcpy(out + before, payload, (size_t)size);
    }
    if (!is_text)
        PyBuffer_Release(&data);
    return frame;
}

static int name_simd(PyObject *module)
{
    choose_instructions();
    return PyModule_AddStringConstant(module, "SIMD_NAME", simd_name);
}

static PyMethodDef methods[] = {
    {"apply_mask", (PyCFunction)(void (*)(void))apply_mask, METH_FASTCALL, NULL},
    {"gather", (PyCFunction)(void (*)(void))gather, METH_FASTCALL, NULL},
    {"read_frame", (PyCFunction)(void (*)(void))read_frame, METH_FASTCALL, NULL},
    {"encode_frame", (PyCFunction)(void (*)(void))encode_frame, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, name_simd},
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
    .m_name = "nimloop_ws._frame_c",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__frame_c(void)
{
    return PyModuleDef_Init(&definition);
}

#endif
