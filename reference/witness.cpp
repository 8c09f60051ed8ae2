// witness.cpp: files of exact inputs with true states and gradients that other hands made. A step shared by solver and reference is a shared mistake; these are not.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>

#include <nlohmann/json.hpp>

#include "reference/mp.hpp"
#include "reference/running_bound.hpp"

namespace prnn {
namespace {

using Json = nlohmann::json;

/// A value with its name, for messages: "file: channels[2].states[0][1]: what; what was expected".
struct Node {
  const std::string& file;
  std::string name;
  const Json& value;

  /// In one line, whatever the text holds that it shows.
  [[noreturn]] void refuse(const std::string& what) const {
    std::string line = file + ": " + name + ": " + what;
    std::replace(line.begin(), line.end(), '\n', ' ');
    throw BadInput(line);
  }

  Node at(const char* key) const {
    const std::string full = name.empty() ? key : name + "." + key;
    if (!value.is_object() || !value.contains(key)) Node{file, full, value}.refuse("missing");
    return {file, full, value.at(key)};
  }
  Node at(std::size_t i) const { return {file, name + "[" + std::to_string(i) + "]", value.at(i)}; }

  void expect_array(std::size_t length) const {
    if (!value.is_array()) refuse("expected an array of " + std::to_string(length));
    if (value.size() != length) refuse("has " + std::to_string(value.size()) + " entries; expected " + std::to_string(length));
  }
  std::string text() const {
    if (!value.is_string()) refuse("expected a string");
    return value.get<std::string>();
  }
  std::int64_t integer(std::int64_t least) const {
    if (!value.is_number_integer() || value.get<std::int64_t>() < least) refuse("expected an integer >= " + std::to_string(least));
    return value.get<std::int64_t>();
  }
  /// A string of decimal digits.
  Mp number() const {
    const std::string digits = value.is_string() ? value.get<std::string>() : value.type_name();  // not its text: it may be deep
    double rounded = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), rounded);
    if (!value.is_string() || error != std::errc() || end != digits.data() + digits.size() || !std::isfinite(rounded))
      refuse("'" + digits + "' is not a number; expected a string of decimal digits");
    return Mp(digits);
  }
  double exact_double() const {
    const Mp x = number();
    const double rounded = static_cast<double>(x);
    if (Mp(rounded) != x) refuse("is not exactly a double; inputs must be");
    return rounded;
  }
};

/// rows x columns of numbers, row by row; columns 0: a plain list of rows.
template <class Convert>
auto read_table(const Node& node, std::size_t rows, std::size_t columns, Convert convert) {
  std::vector<decltype(convert(node))> out;
  node.expect_array(rows);
  for (std::size_t r = 0; r < rows; ++r) {
    const Node row = node.at(r);
    if (columns == 0) {
      out.push_back(convert(row));
      continue;
    }
    row.expect_array(columns);
    for (std::size_t c = 0; c < columns; ++c) out.push_back(convert(row.at(c)));
  }
  return out;
}

std::optional<Loss> read_loss(const Node& node) {
  if (node.value.is_null()) return std::nullopt;
  const std::string text = node.text();
  if (text == "sum over steps of state^2, all components") return Loss::all_components;
  if (text == "sum over steps of (last state component)^2") return Loss::last_component;
  node.refuse("'" + text + "' is not a loss known here; expected null, all components, or the last");
}

std::vector<std::int64_t> read_steps(const Node& node, std::int64_t seq_len) {
  if (!node.value.is_array() || node.value.empty()) node.refuse("expected an array of steps");
  std::vector<std::int64_t> steps;
  for (std::size_t i = 0; i < node.value.size(); ++i) {
    const std::int64_t step = node.at(i).integer(steps.empty() ? 0 : steps.back() + 1);
    if (step >= seq_len) node.at(i).refuse("expected a step below seq_len = " + std::to_string(seq_len));
    steps.push_back(step);
  }
  return steps;
}

