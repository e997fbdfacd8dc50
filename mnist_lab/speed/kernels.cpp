// One block of a network in training, forward and backward, in single precision:
//
//     [batch norm -> [SiLU]] -> [depthwise convolution] -> [convolution] -> [2x2 max pooling]
//
// What is in brackets may be left out. compiled.py compiles this file for each block by itself, with the macros
//     HEIGHT, WIDTH, IN, OUT    of the images that enter, and their channels; channels that leave
//     NORM, SILU, POOL          1 or 0
//     DEPTHWISE, DEPTHWISE_PAD  kernel size (0: there is none), padding
//     CONV, CONV_PAD            likewise
// so that every loop has a fixed length, and accumulators stay in registers. Images are (height, width, channels), as
// channels_last has them; weights are (K, K, in, out). The loops vectorise over channels, with GCC's vector types.
// NaN and infinity pass through: nothing here may be compiled with -ffast-math. Threads share the images of a batch, and
// what they sum is added in their order: the same number of threads gives the same bits.

#include <cstring>
#include <cmath>
#include <memory>
#include <vector>

#if defined(__AVX512F__)
constexpr int WIDEST = 16, REGISTERS = 24;  // numbers in a vector; registers for accumulators
#else
constexpr int WIDEST = 8, REGISTERS = 12;
#endif

#define UNROLL _Pragma("GCC unroll 64")

template <int L> struct Types {
    typedef float Vector __attribute__((vector_size(4 * L)));
    typedef float Unaligned __attribute__((vector_size(4 * L), aligned(4), may_alias));
    typedef int Integers __attribute__((vector_size(4 * L)));
    typedef unsigned char Bytes __attribute__((vector_size(L)));
};
template <int L> using Vector = typename Types<L>::Vector;
template <int L> using Integers = typename Types<L>::Integers;

template <int L> inline Vector<L> load(const float* from) { return *(const typename Types<L>::Unaligned*)from; }
template <int L> inline void store(float* to, Vector<L> vector) { *(typename Types<L>::Unaligned*)to = vector; }

constexpr int least(int a, int b) { return a < b ? a : b; }
constexpr int divisor(int number, int most) {  // the largest one that is not above `most`
    int found = least(number, most > 1 ? most : 1);
    while (number % found) found--;
    return found;
}
constexpr int lanes(int channels) { return least(channels & -channels, WIDEST); }

// Copy an image to the middle of `padded`, whose border is 0.
template <int H, int W, int C, int PAD> const float* pad(const float* image, float* padded) {
    if (PAD == 0) return image;
    for (int row = 0; row < H; row++)
        memcpy(padded + ((row + PAD) * (W + 2 * PAD) + PAD) * C, image + row * W * C, W * C * sizeof(float));
    return padded;
}

// out (ROWS, W - K + 1, CO) = the convolution of x (ROWS + K - 1, W, CI) with w (K, K, CI, CO).
template <int ROWS, int W, int CI, int CO, int K> void convolve(const float* x, const float* w, float* out) {
    constexpr int L = lanes(CO), N = divisor(CO / L, 8), COLUMNS = W - K + 1, T = least(COLUMNS, REGISTERS / N);
    if constexpr (K == 1 && ROWS > 1) return convolve<1, ROWS * W, CI, CO, 1>(x, w, out);
    for (int row = 0; row < ROWS; row++)
        for (int channel = 0; channel < CO; channel += N * L)
            for (int next = 0; next < COLUMNS; next += T) {
                int column = least(next, COLUMNS - T);  // the last tile may overlap the one before it
                Vector<L> sum[T][N] = {};
                for (int k = 0; k < K; k++) {
                    const float *pixels = x + ((row + k) * W + column) * CI, *weights = w + k * K * CI * CO + channel;
                    for (int i = 0; i < K * CI; i++) {
                        Vector<L> weight[N];
                        UNROLL for (int n = 0; n < N; n++) weight[n] = load<L>(weights + i * CO + n * L);
                        UNROLL for (int t = 0; t < T; t++)
                            UNROLL for (int n = 0; n < N; n++) sum[t][n] += pixels[t * CI + i] * weight[n];
                    }
                }
                float* to = out + (row * COLUMNS + column) * CO + channel;
                UNROLL for (int t = 0; t < T; t++)
                    UNROLL for (int n = 0; n < N; n++) store<L>(to + t * CO + n * L, sum[t][n]);
            }
}

