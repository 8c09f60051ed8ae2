// parsers.test.cpp: what people and other programs write is understood or refused with BadInput, and nothing else: no crash, no hang, no other exception. What is accepted says the same once
// written and read again. One function a parser, fed from harness/testdata/corpus/<parser>/ by a test here and by libFuzzer (CMakeLists.txt, label fuzz).
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "harness/gate_policy.hpp"
#include "harness/plan.hpp"
#include "harness/record.hpp"
#include "harness/sha256.hpp"
#include "harness/suite.hpp"
#include "kernels/primitives/measured.hpp"
#include "reference/reference.hpp"

namespace prnn {
namespace {

enum class Answer { accepted, refused };

void require(bool holds, const std::string& what) {
  if (!holds) throw std::logic_error(what);
}

/// Throws BadInput where the message is not one line that says something.
void require_one_line(const BadInput& error) {
  const std::string line = error.what();
  require(!line.empty() && line.find('\n') == std::string::npos, "a refusal of more than a line: " + line);
}

/// A file in memory.
class TextFile {
 public:
  explicit TextFile(std::string_view text) : file_(memfd_create("prnn", 0)) {
    require(file_ >= 0 && ::write(file_, text.data(), text.size()) == static_cast<ssize_t>(text.size()), "no memory for a file");
  }
  ~TextFile() { ::close(file_); }
  std::string path() const { return fmt::format("/proc/self/fd/{}", file_); }

 private:
  int file_;
};

// --- suites --------------------------------------------------------------------------------------------------------------

std::string toml_string(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) quoted += fmt::format("\\u{:04x}", static_cast<int>(c));
    else quoted += (c == '"' || c == '\\' ? "\\" : "") + std::string(1, c);
  }
  return quoted + "\"";
}
std::string toml_value(const std::string& text) { return toml_string(text); }
std::string toml_value(Storage storage) { return toml_string(to_string(storage)); }
std::string toml_value(double number) { return fmt::format("{}", number); }
std::string toml_value(std::int64_t number) { return fmt::format("{}", number); }
std::string toml_value(std::uint64_t number) { return fmt::format("{}", number); }
std::string toml_value(const std::optional<int>& limit) { return limit ? fmt::format("{}", *limit) : toml_string("adaptive"); }
std::string toml_value(const std::optional<double>& number) { return number ? toml_value(*number) : "none"; }
template <class T>
std::string toml_values(const std::vector<T>& list) {
  std::string text;
  for (const T& value : list) text += (text.empty() ? "" : ", ") + toml_value(value);
  return "[" + text + "]";
}

/// Whether an op of the grid is done with the values of this axis.
bool takes(const Axes& axes, std::string_view axis) {
  return std::any_of(axes.op.begin(), axes.op.end(), [&](const std::string& op) { return find_op(op).axis == axis; });
}

/// One grid of a suite as a suite of its own, every axis written out.
std::string text_of(const Suite& suite, const Grid& grid) {
  const Axes& axes = grid.axes;
  std::string text = "title = " + toml_string(suite.title) + "\n";
  const auto line = [&](const char* key, const auto& list) { text += fmt::format("{} = {}\n", key, toml_values(list)); };
  line("op", axes.op), line("scope", axes.scope);
  if (takes(axes, "cells")) line("cells", axes.cells);
  if (takes(axes, "jacobian")) line("jacobian", axes.jacobian);
  line("solvers", axes.solvers), line("passes", axes.passes), line("grad", axes.grad);
  line("storage", axes.storage), line("batch", axes.batch), line("hidden", axes.hidden), line("seq_len", axes.seq_len), line("regime", axes.regime);
  if (axes.weight_std.front()) line("weight_std", axes.weight_std);
  line("h0", axes.h0), line("seed", axes.seed), line("gates", axes.gates), line("iteration_limit", axes.iteration_limit), line("cache", axes.cache);
  line("baselines", suite.baselines);
  std::vector<std::string> metrics;
  if (suite.metric_error) metrics.emplace_back("error");
  if (suite.metric_newton) metrics.emplace_back("newton");
  if (suite.metric_time) metrics.emplace_back("time");
  line("metrics", metrics);
  text += fmt::format("protocol = {}\nexpect = {}\n", toml_string(suite.protocol), toml_string(to_string(grid.expect)));
  if (suite.text_bytes) text += fmt::format("text_file = {}\n", toml_string(suite.text_file));
  const Limits& limits = suite.limits;
  text += fmt::format("limits = {{ case_s = {}, total_s = {}, bytes = {}, reference_s = {} }}\n", limits.case_s, limits.total_s, limits.bytes, limits.reference_s);
  if (!axes.policy.empty()) {
    text += "[policy]\n";
    for (const auto& [key, list] : axes.policy) line(key.c_str(), list);
  }
  return text;
}

