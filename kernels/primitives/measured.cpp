// measured.cpp: see measured.hpp.
#include "kernels/primitives/measured.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <map>
#include <utility>

#include "kernels/cells/facts.hpp"
#include "kernels/fault.hpp"
#include "kernels/primitives/policy.hpp"

namespace prnn {
namespace {

// --- text ----------------------------------------------------------------------------------------------------------------

/// Sizes that a problem may have (harness/suite.cpp), and names as a suite spells them.
constexpr std::int64_t kMostExtent = 0xffffffff;

/// Words of one line, with the line's number for what is wrong with it.
class Words {
 public:
  Words(std::string_view line, int number) : number_(number) {
    while (!line.empty()) {
      const std::size_t end = std::min(line.find(' '), line.size());
      if (end > 0) words_.push_back(line.substr(0, end));
      line.remove_prefix(std::min(end + 1, line.size()));
    }
  }
  std::size_t left() const { return words_.size() - at_; }
  std::string_view next(const char* what) {
    if (left() == 0) refuse("it ends early", what);
    return words_[at_++];
  }
  std::string name(const char* what) {
    const std::string_view word = next(what);
    if (word.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string_view::npos) refuse(word, what);
    return std::string(word);
  }
  std::int64_t integer(const char* what, std::int64_t least) {
    const std::string_view word = next(what);
    const std::optional<std::int64_t> value = number<std::int64_t>(word);
    if (!value || *value < least || *value > kMostExtent) refuse(word, what);
    return *value;
  }
  double time(const char* what) {
    const std::string_view word = next(what);
    const std::optional<double> value = number<double>(word);
    if (!value || !(*value > 0) || !std::isfinite(*value)) refuse(word, what);
    return *value;
  }
  [[noreturn]] void refuse(std::string_view found, const char* expected) const {
    throw BadInput("line " + std::to_string(number_) + ": " + std::string(found) + "; expected " + expected);
  }

  /// The whole word as a number.
  template <class T>
  static std::optional<T> number(std::string_view word) {
    T value{};
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    return error == std::errc() && end == word.data() + word.size() ? std::optional(value) : std::nullopt;
  }