// dw (K, K, CI, CO) += what the gradient g (ROWS, W - K + 1, CO) of a convolution's output says of its weights.
template <int ROWS, int W, int CI, int CO, int K> void convolve_weights(const float* x, const float* g, float* dw) {
    constexpr int L = lanes(CO), N = divisor(CO / L, 8), COLUMNS = W - K + 1;
    constexpr int R = K * K * CI * N <= REGISTERS + 1 ? K : 1, T = divisor(K * CI, (REGISTERS + 1) / (N * R));
    if constexpr (K == 1 && ROWS > 1) return convolve_weights<1, ROWS * W, CI, CO, 1>(x, g, dw);
    for (int k = 0; k < K; k += R)
        for (int i = 0; i < K * CI; i += T)
            for (int channel = 0; channel < CO; channel += N * L) {
                float* to = dw + (k * K * CI + i) * CO + channel;
                Vector<L> sum[R][T][N];
                UNROLL for (int r = 0; r < R; r++)
                    UNROLL for (int t = 0; t < T; t++)
                        UNROLL for (int n = 0; n < N; n++) sum[r][t][n] = load<L>(to + (r * K * CI + t) * CO + n * L);
                for (int row = 0; row < ROWS; row++)
                    for (int column = 0; column < COLUMNS; column++) {
                        const float* gradients = g + (row * COLUMNS + column) * CO + channel;
                        const float* pixels = x + ((row + k) * W + column) * CI + i;
                        Vector<L> gradient[N];
                        UNROLL for (int n = 0; n < N; n++) gradient[n] = load<L>(gradients + n * L);
                        UNROLL for (int r = 0; r < R; r++)
                            UNROLL for (int t = 0; t < T; t++)
                                UNROLL for (int n = 0; n < N; n++)
                                    sum[r][t][n] += pixels[r * W * CI + t] * gradient[n];
                    }
                UNROLL for (int r = 0; r < R; r++)
                    UNROLL for (int t = 0; t < T; t++)
                        UNROLL for (int n = 0; n < N; n++) store<L>(to + (r * K * CI + t) * CO + n * L, sum[r][t][n]);
            }
}

// out (H - K + 1, W - K + 1, C) = the convolution of each channel of x (H, W, C) with its own w (K, K, C).
template <int H, int W, int C, int K> void depthwise(const float* x, const float* w, float* out) {
    constexpr int L = lanes(C), ROWS = H - K + 1, COLUMNS = W - K + 1, T = least(COLUMNS, REGISTERS / 2);
    for (int row = 0; row < ROWS; row++)
        for (int channel = 0; channel < C; channel += L)
            for (int next = 0; next < COLUMNS; next += T) {
                int column = least(next, COLUMNS - T);
                Vector<L> sum[T] = {};
                for (int k = 0; k < K * K; k++) {
                    Vector<L> weight = load<L>(w + k * C + channel);
                    const float* pixels = x + ((row + k / K) * W + column + k % K) * C + channel;
                    UNROLL for (int t = 0; t < T; t++) sum[t] += load<L>(pixels + t * C) * weight;
                }
                UNROLL for (int t = 0; t < T; t++) store<L>(out + (row * COLUMNS + column + t) * C + channel, sum[t]);
            }
}