std::size_t cases_of(const Axes& axes) {
  std::size_t cases = 1;
  const auto multiply = [&](const auto&... lists) { ((require(!lists.empty(), "an axis without values"), cases *= lists.size()), ...); };
  cases *= (takes(axes, "cells") ? axes.cells.size() : 0) + (takes(axes, "jacobian") ? axes.jacobian.size() : 0);
  require(cases > 0, "nothing that an op is done with");
  multiply(axes.op, axes.scope, axes.solvers, axes.passes, axes.grad, axes.storage, axes.batch, axes.hidden, axes.seq_len, axes.regime, axes.weight_std, axes.h0, axes.seed,
           axes.gates, axes.iteration_limit, axes.cache);
  for (const auto& [key, list] : axes.policy) multiply(list);
  return cases;
}

/// A suite; what follows lines "--set " are overrides.
Answer suite(std::string_view text) {
  constexpr std::string_view kSet = "\n--set ";
  std::vector<Override> overrides;
  Suite parsed;
  try {
    std::size_t at = text.find(kSet);
    const std::string file(text.substr(0, at));
    while (at != std::string_view::npos) {
      const std::size_t next = text.find(kSet, at + kSet.size());
      overrides.push_back(parse_override(text.substr(at + kSet.size(), next == std::string_view::npos ? next : next - at - kSet.size())));
      at = next;
    }
    parsed = parse_suite("corpus.toml", file, overrides);
    require(parsed.text == file && parsed.sha256 == sha256(file), "a suite that keeps another text");
  } catch (const BadInput& error) {
    require_one_line(error);
    return Answer::refused;
  }
  require(!parsed.title.empty() && !parsed.grids.empty(), "a suite without a title or cases");
  require(parsed.limits.bytes > 0 && parsed.limits.case_s > 0 && parsed.limits.total_s > 0 && parsed.limits.reference_s > 0, "limits that leave nothing");
  for (const Grid& grid : parsed.grids) {
    const std::size_t cases = cases_of(grid.axes);
    require(cases <= 1'000'000, fmt::format("{} cases", cases));
    const std::string written = text_of(parsed, grid);
    const Suite again = parse_suite("corpus.toml", written);
    require(again.grids.size() == 1 && text_of(again, again.grids.front()) == written, "a suite that is another once written:\n" + written);
    if (cases > 100) continue;
    try {
      const std::vector<Group> plan = make_plan(again, {});
      for (const Group& group : plan) {
        for (const Case& c : group.cases) require(c.set_bytes >= 0 && c.sets >= 1 && c.workspace_bytes >= 0, c.case_id + ": sizes that overflow");
      }
    } catch (const BadInput& error) {
      require_one_line(error);
    }
  }
  return Answer::accepted;
}

// --- policies of the gate --------------------------------------------------------------------------------------------------

std::string text_of(const GatePolicy& policy) {
  const char* gates[] = {"require", "same_machine", "off"};
  std::string text = fmt::format(
      "fdr = {}\ninconclusive = {}\n[time]\ngate = \"{}\"\nmargin = {}\nuncalibrated_noise = {}\n[speedup]\nbaselines = {}\nmargin = {}\n[numerics]\ngrowth = {}\nfloor = {}\n"
      "[convergence]\niterations = {}\nrounds = {}\n[coverage]\nmissing = \"{}\"\n[resample]\nruns = {}\n",
      policy.fdr, policy.inconclusive, gates[static_cast<int>(policy.time)], policy.margin, policy.uncalibrated_noise, toml_values(policy.speedup_baselines), policy.speedup_margin,
      policy.growth, policy.floor, policy.more_iterations, policy.more_rounds, policy.strict ? "strict" : "lenient", policy.resample_runs);
  for (const GatePolicy::Override& each : policy.overrides) text += fmt::format("[[override]]\ncase = {}\nmargin = {}\n", toml_string(each.expression), each.margin);
  return text;
}