 private:
  std::vector<std::string_view> words_;
  std::size_t at_ = 0;
  int number_;
};

constexpr std::string_view kGpuPrefix = "sm_";

/// 90 for sm_90; none for cpu and for what is no architecture.
std::optional<int> compute_capability(std::string_view architecture) {
  if (!architecture.starts_with(kGpuPrefix)) return std::nullopt;
  return Words::number<int>(architecture.substr(kGpuPrefix.size()));
}

MeasuredTable::Architecture architecture(Words& words, const MeasuredTable& table) {
  const char* expected = "cpu or sm_N, once";
  const std::string name = words.name(expected);
  const std::optional<int> sm = compute_capability(name);
  if (name != "cpu" && !(sm && *sm > 0)) words.refuse(name, expected);
  for (const auto& known : table.architectures) {
    if (known.name == name) words.refuse(name, expected);
  }
  return {name, words.integer("the number of multiprocessors", 1)};
}

Candidate candidate(Words& words) {
  const char* expected = "a solver that is not auto, then overrides as key=integer, each key once";
  Candidate c{words.name(expected), {}};
  if (c.solver == "auto") words.refuse(c.solver, expected);
  while (words.left() > 1) {
    const std::string_view word = words.next(expected);
    const std::size_t equals = word.find('=');
    const std::optional<std::int64_t> value = equals == 0 || equals == std::string_view::npos ? std::nullopt : Words::number<std::int64_t>(word.substr(equals + 1));
    if (!value || !c.overrides.emplace(word.substr(0, equals), *value).second) words.refuse(word, expected);
  }
  return c;
}

MeasuredTable::Line measurement(std::string name, Words& words, const MeasuredTable& table) {
  MeasuredTable::Line line{.architecture = std::move(name)};
  const bool known = std::any_of(table.architectures.begin(), table.architectures.end(), [&](const auto& a) { return a.name == line.architecture; });
  if (!known) words.refuse(line.architecture, "an architecture that a line above introduces");
  line.pass = words.name("pass forward or backward");
  if (line.pass != "forward" && line.pass != "backward") words.refuse(line.pass, "pass forward or backward");
  line.cell = words.name("a cell");
  const std::string storage = words.name("a storage type");
  const std::optional<Storage> parsed = parse_storage(storage);
  if (!parsed) words.refuse(storage, "a storage type");
  line.storage = *parsed;
  line.gates = words.name("gates exact or approx");
  if (line.gates != "exact" && line.gates != "approx") words.refuse(line.gates, "gates exact or approx");
  line.batch = words.integer("a batch", 1);
  line.hidden = words.integer("a hidden size", 1);
  line.seq_len = words.integer("a length", 1);
  line.candidate = candidate(words);
  line.time_us = words.time("a time in microseconds");
  return line;
}

/// Numbers first: every line is held against all before it.
bool same_measurement(const MeasuredTable::Line& a, const MeasuredTable::Line& b) {
  return a.seq_len == b.seq_len && a.hidden == b.hidden && a.batch == b.batch && a.storage == b.storage && a.architecture == b.architecture && a.pass == b.pass &&
         a.cell == b.cell && a.gates == b.gates && a.candidate == b.candidate;
}

// --- prediction ----------------------------------------------------------------------------------------------------------

/// The straight line through the two of at (x, y; x ascending, not empty) on both sides of x. Outside, on from the nearest end with the slope of its
/// last two, but never falling nor steeper than 1: two measurements that are close to each other have a slope of noise.
double line_through(const std::vector<std::pair<double, double>>& at, double x) {
  if (at.size() == 1) return at.front().second;
  std::size_t right = 1;
  while (right + 1 < at.size() && at[right].first < x) ++right;
  const auto [x0, y0] = at[right - 1];
  const auto [x1, y1] = at[right];
  const double slope = (y1 - y0) / (x1 - x0);
  if (x < x0) return y0 + std::clamp(slope, 0.0, 1.0) * (x - x0);
  if (x > x1) return y1 + PRNN_FAULT(50, std::clamp(slope, 0.0, 1.0), slope) * (x - x1);
  return y0 + slope * (x - x0);
}

/// Measurements with the same channels: (seq_len, time), one a length.
struct Column {
  double channels;
  std::vector<std::pair<double, double>> times;
};

std::vector<Column> columns_of(const std::vector<MeasuredPoint>& points) {
  struct Sum {
    double time = 0;
    int count = 0;
  };
  std::map<double, std::map<double, Sum>> sums;
  for (const MeasuredPoint& point : points) {
    Sum& sum = sums[point.channels][point.seq_len];
    sum.time += point.time;
    sum.count += 1;
  }
  std::vector<Column> columns;
  for (const auto& [channels, lengths] : sums) {
    columns.push_back({channels, {}});
    for (const auto& [seq_len, sum] : lengths) columns.back().times.emplace_back(seq_len, sum.time / sum.count);
  }
  return columns;
}

// --- choice --------------------------------------------------------------------------------------------------------------

/// Whether a line is of the problem's op and pass: scans and cells have nothing in common.
bool is_of(const MeasuredTable::Line& line, const Problem& p) {
  bool of_scan = false;
  AllScans::for_each([&]<class Scan>() { of_scan = of_scan || line.cell == Scan::name; });
  return line.pass == p.pass && of_scan == (p.op == "reduction");
}

/// The architecture of a device and its GPU: of those it could be with times of the problem's op and pass, the nearest, then the first; null where the table has none.
const MeasuredTable::Architecture* nearest(const MeasuredTable& table, const Problem& p, std::string_view device, const std::optional<GpuInfo>& gpu) {
  const MeasuredTable::Architecture* best = nullptr;
  int least = 0;
  for (const auto& architecture : table.architectures) {
    const std::optional<int> sm = compute_capability(architecture.name);
    if (sm.has_value() == (device == "cpu")) continue;
    if (std::none_of(table.lines.begin(), table.lines.end(), [&](const auto& line) { return is_of(line, p) && line.architecture == architecture.name; })) continue;
    const int distance = sm && gpu ? std::abs(*sm - gpu->sm) : 0;
    if (!best || distance < least) best = &architecture, least = distance;
  }
  return best;
}

using Lines = std::vector<const MeasuredTable::Line*>;

/// Those of the lines of which property(line) is the first of the values that it is of any; all where it is none of them.
template <class T, class Property>
Lines narrowed(const Lines& lines, const Property& property, std::initializer_list<T> values) {
  for (const T& wanted : values) {
    Lines found;
    std::copy_if(lines.begin(), lines.end(), std::back_inserter(found), [&](const MeasuredTable::Line* line) { return std::invoke(property, *line) == wanted; });
    if (!found.empty()) return found;
  }
  return lines;
}

/// Whether rows of so many channels start at whole 16-byte words, which is what kernels copy at once.
bool has_whole_words(std::int64_t hidden, Storage storage) { return hidden * size_of(storage) % 16 == 0; }

Storage other_of_its_size(Storage storage) { return storage == Storage::f16 ? Storage::bf16 : storage == Storage::bf16 ? Storage::f16 : storage; }

std::string stand_in(const std::string& cell) { return facts_of(cell).state == 1 ? "gru_diag" : "lstm_cifg_diag"; }

/// The length whose time a candidate takes for a problem.
std::int64_t computed_steps(const Candidate& candidate, const Problem& p, std::string_view device) {
  if (candidate.solver != "newton_fused" || device == "cpu") return p.seq_len;
  Problem overridden = p;
  overridden.policy.insert(candidate.overrides.begin(), candidate.overrides.end());
  return newton_computed_steps(overridden, facts_of(p.cell).state);
}

}  // namespace

MeasuredTable parse_measured(std::string_view text) {
  MeasuredTable table;
  int number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.empty() || line.front() == '#') continue;
    Words words(line, number);
    std::string first = words.name("a comment, an architecture or a measurement");
    if (first == "architecture") {
      table.architectures.push_back(architecture(words, table));
      continue;
    }
    MeasuredTable::Line measured = measurement(std::move(first), words, table);
    if (std::any_of(table.lines.begin(), table.lines.end(), [&](const auto& other) { return same_measurement(measured, other); })) {
      words.refuse("the same measurement again", "each once");
    }
    table.lines.push_back(std::move(measured));
  }
  if (table.lines.empty()) throw BadInput("line " + std::to_string(number) + ": the text ends; expected a measurement");
  return table;
}