// dw (K, K, C) += what the gradient g of the output of `depthwise` says of its weights.
template <int H, int W, int C, int K> void depthwise_weights(const float* x, const float* g, float* dw) {
    constexpr int L = lanes(C), ROWS = H - K + 1, COLUMNS = W - K + 1, R = K * K <= REGISTERS + 1 ? K : 1;
    for (int channel = 0; channel < C; channel += L)
        for (int k = 0; k < K; k += R) {
            Vector<L> sum[R][K];
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int t = 0; t < K; t++) sum[r][t] = load<L>(dw + ((k + r) * K + t) * C + channel);
            for (int row = 0; row < ROWS; row++)
                for (int column = 0; column < COLUMNS; column++) {
                    Vector<L> gradient = load<L>(g + (row * COLUMNS + column) * C + channel);
                    const float* pixels = x + ((row + k) * W + column) * C + channel;
                    UNROLL for (int r = 0; r < R; r++)
                        UNROLL for (int t = 0; t < K; t++) sum[r][t] += load<L>(pixels + (r * W + t) * C) * gradient;
                }
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int t = 0; t < K; t++) store<L>(dw + ((k + r) * K + t) * C + channel, sum[r][t]);
        }
}

// turned (K, K, CO, CI) = w (K, K, CI, CO) as the gradient of a convolution's input needs it.
void turn(const float* w, float* turned, int k, int ci, int co) {
    for (int tap = 0; tap < k * k; tap++)
        for (int i = 0; i < ci; i++)
            for (int o = 0; o < co; o++) turned[((k * k - 1 - tap) * co + o) * ci + i] = w[(tap * ci + i) * co + o];
}

// out (W / 2, C) = the largest of each 2 x 2 pixels of two rows x (2, W, C), NaN above all; which: its place, 0 to 3.
template <int W, int C> void pool(const float* x, float* out, unsigned char* which) {
    constexpr int L = lanes(C);
    for (int column = 0; column < W / 2; column++)
        for (int channel = 0; channel < C; channel += L) {
            const float* pixels = x + 2 * column * C + channel;
            Vector<L> most = load<L>(pixels);
            Integers<L> place = {};
            UNROLL for (int p = 1; p < 4; p++) {
                Vector<L> other = load<L>(pixels + (p / 2 * W + p % 2) * C);
                Integers<L> larger = (other > most) | (other != other);
                most = larger ? other : most;
                place = larger ? Integers<L>{} + p : place;
            }
            store<L>(out + column * C + channel, most);
            auto bytes = __builtin_convertvector(place, typename Types<L>::Bytes);
            memcpy(which + column * C + channel, &bytes, L);
        }
}

// dx (H, W, C) = the gradient of the input of `pool` over all rows, given that of its output.
template <int H, int W, int C> void unpool(const float* g, const unsigned char* which, float* dx) {
    constexpr int L = lanes(C);
    if (H % 2 || W % 2) memset(dx, 0, H * W * C * sizeof(float));
    for (int row = 0; row < H / 2; row++)
        for (int column = 0; column < W / 2; column++)
            for (int channel = 0; channel < C; channel += L) {
                int from = (row * (W / 2) + column) * C + channel;
                Vector<L> gradient = load<L>(g + from);
                typename Types<L>::Bytes bytes;
                memcpy(&bytes, which + from, L);
                Integers<L> place = __builtin_convertvector(bytes, Integers<L>);
                float* to = dx + (2 * row * W + 2 * column) * C + channel;
                UNROLL for (int p = 0; p < 4; p++)
                    store<L>(to + (p / 2 * W + p % 2) * C, place == p ? gradient : Vector<L>{});
            }
}

