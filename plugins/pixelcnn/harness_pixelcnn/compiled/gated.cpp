// A raster sample of a gated stack in which every activation is computed once: the vertical stack and its link once a
// row, the horizontal stack once an entry. Images are shared out to threads; a thread runs a block of images in step.
//
// Matrices lie in panels of two vectors: weights as (outputs / PANEL, inputs, PANEL). The tanh and the sigmoid halves
// of VECTOR gates are the two vectors of a panel, so that a gate is taken in registers. Features lie as (column, image,
// feature), zeros left and right of a row: what a kernel sees of a column is one contiguous stretch.
//
// Vectors are those of GCC and Clang: no instruction set is named beyond its width. Plain C interface.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int VECTOR = 16, TILE = 12;  // TILE rows of two vectors fill the registers
#elif defined(__AVX__)
constexpr int VECTOR = 8, TILE = 6;
#elif defined(__aarch64__)
constexpr int VECTOR = 4, TILE = 8;
#else
constexpr int VECTOR = 4, TILE = 4;
#endif
constexpr int PANEL = 2 * VECTOR;

typedef float Vec __attribute__((vector_size(VECTOR * 4)));
typedef int32_t Ints __attribute__((vector_size(VECTOR * 4)));
typedef float Loose __attribute__((vector_size(VECTOR * 4), aligned(4), may_alias));

#define INLINE inline __attribute__((always_inline))

static INLINE Vec load(const float *from) { return *(const Loose *)from; }
static INLINE void store(float *to, Vec value) { *(Loose *)to = value; }
static INLINE Vec clamp(Vec x, float limit) {
    const Vec high = Vec{} + limit, low = Vec{} - limit;
    x = x < high ? x : high;
    return x > low ? x : low;
}
static INLINE Vec relu(Vec x) { return x > Vec{} ? x : Vec{}; }

// exp for |x| < 87, within 1e-7 of itself: 2^n e^r, |r| <= log(2) / 2 (polynomial of the Cephes library, S. Moshier)
static INLINE Vec exponential(Vec x) {
    const Vec shifted = x * 1.44269504f + 12582912.f;  // the integer n in the low bits
    const Vec n = shifted - 12582912.f;
    const Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + (r + 1.f);
    return (Vec)((Ints)p + ((Ints)shifted << 23));
}

// tanh(a) sigmoid(b); beyond the clamps both are at their limits in float32
static INLINE Vec gate(Vec a, Vec b) {
    const Vec e = exponential(clamp(a, 15.f) * -2.f), f = exponential(clamp(b, 40.f) * -1.f);
    return (1.f - e) / ((1.f + e) * (1.f + f));
}

