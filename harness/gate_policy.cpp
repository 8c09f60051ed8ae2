// gate_policy.cpp: see gate_policy.hpp.
#include "harness/gate_policy.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "harness/plan.hpp"
#include "harness/toml_file.hpp"
#include "kernels/api.hpp"

namespace prnn {
namespace {

using Read = std::function<void(const TomlNode&, const std::string& key)>;
using Keys = std::map<std::string, Read>;

void read_table(const TomlNode& table, const std::string& in, const Keys& keys) {
  if (table.kind != TomlNode::Kind::table) refuse(table.where, in + ": expected a table");
  for (std::size_t i = 0; i < table.keys.size(); ++i) {
    const auto found = keys.find(table.keys[i]);
    if (found == keys.end()) {
      std::vector<std::string> known;
      for (const auto& [key, read] : keys) known.push_back(key);
      unknown_key(table.keys[i], table.elements[i].where, in, known);
    }
    found->second(table.elements[i], in == "policy" ? found->first : in + "." + found->first);
  }
}

Read not_negative(double& value) {
  return [&value](const TomlNode& node, const std::string& key) { value = real(node, key, true); };
}
Read rate(double& value) {
  return [&value](const TomlNode& node, const std::string& key) {
    value = real(node, key, false);
    if (value >= 1) refuse(node.where, fmt::format("{}: {} is outside 0 .. 1", key, value));
  };
}
Read count(std::int64_t& value, std::int64_t most) {
  return [&value, most](const TomlNode& node, const std::string& key) { value = integer(node, key, 0, most); };
}
Read table(const Keys& keys) {
  return [keys](const TomlNode& node, const std::string& key) { read_table(node, key, keys); };
}

void read_solvers(std::vector<std::string>& solvers, const TomlNode& node, const std::string& key) {
  if (node.kind != TomlNode::Kind::array) refuse(node.where, key + ": expected a list of solvers");
  for (const TomlNode& each : node.elements) solvers.push_back(name_of(each, key, "solver", solver_names()));
}

void read_override(GatePolicy::Override& override, const TomlNode& node) {
  bool has_margin = false;
  read_table(node, "override",
             {{"case",
               [&](const TomlNode& value, const std::string& key) {
                 override.expression = word(value, key);
                 if (override.expression.find('\n') != std::string::npos) refuse(value.where, key + ": expected a regular expression of one line");
                 override.fits = name_filter(value.where + ": " + key, override.expression);
               }},
              {"margin", [&](const TomlNode& value, const std::string& key) {
                 override.margin = real(value, key, true);
                 has_margin = true;
               }}});
  if (!override.fits || !has_margin) refuse(node.where, "override: expected case and margin");
}

}  // namespace

double GatePolicy::margin_of(const std::string& case_id) const {
  const auto last = std::find_if(overrides.rbegin(), overrides.rend(), [&](const Override& each) { return each.fits(case_id); });
  return last == overrides.rend() ? margin : last->margin;
}

GatePolicy parse_gate_policy(const std::string& path, const std::string& text) {
  if (text.find('\0') != std::string::npos) refuse(path, "expected a policy in TOML, not a binary file");
  GatePolicy policy;
  const auto choose = [](const TomlNode& node, const std::string& key, const std::vector<std::string>& known) {
    const std::string name = name_of(node, key, key, known);
    return std::find(known.begin(), known.end(), name) - known.begin();
  };
  const Keys keys = {
      {"fdr", rate(policy.fdr)},
      {"inconclusive", rate(policy.inconclusive)},
      {"time", table({{"gate",
                       [&](const TomlNode& node, const std::string& key) {
                         policy.time = static_cast<GatePolicy::Time>(choose(node, key, {"require", "same_machine", "off"}));
                       }},
                      {"margin", not_negative(policy.margin)},
                      {"uncalibrated_noise", not_negative(policy.uncalibrated_noise)}})},
      {"speedup", table({{"baselines", [&](const TomlNode& node, const std::string& key) { read_solvers(policy.speedup_baselines, node, key); }},
                         {"margin", not_negative(policy.speedup_margin)}})},
      {"numerics", table({{"growth",
                           [&](const TomlNode& node, const std::string& key) {
                             policy.growth = real(node, key, false);
                             if (policy.growth < 1) refuse(node.where, fmt::format("{}: {} is below 1: an error that stays as it is would fail", key, policy.growth));
                           }},
                          {"floor", not_negative(policy.floor)}})},
      {"convergence", table({{"iterations", count(policy.more_iterations, 1'000'000)}, {"rounds", count(policy.more_rounds, 1'000'000)}})},
      {"coverage", table({{"missing",
                           [&](const TomlNode& node, const std::string& key) {
                             policy.strict = choose(node, key, {"strict", "lenient"}) == 0;
                           }}})},
      {"resample", table({{"runs", count(policy.resample_runs, 100)}})},
      {"override",
       [&](const TomlNode& node, const std::string&) {
         if (node.kind != TomlNode::Kind::array) refuse(node.where, "override: expected tables, [[override]]");
         for (const TomlNode& each : node.elements) read_override(policy.overrides.emplace_back(), each);
       }},
  };
  read_table(parse_toml(path, text), "policy", keys);
  return policy;
}

GatePolicy load_gate_policy(const std::string& path) {
  if (path.empty()) return {};
  std::ifstream stream(path, std::ios::binary);
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error) || !stream) refuse(path, "no such file; expected a policy such as harness/gate.toml");
  return parse_gate_policy(path, std::string(std::istreambuf_iterator<char>(stream), {}));
}

}  // namespace prnn