Answer policy(std::string_view text) {
  GatePolicy parsed;
  try {
    parsed = parse_gate_policy("policy.toml", std::string(text));
  } catch (const BadInput& error) {
    require_one_line(error);
    return Answer::refused;
  }
  for (const double x : {parsed.fdr, parsed.inconclusive, parsed.margin, parsed.uncalibrated_noise, parsed.speedup_margin, parsed.growth, parsed.floor})
    require(std::isfinite(x) && x >= 0, "a number that is none");
  require(parsed.fdr > 0 && parsed.fdr < 1 && parsed.inconclusive > 0 && parsed.inconclusive < 1 && parsed.growth >= 1, "rates and factors outside of their range");
  const std::string written = text_of(parsed);
  require(text_of(parse_gate_policy("policy.toml", written)) == written, "a policy that is another once written:\n" + written);
  return Answer::accepted;
}

// --- records -------------------------------------------------------------------------------------------------------------

/// A record file.
Answer record(std::string_view text) {
  const TextFile file(text);
  Records records;
  try {
    records = read_records(file.path());
  } catch (const BadInput& error) {
    require_one_line(error);
    return Answer::refused;
  }
  require(records.rows.size() == records.lines.size(), "rows and lines do not match");
  require(records.whole_bytes <= static_cast<std::int64_t>(text.size()) && text.substr(static_cast<std::size_t>(records.whole_bytes)).find('\n') == std::string_view::npos,
          "more than one line is dropped");
  if (records.head_line.empty()) return Answer::accepted;  // nothing but a line that was cut
  const Json head = to_json(records.head);
  require(to_json(provenance(Json::parse(head.dump()))) == head, "a provenance that is another once written:\n" + head.dump());
  for (const CaseRecord& row : records.rows) {
    const Json json = to_json(row);
    require(to_json(case_record(Json::parse(json.dump()))) == json, "a row that is another once written:\n" + json.dump());
  }
  return Answer::accepted;
}

// --- witness files -------------------------------------------------------------------------------------------------------

Answer witness(std::string_view text) {
  const TextFile file(text);
  WitnessFile parsed;
  try {
    parsed = read_witness(file.path());
  } catch (const BadInput& error) {
    require_one_line(error);
    return Answer::refused;
  }
  require(!parsed.channels.empty() && !parsed.state_steps.empty() && parsed.seq_len >= 1, "a witness of nothing");
  const auto length = static_cast<std::size_t>(parsed.seq_len), steps = parsed.state_steps.size();
  std::int64_t before = -1;
  for (const std::int64_t step : parsed.state_steps) {
    require(before < step && step < parsed.seq_len, "steps out of order");
    before = step;
  }
  for (const WitnessChannel& channel : parsed.channels) {
    const std::size_t components = channel.data.initial.size();
    require(components > 0 && channel.states.size() == steps * components && channel.truth.states.size() == length * components, "states of another length");
    require(channel.grad_weights.size() == (parsed.loss ? channel.data.weights.size() : 0) && channel.grad_inputs.size() == (parsed.loss ? channel.data.inputs.size() : 0) &&
                channel.grad_initial.size() == (parsed.loss ? components : 0),
            "gradients of another length");
    for (const std::vector<double>* list : {&channel.data.weights, &channel.data.inputs, &channel.data.initial}) {
      for (const double x : *list) require(std::isfinite(x), "an input that is not finite");
    }
  }
  return Answer::accepted;
}

// --- tables of measured times ----------------------------------------------------------------------------------------------

std::string text_of(const MeasuredTable& table) {
  std::string text;
  for (const auto& architecture : table.architectures) text += fmt::format("architecture {} {}\n", architecture.name, architecture.multiprocessors);
  for (const auto& line : table.lines) {
    text += fmt::format("{} {} {} {} {} {} {} {} {}", line.architecture, line.pass, line.cell, to_string(line.storage), line.gates, line.batch, line.hidden, line.seq_len,
                        line.candidate.solver);
    for (const auto& [key, value] : line.candidate.overrides) text += fmt::format(" {}={}", key, value);
    text += fmt::format(" {}\n", line.time_us);
  }
  return text;
}