// 1 / (1 + exp(-x)); the exponential is Cephes' expf.
template <int L> inline Vector<L> sigmoid(Vector<L> x) {
    Vector<L> y = -x, rounding = Vector<L>{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    y = y > 88.0f ? Vector<L>{} + 88.0f : y;
    y = y < -87.0f ? Vector<L>{} - 87.0f : y;
    Vector<L> shifted = y * 1.44269504f + rounding, whole = shifted - rounding;
    y = y - whole * 0.693359375f + whole * 2.12194440e-4f;
    Vector<L> series = y * 1.9875691500e-4f + 1.3981999507e-3f;
    series = series * y + 8.3334519073e-3f;
    series = series * y + 4.1665795894e-2f;
    series = series * y + 1.6666665459e-1f;
    series = series * y + 5.0000001201e-1f;
    series = series * y * y + y + 1.0f;
    Vector<L> power = (Vector<L>)(((Integers<L>)shifted << 23) + 0x3f800000);  // 2^whole
    return 1.0f / (series * power + 1.0f);
}

constexpr int MID_HEIGHT = DEPTHWISE ? HEIGHT + 2 * DEPTHWISE_PAD - DEPTHWISE + 1 : HEIGHT;
constexpr int MID_WIDTH = DEPTHWISE ? WIDTH + 2 * DEPTHWISE_PAD - DEPTHWISE + 1 : WIDTH;
constexpr int MAP_HEIGHT = CONV ? MID_HEIGHT + 2 * CONV_PAD - CONV + 1 : MID_HEIGHT;
constexpr int MAP_WIDTH = CONV ? MID_WIDTH + 2 * CONV_PAD - CONV + 1 : MID_WIDTH;
constexpr int OUT_HEIGHT = POOL ? MAP_HEIGHT / 2 : MAP_HEIGHT, OUT_WIDTH = POOL ? MAP_WIDTH / 2 : MAP_WIDTH;
constexpr int ENTERING = HEIGHT * WIDTH * IN, LEAVING = OUT_HEIGHT * OUT_WIDTH * OUT;  // numbers of an image
constexpr int DW = DEPTHWISE ? DEPTHWISE : 1, CV = CONV ? CONV : 1;  // so that what is not there compiles, too
constexpr int CONV_HEIGHT = MID_HEIGHT + 2 * CONV_PAD, CONV_WIDTH = MID_WIDTH + 2 * CONV_PAD;
constexpr int PAD = DEPTHWISE ? DEPTHWISE_PAD : CONV_PAD, PADDED_WIDTH = WIDTH + 2 * PAD;

// Add the sums of an image (pixels, C) to moments (2, C), and its sums of squares. Squares are those of differences to
// the image's own mean, and lose no digits.
template <int C> void add_moments(const float* image, int pixels, double* moments) {
    constexpr int L = lanes(C);
    for (int channel = 0; channel < C; channel += L) {
        Vector<L> sum = {}, square = {};
        for (int pixel = 0; pixel < pixels; pixel++) sum += load<L>(image + pixel * C + channel);
        Vector<L> mean = sum / (float)pixels;
        for (int pixel = 0; pixel < pixels; pixel++) {
            Vector<L> difference = load<L>(image + pixel * C + channel) - mean;
            square += difference * difference;
        }
        for (int i = 0; i < L; i++) {
            moments[channel + i] += sum[i];
            moments[C + channel + i] += square[i] + (double)sum[i] * mean[i];
        }
    }
}

// Write to dx the gradient of what enters a norm, given g, that of the normed numbers, and `taken` (2, C): what the mean
// and the variance of the batch take from every gradient.
template <int C>
void through_norm(const float* x, int pixels, const float* statistics, const float* taken, const float* g, float* dx) {
    constexpr int L = lanes(C);
    for (int channel = 0; channel < C; channel += L) {
        Vector<L> mean = load<L>(statistics + channel), factor = load<L>(statistics + 2 * C + channel);
        Vector<L> less = load<L>(taken + channel), slope = load<L>(taken + C + channel);
        for (int at = channel; at < pixels * C; at += C)
            store<L>(dx + at, factor * (load<L>(g + at) - less - (load<L>(x + at) - mean) * slope));
    }
}

// What one image is between the layers. Of wide layers it is too large for the stack.
struct Maps {
    alignas(64) float active[(HEIGHT + 2 * PAD) * PADDED_WIDTH * IN] = {};  // after norm and SiLU, in its padding
    alignas(64) float slope[SILU ? ENTERING : 1];                          // of the SiLU
    alignas(64) float mid[DEPTHWISE ? MID_HEIGHT * MID_WIDTH * IN : 1];
    alignas(64) float padded[DEPTHWISE ? CONV_HEIGHT * CONV_WIDTH * IN : 1] = {};
    alignas(64) float map[MAP_HEIGHT * MAP_WIDTH * OUT];
    const float *to_depthwise, *to_convolution;

    // Compute all maps up to the convolution's input, and the slope if asked to.
    template <bool SLOPE> void fill(const float* x, const float* statistics, const float* taps) {
        constexpr int L = lanes(IN);
        const float *factor = statistics + 2 * IN, *shift = statistics + 3 * IN;
        to_depthwise = x;
        if constexpr (NORM) {
            for (int channel = 0; channel < IN; channel += L) {
                Vector<L> by = load<L>(factor + channel), plus = load<L>(shift + channel);
                for (int row = 0; row < HEIGHT; row++)
                    for (int column = 0; column < WIDTH; column++) {
                        int at = (row * WIDTH + column) * IN + channel;
                        Vector<L> value = load<L>(x + at) * by + plus;
                        if constexpr (SILU) {
                            Vector<L> s = sigmoid<L>(value);
                            if constexpr (SLOPE) store<L>(slope + at, s + value * s * (1.0f - s));
                            value *= s;
                        }
                        store<L>(active + ((row + PAD) * PADDED_WIDTH + column + PAD) * IN + channel, value);
                    }
            }
            to_depthwise = active;
        } else {
            to_depthwise = pad<HEIGHT, WIDTH, IN, PAD>(x, active);
        }
        to_convolution = to_depthwise;
        if constexpr (DEPTHWISE) {
            depthwise<HEIGHT + 2 * PAD, PADDED_WIDTH, IN, DW>(to_depthwise, taps, mid);
            to_convolution = CONV ? pad<MID_HEIGHT, MID_WIDTH, IN, CONV_PAD>(mid, padded) : mid;
        }
    }
};

constexpr int BORDER = CV - 1 - CONV_PAD, D_BORDER = DW - 1 - DEPTHWISE_PAD;

// The gradients of those maps.
struct Gradients {
    alignas(64) float leaving[LEAVING], mid[MID_HEIGHT * MID_WIDTH * IN], active[ENTERING];
    alignas(64) float padded[CONV ? (MAP_HEIGHT + 2 * BORDER) * (MAP_WIDTH + 2 * BORDER) * OUT : 1] = {};
    alignas(64) float padded_mid[DEPTHWISE ? (MID_HEIGHT + 2 * D_BORDER) * (MID_WIDTH + 2 * D_BORDER) * IN : 1] = {};
};

// Call work(part, first, last) for each thread's part of the images. Denormal numbers are flushed as the caller has it.
template <class Work> void share(long images, int threads, Work work) {
    unsigned mode = __builtin_ia32_stmxcsr();
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int part = 0; part < threads; part++) {
        __builtin_ia32_ldmxcsr(mode);
        work(part, images * part / threads, images * (part + 1) / threads);
    }
}

