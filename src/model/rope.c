// rope.c: rotary angles, all scalings that Llama models use, as one table over positions.
#include "model/rope.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

// Angles are made as PyTorch makes them, in float32: at position 10,000 a last-bit difference in a frequency already turns a pair visibly.
static float plain_frequency(double theta, int j, int head_dim) {
    return 1.0f / powf((float)theta, (float)(2 * j) / (float)head_dim);
}

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
static float llama3_frequency(const struct oct_rope_config *rope, float frequency) {
    double original = rope->original_max_position_embeddings, wavelength = 2 * M_PI / frequency;
    if (wavelength < original / rope->high_freq_factor) return frequency;
    if (wavelength > original / rope->low_freq_factor) return (float)(frequency / rope->factor);
    double smooth = (original / wavelength - rope->low_freq_factor) / (rope->high_freq_factor - rope->low_freq_factor);
    return (float)((1 - smooth) * frequency / rope->factor + smooth * frequency);
}

// YaRN (arXiv 2309.00071, section 3.2): the pair index at which `rotations` full turns fit into the original context.
static double yarn_dimension(const struct oct_rope_config *rope, int head_dim, double rotations) {
    return head_dim * log(rope->original_max_position_embeddings / (rotations * 2 * M_PI)) / (2 * log(rope->theta));
}

static void yarn_frequencies(const struct oct_rope_config *rope, int head_dim, float *frequencies) {
    double low = yarn_dimension(rope, head_dim, rope->beta_fast), high = yarn_dimension(rope, head_dim, rope->beta_slow);
    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, head_dim - 1);
    if (low == high) high += 0.001; // the ramp needs a width
    for (int j = 0; j < head_dim / 2; j++) {
        double ramp = fmin(fmax((j - low) / (high - low), 0), 1);
        double plain = plain_frequency(rope->theta, j, head_dim);
        frequencies[j] = (float)(plain / rope->factor * ramp + plain * (1 - ramp));
    }
}

static void frequencies_at(const struct oct_model_config *config, int length, float *frequencies) {
    const struct oct_rope_config *rope = &config->rope;
    int head_dim = config->head_dim;
    double theta = rope->theta;
    if (rope->type == OCT_ROPE_YARN) {
        yarn_frequencies(rope, head_dim, frequencies);
        return;
    }
    if (rope->type == OCT_ROPE_DYNAMIC && length > config->max_position_embeddings) {
        double stretch = rope->factor * length / config->max_position_embeddings - (rope->factor - 1);
        theta *= pow(stretch, (double)head_dim / (head_dim - 2));
    }
    for (int j = 0; j < head_dim / 2; j++) {
        float frequency = plain_frequency(theta, j, head_dim);
        if (rope->type == OCT_ROPE_LINEAR) frequency /= (float)rope->factor;
        if (rope->type == OCT_ROPE_LLAMA3) frequency = llama3_frequency(rope, frequency);
        frequencies[j] = frequency;
    }
}

void oct_rope_table(const struct oct_model_config *config, int positions, float *cos_sin) {
    int half = config->head_dim / 2;
    float factor = config->rope.type == OCT_ROPE_YARN ? (float)config->rope.attention_factor : 1.0f;
    float *frequencies = oct_alloc((size_t)half, sizeof *frequencies, "rotary frequencies");
    frequencies_at(config, 1, frequencies);
    for (int position = 0; position < positions; position++, cos_sin += 2 * half) {
        if (config->rope.type == OCT_ROPE_DYNAMIC) frequencies_at(config, position + 1, frequencies);
        for (int j = 0; j < half; j++) {
            float angle = (float)position * frequencies[j];
            cos_sin[j] = cosf(angle) * factor;
            cos_sin[half + j] = sinf(angle) * factor;
        }
    }
    free(frequencies);
}
