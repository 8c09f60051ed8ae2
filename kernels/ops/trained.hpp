// trained.hpp: small models that harness/peers/train.py has trained on text, one a cell, carried by the program: what regime "trained" takes weights and
// pre-activations from. A model reads bytes: u(byte) = bias + projection embedding(byte), a the recurrence's weights; its channels repeat where a problem has more.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace prnn {

inline constexpr int kTrainedBytes = 128;  // a byte is taken modulo this: the text is ASCII

#ifndef __CUDACC_RTC__

struct TrainedModel {
  std::int64_t channels = 0;
  std::vector<double> inputs;   // [kTrainedBytes, kInputs, channels]
  std::vector<double> weights;  // [kWeights, channels]
};

/// Null where no model of the cell has been trained.
const TrainedModel* trained_model(std::string_view cell);
/// Its text, which names it; empty where there is none.
std::string_view trained_text(std::string_view cell);

/// Reads what train.py writes: "cell NAME", then sections "embedding 128 E", "projection E I D", "bias I D", "weights W D", each followed by its numbers, in f32.
/// Throws BadInput, saying which section is not as expected.
TrainedModel parse_trained(std::string_view text, std::string_view cell, std::int64_t inputs, std::int64_t weights);

#endif  // __CUDACC_RTC__

}  // namespace prnn