// Write what leaves the block for so many images to `y`, and, for the way back, which maxima were pooled, and
// `statistics` (4, IN): the norm's mean and 1 / standard deviation, and the scale and shift that it amounts to.
// `moments` (threads, 2, IN) are sums of what enters, and of its squares; those of what leaves are added to `y_moments`
// unless it is null. The norm's running statistics move.
extern "C" void forward(long images, int threads, const float* x, const double* moments, const float* scale,
                        const float* offset, float* running_mean, float* running_variance, float momentum,
                        float epsilon, const float* taps, const float* weights, float* statistics, float* y,
                        unsigned char* which, double* y_moments) {
    if constexpr (NORM) {
        double count = (double)images * HEIGHT * WIDTH, own[threads * 2 * IN] = {};
        if (!moments) {
            share(images, threads, [&](int part, long first, long last) {
                for (long image = first; image < last; image++)
                    add_moments<IN>(x + image * ENTERING, HEIGHT * WIDTH, own + part * 2 * IN);
            });
            moments = own;
        }
        for (int i = 0; i < IN; i++) {
            double sum = 0, square = 0;
            for (int part = 0; part < threads; part++) {
                sum += moments[part * 2 * IN + i];
                square += moments[(part * 2 + 1) * IN + i];
            }
            double mean = sum / count, variance = square / count - mean * mean;
            variance = variance < 0 ? 0 : variance;
            statistics[i] = mean;
            statistics[IN + i] = 1 / std::sqrt(variance + epsilon);
            statistics[2 * IN + i] = scale[i] * statistics[IN + i];
            statistics[3 * IN + i] = offset[i] - statistics[i] * statistics[2 * IN + i];
            running_mean[i] += momentum * ((float)mean - running_mean[i]);
            running_variance[i] += momentum * ((float)(variance * count / (count - 1)) - running_variance[i]);
        }
    }
    share(images, threads, [&](int part, long first, long last) {
        std::unique_ptr<Maps> maps(new Maps);
        for (long image = first; image < last; image++) {
            float* to = y + image * LEAVING;
            maps->fill<false>(x + image * ENTERING, statistics, taps);
            const float* from = maps->to_convolution;
            if constexpr (POOL) {
                for (int row = 0; row < OUT_HEIGHT; row++) {  // two rows of the map at a time, which stay in the cache
                    const float* two = from + 2 * row * CONV_WIDTH * IN;
                    if constexpr (CONV) convolve<2, CONV_WIDTH, IN, OUT, CV>(two, weights, maps->map);
                    int place = row * OUT_WIDTH * OUT;
                    pool<MAP_WIDTH, OUT>(CONV ? maps->map : two, to + place, which + image * LEAVING + place);
                }
            } else if constexpr (CONV) {
                convolve<MAP_HEIGHT, CONV_WIDTH, IN, OUT, CV>(from, weights, to);
            } else {
                memcpy(to, from, LEAVING * sizeof(float));
            }
            if (y_moments) add_moments<OUT>(to, OUT_HEIGHT * OUT_WIDTH, y_moments + part * 2 * OUT);
        }
    });
}