// ROWS rows of a product with one panel: sum over segments of A (rows `stride` apart) times B, from `start`
// Not inlined: the constants of `finish` would take registers from the sums.
template <int ROWS, class Finish>
static __attribute__((noinline)) void tile(const float *const *segments, int64_t count, int64_t depth, int64_t stride,
                                           int64_t row, const float *weights, const float *start,
                                           int64_t start_stride, int64_t panel, const Finish &finish) {
    constexpr int CHAINS = ROWS == 1 ? 4 : ROWS <= 3 ? 2 : 1;  // enough independent sums to hide the latency
    Vec sum[CHAINS][ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
        sum[0][i][0] = load(start + i * start_stride);
        sum[0][i][1] = load(start + i * start_stride + VECTOR);
#pragma GCC unroll 4
        for (int chain = 1; chain < CHAINS; chain++) sum[chain][i][0] = sum[chain][i][1] = Vec{};
    }
    for (int64_t segment = 0; segment < count; segment++) {
        const float *a = segments[segment] + row * stride;
        int64_t k = 0;
        for (; k + CHAINS <= depth; k += CHAINS) {
#pragma GCC unroll 4
            for (int chain = 0; chain < CHAINS; chain++) {
                const Vec left = load(weights), right = load(weights + VECTOR);
                weights += PANEL;
#pragma GCC unroll 16
                for (int i = 0; i < ROWS; i++) {
                    const float value = a[i * stride + k + chain];
                    sum[chain][i][0] += left * value;
                    sum[chain][i][1] += right * value;
                }
            }
        }
        for (; k < depth; k++) {
            const Vec left = load(weights), right = load(weights + VECTOR);
            weights += PANEL;
#pragma GCC unroll 16
            for (int i = 0; i < ROWS; i++) {
                const float value = a[i * stride + k];
                sum[0][i][0] += left * value;
                sum[0][i][1] += right * value;
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++) {
#pragma GCC unroll 4
        for (int chain = 1; chain < CHAINS; chain++) {
            sum[0][i][0] += sum[chain][i][0];
            sum[0][i][1] += sum[chain][i][1];
        }
        finish(panel, row + i, sum[0][i][0], sum[0][i][1]);
    }
}

struct Product {
    const float *const *segments;  // of A, each (rows, depth)
    int64_t count, depth, stride, rows;
    const float *weights;   // (panels, inputs, PANEL)
    int64_t inputs;
    const float *start;     // what the sums start from, rows `start_stride` apart; 0 for a bias
    int64_t start_stride;

    template <class Finish> void run(int64_t first, int64_t last, const Finish &finish) const {
        const int64_t tiles = (rows + TILE - 1) / TILE;
        for (int64_t panel = first; panel < last; panel++) {
            const float *b = weights + panel * inputs * PANEL;
            const float *from = start + panel * PANEL;
            for (int64_t t = 0; t < tiles; t++) {
                const int64_t row = rows * t / tiles, next = rows * (t + 1) / tiles;
                const float *begin = from + row * start_stride;
#define CASE(ROWS)                                                                                                     \
    case ROWS:                                                                                                         \
        if constexpr (ROWS <= TILE)                                                                                    \
            tile<ROWS>(segments, count, depth, stride, row, b, begin, start_stride, panel, finish);                    \
        break;
                switch (next - row) {
                    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
                }
#undef CASE
            }
        }
    }
};

extern "C" {

struct Layer {
    int64_t inputs;      // features read, padded; the channels of the image in the first layer
    int64_t rows;        // of the vertical kernel
    int64_t reach;       // columns to either side of the vertical kernel
    int64_t left;        // columns left of the pixel in the horizontal kernel
    int64_t taps;        // columns of the horizontal kernel
    const float *vertical, *vertical_bias;  // bias (2P,) or (classes, 2P)
    const float *link, *link_bias;          // the last layer's link is folded into its vertical kernel
    const float *horizontal, *output, *output_bias;
};

struct Network {
    int64_t depth, channels, height, width, levels;
    int64_t features, between, outputs;      // padded to panels
    const int64_t *feature_ends, *between_ends;  // (channels,) where each channel's group ends
    const Layer *layers;
    const float *hidden, *hidden_bias, *last, *last_bias;
    const float *scaled;                     // (256,) the network's input for each value
};

struct Batch {
    int64_t images;
    const float *gumbel;     // (images, levels, channels, height, width)
    const int64_t *labels;   // (images,) or null
    const uint8_t *known, *mask;  // (images, channels, height, width) or null
    uint8_t *drawn;          // the same
};

int64_t harness_panel(void) { return PANEL; }

int harness_draw(const Network *network, const Batch *batch, int64_t threads);
}

namespace {

// What becomes of the two vectors of a row and a panel; `to` and `from` are rows `stride` floats apart.
struct Store {
    float *to;
    int64_t stride;
    INLINE void operator()(int64_t panel, int64_t row, Vec left, Vec right) const {
        float *at = to + row * stride + panel * PANEL;
        store(at, left);
        store(at + VECTOR, right);
    }
};

struct Relu {
    Store into;
    INLINE void operator()(int64_t panel, int64_t row, Vec left, Vec right) const {
        into(panel, row, relu(left), relu(right));
    }
};

struct Residual {
    const float *from;
    Store into;
    INLINE void operator()(int64_t panel, int64_t row, Vec left, Vec right) const {
        const float *at = from + row * into.stride + panel * PANEL;
        into(panel, row, left + load(at), right + load(at + VECTOR));
    }
};

struct ResidualRelu {
    const float *from;
    Store into;
    INLINE void operator()(int64_t panel, int64_t row, Vec left, Vec right) const {
        const float *at = from + row * into.stride + panel * PANEL;
        into(panel, row, relu(left + load(at)), relu(right + load(at + VECTOR)));
    }
};

struct Gate {
    float *to;
    int64_t stride;
    INLINE void operator()(int64_t panel, int64_t row, Vec left, Vec right) const {
        store(to + row * stride + panel * VECTOR, gate(left, right));
    }
};

struct StoreAndGate {
    Store into;
    Gate gated;
    INLINE void operator()(int64_t panel, int64_t row, Vec left, Vec right) const {
        into(panel, row, left, right);
        gated(panel, row, left, right);
    }
};

constexpr int64_t CHUNK = 16 * TILE;  // rows of a product whose result is read again while it is in the cache

class Block {
  public:
    Block(const Network &network, const Batch &batch, int64_t first, int64_t count)
        : net(network), batch(batch), first(first), count(count), width(network.width),
          wide(network.features), pair(2 * network.features), depth(network.depth) {
        const Layer &bottom = net.layers[0];
        patch = bottom.rows * (2 * bottom.reach + 1) * net.channels;
        image = zeros(bottom.rows * (width + 2 * bottom.reach) * count * net.channels);
        row = zeros(count * (bottom.left + width) * net.channels);
        patches = zeros(CHUNK * patch);
        above = zeros(CHUNK * pair);
        links = zeros(depth * width * count * pair);
        gates = zeros(depth * count * wide);
        top = zeros(count * wide);
        between = zeros(count * net.between);
        outputs = zeros(count * net.outputs);
        for (int64_t d = 1; d < depth; d++) {
            const Layer &layer = net.layers[d];
            vertical.push_back(zeros(layer.rows * (width + 2 * layer.reach) * count * wide));
            horizontal.push_back(zeros((layer.left + width) * count * wide));
        }
        if (batch.labels)
            for (int64_t d = 0; d < depth; d++) {  // biases, (columns, images, 2P)
                float *bias = zeros(width * count * pair);
                for (int64_t m = 0; m < width * count; m++)
                    std::memcpy(bias + m * pair, net.layers[d].vertical_bias + batch.labels[first + m % count] * pair,
                                pair * sizeof(float));
                biases.push_back(bias);
            }
    }

    void draw() {
        for (int64_t y = 0; y < net.height; y++) {
            for (int64_t d = 0; d < depth; d++) rows_above(d, y);
            for (int64_t x = 0; x < width; x++)
                for (int64_t c = 0; c < net.channels; c++) {
                    for (int64_t d = 0; d < depth; d++) left_of(d, x, c);
                    decide(y, x, c);
                }
            keep(y);
        }
    }

  private:
    const Network &net;
    const Batch &batch;
    const int64_t first, count, width, wide, pair, depth;
    int64_t patch;
    float *image, *row, *patches, *above, *links, *gates, *top, *between, *outputs;
    std::vector<float *> vertical, horizontal, biases;  // what layer d + 1 reads
    std::vector<std::vector<float>> memory;
    std::vector<const float *> segments;

    float *zeros(int64_t size) {
        memory.emplace_back(size + 32, 0.f);
        float *data = memory.back().data();
        return data + (64 - (uintptr_t)data % 64) % 64 / sizeof(float);
    }

    static int64_t slot(int64_t y, int64_t rows) { return ((y % rows) + rows) % rows; }

    // the vertical stack of layer d for row y, and its link
    void rows_above(int64_t d, int64_t y) {
        const Layer &layer = net.layers[d];
        const int64_t columns = 2 * layer.reach + 1, padded = (width + 2 * layer.reach) * count;
        const bool is_last = d == depth - 1;
        float *next = nullptr;
        if (!is_last) {
            const Layer &reader = net.layers[d + 1];
            next = vertical[d] + (slot(y, reader.rows) * (width + 2 * reader.reach) + reader.reach) * count * wide;
        }
        float *link = links + d * width * count * pair;
        const int64_t total = width * count, chunks = (total + CHUNK - 1) / CHUNK;
        for (int64_t chunk = 0; chunk < chunks; chunk++) {
            const int64_t from = total * chunk / chunks, rows = total * (chunk + 1) / chunks - from;
            segments.clear();
            Product product{};
            if (d == 0) {
                gather(from, rows, y);
                segments.push_back(patches);
                product.depth = product.stride = patch;
            } else {
                for (int64_t j = 0; j < layer.rows; j++) {
                    const float *seen = vertical[d - 1] + slot(y - layer.rows + 1 + j, layer.rows) * padded * wide;
                    for (int64_t k = 0; k < columns; k++) segments.push_back(seen + (k * count + from) * wide);
                }
                product.depth = product.stride = wide;
            }
            product.segments = segments.data();
            product.count = (int64_t)segments.size();
            product.rows = rows;
            product.weights = layer.vertical;
            product.inputs = layer.rows * columns * layer.inputs;
            product.start = batch.labels ? biases[d] + from * pair : layer.vertical_bias;
            product.start_stride = batch.labels ? pair : 0;
            if (is_last) {
                product.run(0, pair / PANEL, Store{link + from * pair, pair});
                continue;
            }
            product.run(0, pair / PANEL, StoreAndGate{{above, pair}, {next + from * wide, wide}});
            const float *source[] = {above};
            const Product linked{source, 1, pair, pair, rows, layer.link, pair, layer.link_bias, 0};
            linked.run(0, pair / PANEL, Store{link + from * pair, pair});
        }
    }

    // what the first layer's vertical kernel sees, side by side
    void gather(int64_t from, int64_t rows, int64_t y) {
        const Layer &layer = net.layers[0];
        const int64_t columns = 2 * layer.reach + 1, size = net.channels;
        const int64_t line = (width + 2 * layer.reach) * count * size;
        for (int64_t m = 0; m < rows; m++) {
            float *to = patches + m * patch;
            for (int64_t j = 0; j < layer.rows; j++) {
                const float *seen = image + slot(y - layer.rows + j, layer.rows) * line;
                for (int64_t k = 0; k < columns; k++)
                    for (int64_t c = 0; c < size; c++) *to++ = seen[(from + m + k * count) * size + c];
            }
        }
    }

    // the horizontal stack of layer d for channel c of column x
    void left_of(int64_t d, int64_t x, int64_t c) {
        const Layer &layer = net.layers[d];
        const int64_t begin = c ? net.feature_ends[c - 1] : 0, end = net.feature_ends[c];
        const float *const own = d ? horizontal[d - 1] + (x + layer.left) * count * wide : nullptr;
        Product product{};
        segments.clear();
        if (d == 0) {  // rows lie image by image: columns side by side
            segments.push_back(row + x * net.channels);
            product.depth = layer.left * net.channels + c;
            product.stride = (layer.left + width) * net.channels;
        } else {
            for (int64_t k = 0; k < layer.left; k++) segments.push_back(horizontal[d - 1] + (x + k) * count * wide);
            product.depth = product.stride = wide;
        }
        product.segments = segments.data();
        product.count = (int64_t)segments.size();
        product.rows = count;
        product.weights = layer.horizontal;
        product.inputs = layer.taps * layer.inputs;
        product.start = links + (d * width + x) * count * pair;
        product.start_stride = pair;
        float *const gated = gates + d * count * wide;
        const Gate activate{gated, wide};
        if (d == 0) {
            product.run(begin / VECTOR, end / VECTOR, activate);
        } else if (c == net.channels - 1 && end == wide) {  // all of the pixel itself is one more column
            segments.push_back(own);
            product.segments = segments.data();
            product.count++;
            product.run(begin / VECTOR, end / VECTOR, activate);
        } else {  // earlier columns onto the link, then the pixel itself up to this group
            product.run(begin / VECTOR, end / VECTOR, Store{links + (d * width + x) * count * pair, pair});
            product.segments = &own;
            product.count = 1;
            product.depth = end;
            product.weights += layer.left * wide * PANEL;
            product.run(begin / VECTOR, end / VECTOR, activate);
        }

        const float *source[] = {gated};
        const Product output{source, 1, end, wide, count, layer.output, wide, layer.output_bias, 0};
        const int64_t low = begin / PANEL, high = (end + PANEL - 1) / PANEL;
        if (d == depth - 1) {  // the head reads max(0, h)
            if (own)
                output.run(low, high, ResidualRelu{own, {top, wide}});
            else
                output.run(low, high, Relu{{top, wide}});
            return;
        }
        float *const to = horizontal[d] + (net.layers[d + 1].left + x) * count * wide;
        if (own)
            output.run(low, high, Residual{own, {to, wide}});
        else
            output.run(low, high, Store{to, wide});
    }

    // the head, and argmax_v (logit_v + gumbel_v), the first where there are several
    void decide(int64_t y, int64_t x, int64_t c) {
        const float *source[] = {top}, *inner[] = {between};
        const int64_t begin = c ? net.between_ends[c - 1] : 0, end = net.between_ends[c], size = net.between;
        const Product hidden{source, 1, net.feature_ends[c], wide, count, net.hidden, wide, net.hidden_bias, 0};
        hidden.run(begin / PANEL, (end + PANEL - 1) / PANEL, Relu{{between, size}});
        const bool binary = net.levels == 2;
        const int64_t per = binary ? 1 : net.levels, total = net.outputs;
        const Product last{inner, 1, end, size, count, net.last, size, net.last_bias, 0};
        last.run(c * per / PANEL, ((c + 1) * per + PANEL - 1) / PANEL, Store{outputs, total});
        const Layer &bottom = net.layers[0];
        const int64_t size_of_level = net.channels * net.height * width;
        for (int64_t m = 0; m < count; m++) {
            const int64_t place = (c * net.height + y) * width + x, at = (first + m) * size_of_level + place;
            const float *noise = batch.gumbel + (first + m) * net.levels * size_of_level + place;
            const float *logits = outputs + m * total + c * per;
            uint8_t value = 0;
            if (binary) {
                value = logits[0] + noise[size_of_level] > noise[0];
            } else {
                float best = logits[0] + noise[0];
                for (int64_t level = 1; level < net.levels; level++) {
                    const float score = logits[level] + noise[level * size_of_level];
                    if (score > best) {
                        best = score;
                        value = (uint8_t)level;
                    }
                }
            }
            if (batch.mask && batch.mask[at]) value = batch.known[at];
            batch.drawn[at] = value;
            row[(m * (bottom.left + width) + bottom.left + x) * net.channels + c] = net.scaled[value];
        }
    }

    // the completed row, for the vertical stack
    void keep(int64_t y) {
        const Layer &layer = net.layers[0];
        float *to = image + (slot(y, layer.rows) * (width + 2 * layer.reach) + layer.reach) * count * net.channels;
        for (int64_t x = 0; x < width; x++)
            for (int64_t m = 0; m < count; m++)
                for (int64_t c = 0; c < net.channels; c++)
                    *to++ = row[(m * (layer.left + width) + layer.left + x) * net.channels + c];
    }
};

void draw_block(const Network *network, const Batch *batch, int64_t first, int64_t count, int *failed) {
    try {
        Block(*network, *batch, first, count).draw();
    } catch (const std::bad_alloc &) {
        *failed = 1;
    }
}

}  // namespace

// Draws a batch on so many threads; returns 0, or 1 where there was not enough memory.
int harness_draw(const Network *network, const Batch *batch, int64_t threads) {
    if (threads > batch->images) threads = batch->images;
    if (threads < 1) return 0;
    try {
        std::vector<int> failed(threads, 0);
        std::vector<std::thread> others;
        int result = 0;
        for (int64_t t = 1; t < threads; t++) {
            const int64_t from = batch->images * t / threads, to = batch->images * (t + 1) / threads;
            try {
                others.emplace_back(draw_block, network, batch, from, to - from, &failed[t]);
            } catch (...) {  // no thread to be had: here, then
                draw_block(network, batch, from, to - from, &failed[t]);
            }
        }
        draw_block(network, batch, 0, batch->images / threads, &failed[0]);
        for (auto &other : others) other.join();
        for (const int one : failed) result |= one;
        return result;
    } catch (const std::bad_alloc &) {
        return 1;
    }
}
