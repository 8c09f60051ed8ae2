// draws.hpp: random weights, inputs, initial states and gradients. Counter-based (Philox 4x32-10, Salmon et al. 2011, "Parallel random numbers: as
// easy as 1, 2, 3") at (seed, tensor, b, l, k, d): any single value can be regenerated anywhere, bitwise equal on host, device and emulator.
#pragma once

#include <cstdint>

#include "kernels/cells/cell.hpp"
#include "kernels/fault.hpp"

#if defined(__CUDA_ARCH__)
#define PRNN_ADD_RN(x, y) __dadd_rn(x, y)  // never contracted with the multiply before it
#else
#define PRNN_ADD_RN(x, y) ((x) + (y))  // the host is built with -ffp-contract=off
#endif

namespace prnn {

/// Raise it whenever a drawn bit changes: it is part of the reference cache's key and of every record's fingerprint.
inline constexpr int kGeneratorVersion = 1;

struct Philox {
  std::uint32_t word[4];
};

PRNN_HD inline Philox philox(Philox counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t(0xD2511F53u) * counter.word[0], p1 = std::uint64_t(0xCD9E8D57u) * counter.word[2];
    counter = {{std::uint32_t(p1 >> 32) ^ counter.word[1] ^ key0, std::uint32_t(p1), std::uint32_t(p0 >> 32) ^ counter.word[3] ^ key1, std::uint32_t(p0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// What a stream of draws belongs to: no two tensors share a counter.
enum class DrawStream : std::uint32_t { weight = 1, input = 2, initial = 3, embedding = 4, gradient = 5, last_gradient = 6 };

PRNN_HD inline Philox draw_bits(std::uint64_t seed, DrawStream stream, std::int64_t b, std::int64_t l, int k, std::int64_t d) {
  const Philox counter{{std::uint32_t(d), std::uint32_t(l), std::uint32_t(b), (std::uint32_t(stream) << 16) | std::uint32_t(k)}};
  return philox(counter, std::uint32_t(seed), std::uint32_t(seed >> 32));
}

/// Integer with mean 0 and standard deviation kNormalDeviation: the centred sum of eight 16-bit uniforms, near normal, |n| <= 4.9 deviations.
PRNN_HD inline std::int32_t normal_integer(const Philox& bits) {
  std::int32_t sum = -262140;  // 8 x 65535 / 2
  for (int i = 0; i < 4; ++i) sum += std::int32_t(bits.word[i] & 0xffffu) + std::int32_t(bits.word[i] >> 16);
  return sum;
}
inline constexpr double kNormalDeviation = 53509.91992145008;  // sqrt(8 (2^32 - 1) / 12)

/// How one regime of design section 5 draws; plain values, so that a kernel takes it as an argument.
struct Regime {
  double weight_deviation = 0;  // of a normal weight
  double weight_clip = 0;       // 0: none
  double weight_corner = 0;     // not 0: weights are +- this
  double input_deviation = 1;
  double memory_shift = 0;  // added to the memory gate's pre-activation, towards remembering
  bool random_h0 = false;
  bool text = false;      // inputs are an embedding of bytes
  bool trained = false;   // weights and the bytes' inputs are those of a model (ops/trained.hpp)
  bool impulses = false;  // inputs are 0 but at is_impulse()
  bool chaotic = false;   // weights are drawn until they are (ops/chaotic.hpp)
};

/// Steps 2^n - 1, 2^n and 2^n + 1: both sides of every edge of a tile whose length is a power of two, and ever longer silence between them.
PRNN_HD inline bool is_impulse(std::int64_t l) {
  const auto is_power_of_two = [](std::int64_t x) { return x > 0 && (x & (x - 1)) == 0; };
  return is_power_of_two(l - 1) || is_power_of_two(l) || is_power_of_two(l + 1);
}

/// Weight k of channel d (shared by the batch), in double before rounding to storage. draw: of a channel whose weights are drawn more than once, which.
PRNN_HD inline double draw_weight(const Regime& regime, std::uint64_t seed, int k, std::int64_t d, int draw = 0) {
  const Philox bits = draw_bits(seed, DrawStream::weight, 0, draw, k, d);
  if (regime.weight_corner != 0) return bits.word[0] & 1u ? regime.weight_corner : -regime.weight_corner;
  const double w = double(normal_integer(bits)) * (regime.weight_deviation / kNormalDeviation);
  if (regime.weight_clip == 0) return w;
  return w < -regime.weight_clip ? -regime.weight_clip : w > regime.weight_clip ? regime.weight_clip : w;
}

/// What a text [text_bytes] says at (b, l): byte (b L + l) mod text_bytes.
PRNN_HD inline unsigned char text_byte(std::int64_t b, std::int64_t l, std::int64_t seq_len, const unsigned char* text, std::int64_t text_bytes) {
  return text[(b * seq_len + l) % text_bytes];
}

/// Pre-activation k of (b, l, d). text is read only in regime text: its byte picks the embedding row.
PRNN_HD inline double draw_input(const Regime& regime, Memory memory, std::uint64_t seed, std::int64_t b, std::int64_t l, int k, std::int64_t d, std::int64_t seq_len,
                                 const unsigned char* text, std::int64_t text_bytes) {
  if (regime.impulses && !is_impulse(l)) return 0;
  const Philox bits = regime.text ? draw_bits(seed, DrawStream::embedding, 0, text_byte(b, l, seq_len, text, text_bytes), k, d) : draw_bits(seed, DrawStream::input, b, l, k, d);
  const double u = double(normal_integer(bits)) * (regime.input_deviation / kNormalDeviation);
  return k == memory.input ? PRNN_ADD_RN(u, regime.memory_shift * memory.towards_remembering) : u;
}

/// Number k of the map of step (b, l, d) of a scan of K = `state` components: row k / (K + 1), its J entries and then r. r is N(0, 1).
/// Contractive, and yet remembered: a row of |J| sums to s, uniform in (1 - 1/32, 1], so a product of n Jacobians is neither 0 nor large before some hundred
/// steps (e^(-n/64) with K = 1), longer than a tile, and rounding errors stay bounded too. Signs are random. With K = 2 the largest entry of a row is at or
/// beside the diagonal, by lot for both rows at once, and leaves f s, f uniform in [0, 1/16), to the other: all entries matter, and no two steps commute.
PRNN_HD inline double draw_map(int state, std::uint64_t seed, std::int64_t b, std::int64_t l, int k, std::int64_t d) {
  const int row = k / (state + 1), column = k - row * (state + 1);
  if (column == state) return double(normal_integer(draw_bits(seed, DrawStream::input, b, l, k, d))) * (1.0 / kNormalDeviation);
  const Philox bits = draw_bits(seed, DrawStream::input, b, l, row * (state + 1), d);
  const std::uint32_t swapped = state == 1 ? 0 : draw_bits(seed, DrawStream::input, b, l, 0, d).word[3] & 1u;
  const double sum = 1.0 - double(bits.word[0] & 0xffffu) * 0x1p-21, spread = state == 1 ? 0.0 : double(bits.word[1] & 0xffffu) * 0x1p-20;
  const double size = sum * (column == (row ^ int(swapped)) ? 1.0 - spread : spread);  // exact: 21 and 20 bits
  return bits.word[2] >> column & 1u ? -size : size;
}

/// Component k of the initial state of (b, d).
PRNN_HD inline double draw_initial(const Regime& regime, std::uint64_t seed, std::int64_t b, int k, std::int64_t d) {
  return regime.random_h0 ? double(normal_integer(draw_bits(seed, DrawStream::initial, PRNN_FAULT(51, b, 0), 0, k, d))) * (1.0 / kNormalDeviation) : 0.0;
}

/// Component k of the loss's gradient by h_l of (b, d), or (l = 0) by its last state, N(0, 1).
PRNN_HD inline double draw_gradient(std::uint64_t seed, DrawStream stream, std::int64_t b, std::int64_t l, int k, std::int64_t d) {
  return double(normal_integer(draw_bits(seed, stream, b, l, k, d))) * (1.0 / kNormalDeviation);
}

/// double -> storage through compute type: the one rounding path of every drawn value.
template <class T>
PRNN_HD inline T drawn(double x) {
  return to_storage<T>(compute_t<T>(x));
}

}  // namespace prnn