// Given `dy`, the gradient of `y`, write that of `x` to `dx`, which is null if there is no norm and nobody wants it; add
// the gradients of the convolutions to `d_taps` and `d_weights`, which hold 0, with a copy for each thread; and write
// those of the norm.
// A norm's gradient needs sums over the batch, which are known only in the end: with a norm, `dx` stops short of it, and
// what it lacks is written to `taken`; see `through_norm`. Likewise `dy` may be that of the norm that follows, whose
// `y_statistics` and `y_taken` are then not null.
extern "C" void backward(long images, int threads, const float* x, const float* taps, const float* weights,
                         const float* statistics, const unsigned char* which, const float* y,
                         const float* y_statistics, const float* y_taken, const float* dy, float* dx, float* taken,
                         float* d_scale, float* d_offset, float* d_taps, float* d_weights) {
    constexpr int L = lanes(IN);
    std::vector<float> turned(CONV ? CV * CV * IN * OUT : 0), turned_taps(DEPTHWISE ? DW * DW * IN : 0);
    if constexpr (CONV) turn(weights, turned.data(), CV, IN, OUT);
    if constexpr (DEPTHWISE) turn(taps, turned_taps.data(), DW, 1, IN);
    double all_sums[threads * IN] = {}, all_products[threads * IN] = {};
    share(images, threads, [&](int part, long first, long last) {
        double *sums = all_sums + part * IN, *products = all_products + part * IN;
        std::unique_ptr<Maps> maps(new Maps);
        std::unique_ptr<Gradients> d(new Gradients);
        for (long image = first; image < last; image++) {
            const float *from = dy + image * LEAVING, *entering = x + image * ENTERING;
            float* to = dx ? dx + image * ENTERING : nullptr;
            if (y_statistics) {
                through_norm<OUT>(y + image * LEAVING, OUT_HEIGHT * OUT_WIDTH, y_statistics, y_taken, from,
                                  d->leaving);
                from = d->leaving;
            }
            maps->fill<true>(entering, statistics, taps);
            if constexpr (POOL) {
                unpool<MAP_HEIGHT, MAP_WIDTH, OUT>(from, which + image * LEAVING, maps->map);
                from = maps->map;
            }
            if constexpr (CONV) {
                float* d_own = d_weights + part * CV * CV * IN * OUT;
                convolve_weights<MAP_HEIGHT, CONV_WIDTH, IN, OUT, CV>(maps->to_convolution, from, d_own);
                if (!DEPTHWISE && !to) continue;
                from = pad<MAP_HEIGHT, MAP_WIDTH, OUT, BORDER>(from, d->padded);
                convolve<MID_HEIGHT, MAP_WIDTH + 2 * BORDER, OUT, IN, CV>(from, turned.data(), d->mid);
                from = d->mid;
            }
            if constexpr (DEPTHWISE) {
                float* d_own = d_taps + part * DW * DW * IN;
                depthwise_weights<HEIGHT + 2 * PAD, PADDED_WIDTH, IN, DW>(maps->to_depthwise, from, d_own);
                if (!to) continue;
                if constexpr (MID_HEIGHT * MID_WIDTH == 1 && !PAD) {  // one place: each tap has a pixel of its own
                    for (int tap = 0; tap < DW * DW; tap++)
                        for (int i = 0; i < IN; i++) d->active[tap * IN + i] = taps[tap * IN + i] * from[i];
                } else {
                    from = pad<MID_HEIGHT, MID_WIDTH, IN, D_BORDER>(from, d->padded_mid);
                    depthwise<MID_HEIGHT + 2 * D_BORDER, MID_WIDTH + 2 * D_BORDER, IN, DW>(from, turned_taps.data(),
                                                                                               d->active);
                }
                from = d->active;
            }
            if constexpr (NORM) {
                for (int channel = 0; channel < IN; channel += L) {
                    Vector<L> mean = load<L>(statistics + channel), sum = {}, product = {};
                    for (int at = channel; at < ENTERING; at += IN) {
                        Vector<L> gradient = load<L>(from + at);
                        if constexpr (SILU) gradient *= load<L>(maps->slope + at);
                        store<L>(to + at, gradient);
                        sum += gradient;
                        product += gradient * (load<L>(entering + at) - mean);
                    }
                    for (int i = 0; i < L; i++) {
                        sums[channel + i] += sum[i];
                        products[channel + i] += product[i];
                    }
                }
            } else if (to) {
                memcpy(to, from, ENTERING * sizeof(float));
            }
        }
    });
    if constexpr (NORM) {
        double count = (double)images * HEIGHT * WIDTH;
        for (int i = 0; i < IN; i++) {
            double sum = 0, product = 0, inverse = statistics[IN + i];
            for (int part = 0; part < threads; part++) {
                sum += all_sums[part * IN + i];
                product += all_products[part * IN + i];
            }
            d_offset[i] = sum;
            d_scale[i] = product * inverse;
            taken[i] = sum / count;
            taken[IN + i] = product / count * inverse * inverse;
        }
    }
}

// Complete the gradient `dx` of the first block, which nobody else does.
extern "C" void complete(long images, const float* x, const float* statistics, const float* taken, float* dx) {
    for (long at = 0; at < images * ENTERING; at += ENTERING)
        through_norm<IN>(x + at, HEIGHT * WIDTH, statistics, taken, dx + at, dx + at);
}