Answer measured(std::string_view text) {
  MeasuredTable table;
  try {
    table = parse_measured(text);
  } catch (const BadInput& error) {
    require_one_line(error);
    return Answer::refused;
  }
  const std::string written = text_of(table);
  require(text_of(parse_measured(written)) == written, "a table that is another once written:\n" + written);
  Problem problem;
  problem.cell = "gru_diag";  // a table may know cells that the program does not
  for (const char* device : {"cpu", "emulated"}) {
    double least_us = 0;
    for (const Prediction& prediction : ranked(table, problem, device, {})) {
      require(prediction.time_us >= least_us, "a ranking that is not ascending");
      least_us = prediction.time_us;
    }
  }
  return Answer::accepted;
}

const std::map<std::string, Answer (*)(std::string_view)> kParsers = {{"suite", suite}, {"policy", policy}, {"record", record}, {"witness", witness}, {"measured", measured}};

}  // namespace
}  // namespace prnn

#ifdef PRNN_LIBFUZZER

/// PRNN_PARSER names the parser; what it throws ends the process, which is libFuzzer's notion of a failure.
extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  static const auto parser = prnn::kParsers.at(std::getenv("PRNN_PARSER"));
  try {
    parser({reinterpret_cast<const char*>(data), size});
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    std::abort();
  }
  return 0;
}

#else

#include <gtest/gtest.h>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace prnn {
namespace {

namespace fs = std::filesystem;

std::string content(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

/// What stands in accepted/ is accepted, in refused/ refused.
class Parser : public testing::TestWithParam<std::string> {};

TEST_P(Parser, AnswersEveryTextOfItsCorpus) {
  const fs::path corpus = fs::path(PRNN_SOURCE_DIR) / "harness/testdata/corpus" / GetParam();
  for (const auto& [folder, expected] : std::map<std::string, Answer>{{"accepted", Answer::accepted}, {"refused", Answer::refused}}) {
    int files = 0;
    for (const auto& entry : fs::directory_iterator(corpus / folder)) {
      ++files;
      try {
        EXPECT_EQ(kParsers.at(GetParam())(content(entry.path())), expected) << entry.path();
      } catch (const std::exception& error) {
        ADD_FAILURE() << entry.path() << ": " << error.what();
      }
    }
    EXPECT_GT(files, 0) << corpus / folder;
  }
}

/// Every text of the corpus, cut short and with single bytes replaced: what libFuzzer does where there is none.
TEST_P(Parser, AnswersDamagedTexts) {
  const auto parser = kParsers.at(GetParam());
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(PRNN_SOURCE_DIR) / "harness/testdata/corpus" / GetParam())) {
    if (!entry.is_regular_file()) continue;
    const std::string text = content(entry.path());
    const auto answers = [&](const std::string& damaged, std::size_t at) {
      try {
        parser(damaged);
      } catch (const std::exception& error) {
        ADD_FAILURE() << entry.path() << " at byte " << at << ": " << error.what();
      }
    };
    const std::size_t stride = text.size() / 20 + 1;
    for (std::size_t at = 0; at < text.size(); at += stride) {
      answers(text.substr(0, at), at);
      std::string damaged = text;
      for (const char byte : {'\0', '"', '[', '}', '9', '-', '\n', '\xff'}) {
        damaged[at] = byte;
        answers(damaged, at);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryParser, Parser, testing::Values("suite", "policy", "record", "witness", "measured"), [](const auto& info) { return info.param; });

TEST(WitnessParser, RefusesWhatIsNestedDeeperThanAStack) {
  std::string text = content(fs::path(PRNN_SOURCE_DIR) / "harness/testdata/corpus/witness/refused/number.json");
  const std::string weights = "\"weights\":[0]";
  text.replace(text.find(weights), weights.size(), "\"weights\":[" + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "]");
  EXPECT_EQ(witness(text), Answer::refused);
}

TEST(ShippedTextOfAParser, IsAccepted) {
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(PRNN_SOURCE_DIR) / "suites")) {
    if (entry.path().extension() != ".toml") continue;
    EXPECT_EQ(suite(content(entry.path())), Answer::accepted) << entry.path();
  }
  EXPECT_EQ(policy(content(fs::path(PRNN_SOURCE_DIR) / "harness/gate.toml")), Answer::accepted);
  EXPECT_EQ(record(content(fs::path(PRNN_SOURCE_DIR) / "results/quick/h200-2026-11-22-cedc4cf.jsonl")), Answer::accepted);
}

}  // namespace
}  // namespace prnn

#endif