template <class Cell>
void read_channels(const Node& root, WitnessFile& file) {
  constexpr std::size_t K = Cell::kState, W = Cell::kWeights, I = Cell::kInputs;
  root.at("weights").expect_array(W);
  root.at("inputs").expect_array(I);
  root.at("state").expect_array(K);
  const Node channels = root.at("channels");
  if (!channels.value.is_array() || channels.value.empty()) channels.refuse("expected an array of channels");
  const std::size_t L = std::size_t(file.seq_len);
  const auto exact = [](const Node& node) { return node.exact_double(); };
  const auto precise = [](const Node& node) { return split(node.number()); };
  for (std::size_t c = 0; c < channels.value.size(); ++c) {
    const Node node = channels.at(c);
    WitnessChannel channel;
    channel.data = {file.cell, file.seq_len, read_table(node.at("weights"), W, 0, exact), read_table(node.at("inputs"), L, I, exact),
                    read_table(node.at("initial_state"), K, 0, exact)};
    channel.truth = true_states(channel.data);
    channel.states = read_table(node.at("states"), file.state_steps.size(), K, precise);
    if (file.loss) {
      channel.grad_weights = read_table(node.at("grad_weights"), W, 0, precise);
      channel.grad_inputs = read_table(node.at("grad_inputs"), L, I, precise);
      channel.grad_initial = read_table(node.at("grad_initial_state"), K, 0, precise);
    }
    file.channels.push_back(std::move(channel));
  }
}

/// Largest |ours - file| / max(1, |file|).
double largest_difference(const std::vector<DoubleDouble>& ours, const std::vector<DoubleDouble>& file) {
  double most = 0;
  for (std::size_t i = 0; i < file.size(); ++i) {
    const Mp expected = join(file[i]);
    const Mp size = abs(expected) > 1 ? Mp(abs(expected)) : Mp(1);
    most = max_or_nan(most, static_cast<double>(Mp(abs(Mp(join(ours[i]) - expected)) / size)));
  }
  return most;
}

/// states [L, kState] at the file's steps.
std::vector<DoubleDouble> at_steps(const WitnessFile& file, const std::vector<DoubleDouble>& states, std::size_t components) {
  std::vector<DoubleDouble> out;
  for (const std::int64_t l : file.state_steps) out.insert(out.end(), states.begin() + l * std::int64_t(components), states.begin() + (l + 1) * std::int64_t(components));
  return out;
}

}  // namespace

WitnessFile read_witness(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw BadInput(path + ": cannot be read; expected a witness file");
  const Json json = Json::parse(in, nullptr, false);
  if (json.is_discarded() || !json.is_object()) throw BadInput(path + ": is not a JSON object; expected a witness file");
  const Node root{path, "", json};
  WitnessFile file;
  file.path = path;
  file.cell = root.at("cell").text();
  std::string known;
  AllCells::for_each([&]<class Cell>() { known += (known.empty() ? "" : ", ") + std::string(Cell::name); });
  if ((", " + known + ", ").find(", " + file.cell + ", ") == std::string::npos) root.at("cell").refuse("unknown cell '" + file.cell + "'; expected one of " + known);
  file.set = root.at("set").text();
  file.seq_len = root.at("seq_len").integer(1);
  root.at("digits").integer(30);
  file.state_steps = read_steps(root.at("state_steps"), file.seq_len);
  file.loss = read_loss(root.at("loss"));
  with_cell(file.cell, [&]<class Cell>() { read_channels<Cell>(root, file); });
  return file;
}

WitnessDifference witness_reference_check(const WitnessFile& file) {
  WitnessDifference most;
  for (const WitnessChannel& channel : file.channels) {
    const std::vector<DoubleDouble> states = at_steps(file, channel.truth.states, channel.data.initial.size());
    most.states = max_or_nan(most.states, largest_difference(states, channel.states));
    if (!file.loss) continue;
    const Gradients gradients = true_gradients(channel.data, *file.loss);
    most.grad_weights = max_or_nan(most.grad_weights, largest_difference(gradients.weights, channel.grad_weights));
    most.grad_inputs = max_or_nan(most.grad_inputs, largest_difference(gradients.inputs, channel.grad_inputs));
    most.grad_initial = max_or_nan(most.grad_initial, largest_difference(gradients.initial, channel.grad_initial));
  }
  return most;
}

void judge_witness(const WitnessFile& file, const std::function<std::vector<double>(std::int64_t)>& computed, Storage storage, ErrorReport& report) {
  std::vector<JudgedChannel> channels;
  for (std::size_t c = 0; c < file.channels.size(); ++c) {
    const WitnessChannel& channel = file.channels[c];
    Truth truth = channel.truth;
    const std::size_t K = channel.data.initial.size();
    for (std::size_t s = 0; s < file.state_steps.size(); ++s)
      std::copy_n(channel.states.begin() + std::ptrdiff_t(s * K), K, truth.states.begin() + file.state_steps[s] * std::int64_t(K));
    channels.push_back({{0, std::int64_t(c)}, channel.data, std::move(truth), computed(std::int64_t(c)), file.state_steps});
  }
  judge_channels(channels, storage, report);
  report.reference = witness_reference_name(file);
}

}  // namespace prnn
