/* Reads digits with the network in mnist_lab_int8.h, in integers of 8 bits.
 *
 *     cc -std=c99 -O2 -o read_digits mnist_lab_int8.c
 *     ./read_digits < images
 *
 * The images are 784 bytes each, 28 rows of 28 pixels, 0 for paper and 255 for ink; how a drawing is brought into that
 * form is said in the header. Each gives a line: the digit, and the logits of all digits in 256ths.
 * On a microcontroller, keep read_digit() and leave main() out: it needs no memory but its two buffers.
 */

#include <stdint.h>
#include <stdio.h>
#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

#include "mnist_lab_int8.h"

static int8_t buffers[2][LARGEST_LAYER];

static int32_t scale(int32_t sum, int32_t multiplier, int shift)
{
    /* sum * multiplier / 2^shift, rounded; >> of a negative number rounds down in every compiler that matters */
    return (int32_t)(((int64_t)sum * multiplier + ((int64_t)1 << (shift - 1))) >> shift);
}

static int8_t clip(int32_t value)
{
    return (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
}

static void convolve(const layer *l, const int8_t *in, int8_t *out, int32_t *logits)
{
    const int inputs = l->in_channels / l->groups, outputs = l->out_channels / l->groups, area = l->in_side * l->in_side;
    for (int c = 0; c < l->out_channels; c++)
        for (int y = 0; y < l->out_side; y++)
            for (int x = 0; x < l->out_side; x++) {
                const int8_t *w = l->weights + c * inputs * l->kernel * l->kernel;
                const int8_t *from = in + c / outputs * inputs * area + y * l->stride * l->in_side + x * l->stride;
                int32_t sum = l->biases[c];
                for (int i = 0; i < inputs; i++, from += area)
                    for (int v = 0; v < l->kernel; v++)
                        for (int u = 0; u < l->kernel; u++)
                            sum += *w++ * from[v * l->in_side + u];
                sum = scale(sum, l->multipliers[c], l->shifts[c]);
                if (out)
                    *out++ = clip(sum + l->zero);
                else
                    *logits++ = sum; /* the last layer: one value for each class */
            }
}

static void pool(const layer *l, const int8_t *in, int8_t *out)
{
    const int count = l->kernel * l->kernel;
    for (int c = 0; c < l->out_channels; c++, in += l->in_side * l->in_side)
        for (int y = 0; y < l->out_side; y++)
            for (int x = 0; x < l->out_side; x++) {
                const int8_t *from = in + y * l->stride * l->in_side + x * l->stride;
                int largest = -128, sum = 0;
                for (int v = 0; v < l->kernel; v++)
                    for (int u = 0; u < l->kernel; u++) {
                        const int value = from[v * l->in_side + u];
                        largest = value > largest ? value : largest;
                        sum += value + 128;
                    }
                *out++ = (int8_t)(l->kind == MAX_POOLING ? largest : (2 * sum + count) / (2 * count) - 128);
            }
}

/* Read one image. Returns the digit, and sets the logits, in 256ths. */
int read_digit(const uint8_t pixels[784], int32_t logits[CLASSES])
{
    int now = 0, best = 0;
    for (int i = 0; i < 784; i++)
        buffers[now][i] = (int8_t)(pixels[i] - 128);
    for (int n = 0; n < LAYERS; n++) {
        const layer *l = &layers[n];
        int8_t *in = buffers[now], *out = buffers[!now];
        if (l->kind == CONVOLUTION)
            convolve(l, in, n == LAYERS - 1 ? NULL : out, logits);
        else if (l->kind == TABLE)
            for (int i = 0; i < l->out_channels * l->out_side * l->out_side; i++)
                out[i] = l->table[in[i] + 128];
        else
            pool(l, in, out);
        now = !now;
    }
    for (int c = 1; c < CLASSES; c++)
        if (logits[c] > logits[best])
            best = c;
    return best;
}

int main(void)
{
    uint8_t pixels[784];
    int32_t logits[CLASSES];
#ifdef _WIN32
    _setmode(_fileno(stdin), _O_BINARY); /* or a pixel of 26 would end the input */
#endif
    while (fread(pixels, 1, sizeof pixels, stdin) == sizeof pixels) {
        printf("%d", read_digit(pixels, logits));
        for (int c = 0; c < CLASSES; c++)
            printf(" %ld", (long)logits[c]);
        printf("\n");
    }
    return 0;
}
