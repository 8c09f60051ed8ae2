// trained.cpp: reads the trained models that the program carries.
#include "kernels/ops/trained.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "kernels/cells/all.hpp"

namespace prnn {
namespace {

struct Named {
  std::string_view cell, text;
};
constexpr Named kModels[] = {{
                                 "gru_diag",
#include "kernels/ops/trained_gru_diag.inc"
                             },
                             {
                                 "lstm_cifg_diag",
#include "kernels/ops/trained_lstm_cifg_diag.inc"
                             }};

/// Words between blanks, one after the other.
class Words {
 public:
  Words(std::string_view text, std::string_view cell) : text_(text), cell_(cell) {}
  std::string_view next() {
    const std::size_t begin = std::min(text_.find_first_not_of(" \n"), text_.size()), end = std::min(text_.find_first_of(" \n", begin), text_.size());
    const std::string_view word = text_.substr(begin, end - begin);
    text_.remove_prefix(end);
    return word;
  }
  [[noreturn]] void refuse(const std::string& expected, std::string_view found) const {
    throw BadInput(fmt::format("trained model of {}: '{}'; expected {}", cell_, found, expected));
  }
  void expect(std::string_view word) {
    if (const std::string_view found = next(); found != word) refuse(std::string(word), found);
  }
  /// "name extent extent ..", then as many numbers as their product, in f32.
  std::vector<float> section(std::string_view name, const std::vector<std::int64_t>& shape) {
    expect(name);
    std::size_t count = 1;
    for (const std::int64_t extent : shape) {
      expect(std::to_string(extent));
      count *= std::size_t(extent);
    }
    std::vector<float> numbers(count);
    for (float& number : numbers) {
      const std::string_view word = next();
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
      if (word.empty() || error != std::errc() || end != word.data() + word.size() || !std::isfinite(number)) refuse(fmt::format("{} numbers of {}", count, name), word);
    }
    return numbers;
  }
  /// The value of "name value", a count of 1 to 4096.
  std::int64_t count(std::string_view name) {
    expect(name);
    const std::string_view word = next();
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size() || value < 1 || value > 4096) refuse(fmt::format("{}, 1 to 4096", name), word);
    return value;
  }

 private:
  std::string_view text_;
  const std::string cell_;
};

}  // namespace

TrainedModel parse_trained(std::string_view text, std::string_view cell, std::int64_t inputs, std::int64_t weights) {
  Words words(text, cell);
  words.expect("cell");
  words.expect(cell);
  const std::int64_t channels = words.count("channels"), width = words.count("width");
  const std::vector<float> embedding = words.section("embedding", {kTrainedBytes, width});
  const std::vector<float> projection = words.section("projection", {width, inputs, channels});
  const std::vector<float> bias = words.section("bias", {inputs, channels});
  const std::vector<float> recurrent = words.section("weights", {weights, channels});
  if (const std::string_view more = words.next(); !more.empty()) words.refuse("no more", more);
  TrainedModel model{channels, {}, {recurrent.begin(), recurrent.end()}};
  const std::size_t row = bias.size();
  for (std::size_t byte = 0; byte < kTrainedBytes; ++byte) {
    for (std::size_t i = 0; i < row; ++i) {
      double u = bias[i];
      for (std::size_t e = 0; e < std::size_t(width); ++e) u += double(embedding[byte * std::size_t(width) + e]) * double(projection[e * row + i]);
      model.inputs.push_back(u);
    }
  }
  return model;
}

const TrainedModel* trained_model(std::string_view cell) {
  static const std::map<std::string_view, TrainedModel> models = [] {
    std::map<std::string_view, TrainedModel> all;
    for (const Named& model : kModels) {
      with_cell(model.cell, [&]<class Cell>() { all[model.cell] = parse_trained(model.text, model.cell, Cell::kInputs, Cell::kWeights); });
    }
    return all;
  }();
  const auto found = models.find(cell);
  return found == models.end() ? nullptr : &found->second;
}

std::string_view trained_text(std::string_view cell) {
  for (const Named& model : kModels) {
    if (model.cell == cell) return model.text;
  }
  return {};
}

}  // namespace prnn