double predicted_time(const std::vector<MeasuredPoint>& points, double channels, double seq_len) {
  const std::vector<Column> columns = columns_of(points);
  // Over the columns that have a slope of their own.
  const auto at_length = [&](double at_channels, double length) -> std::optional<double> {
    std::vector<std::pair<double, double>> row;
    for (const Column& column : columns) {
      if (column.times.size() > 1) row.emplace_back(column.channels, line_through(column.times, length));
    }
    return row.empty() ? std::nullopt : std::optional(line_through(row, at_channels));
  };
  std::vector<std::pair<double, double>> row;
  for (const Column& column : columns) {
    double time = line_through(column.times, seq_len);
    if (column.times.size() == 1) {
      if (const auto here = at_length(column.channels, seq_len)) time += *here - *at_length(column.channels, column.times.front().first);
    }
    row.emplace_back(column.channels, time);
  }
  return line_through(row, channels);
}

std::vector<Prediction> ranked(const MeasuredTable& table, const Problem& p, std::string_view device, const std::optional<GpuInfo>& gpu) {
  const MeasuredTable::Architecture* architecture = nearest(table, p, device, gpu);
  if (!architecture) return {};
  Lines lines;
  for (const MeasuredTable::Line& line : table.lines) {
    if (is_of(line, p) && line.architecture == architecture->name) lines.push_back(&line);
  }
  lines = narrowed(lines, &MeasuredTable::Line::cell, {p.cell, stand_in(p.cell)});
  lines = narrowed(lines, &MeasuredTable::Line::storage, {p.storage, other_of_its_size(p.storage), Storage::f32});
  lines = narrowed(lines, &MeasuredTable::Line::gates, {p.gates, std::string("exact")});
  double channels = double(p.batch) * double(p.hidden);
  if (gpu && gpu->multiprocessors > 0) channels *= double(architecture->multiprocessors) / gpu->multiprocessors;
  const auto whole = [](const MeasuredTable::Line& line) { return has_whole_words(line.hidden, line.storage); };
  const Lines alike = narrowed(lines, whole, {has_whole_words(p.hidden, p.storage)});
  const bool reached = std::any_of(alike.begin(), alike.end(), [&](const MeasuredTable::Line* line) { return double(line->batch) * double(line->hidden) <= channels; });
  lines = reached ? alike : narrowed(lines, whole, {true});

  std::vector<Candidate> candidates;  // in the order of the table
  std::vector<std::vector<MeasuredPoint>> points;
  for (const MeasuredTable::Line* line : lines) {
    const std::size_t at = std::size_t(std::find(candidates.begin(), candidates.end(), line->candidate) - candidates.begin());
    if (at == candidates.size()) {
      candidates.push_back(line->candidate);
      points.emplace_back();
    }
    points[at].push_back({std::log2(double(line->batch) * double(line->hidden)), std::log2(double(line->seq_len)), std::log2(line->time_us)});
  }
  std::vector<Prediction> predictions;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const double seq_len = std::log2(double(computed_steps(candidates[i], p, device)));
    predictions.push_back({candidates[i], std::exp2(predicted_time(points[i], std::log2(channels), seq_len))});
  }
  std::stable_sort(predictions.begin(), predictions.end(), [](const Prediction& a, const Prediction& b) { return a.time_us < b.time_us; });
  return predictions;
}

Choice choose(const MeasuredTable& table, const Problem& p, std::string_view device, const std::optional<GpuInfo>& gpu) {
  std::string why_not;
  for (const auto& [candidate, time_us] : ranked(table, p, device, gpu)) {
    Choice choice{find_solver(candidate.solver, device, p), p, ""};
    choice.problem.policy.insert(candidate.overrides.begin(), candidate.overrides.end());  // a key that is there stays
    const std::string why = choice.solver ? choice.solver->why_not(choice.problem) : candidate.solver + " does not run on " + std::string(device);
    if (why.empty()) return choice;
    if (why_not.empty()) why_not = why;
  }
  return {nullptr, p, why_not.empty() ? "no solver of pass " + p.pass + " was measured for " + std::string(device) : why_not};
}

}  // namespace prnn
