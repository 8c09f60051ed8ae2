// power.cpp: see power.hpp.
#include "harness/power.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "harness/record.hpp"
#include "harness/statistics.hpp"

namespace prnn {
namespace {

constexpr double kTail = 0.05;
constexpr double kFound = 0.95;  // of trials: a slowdown that is found so often counts as found
constexpr const char* kNone = "none";
constexpr double kClasses_s[] = {10e-6, 50e-6};  // launches shorter than, shorter than, and the rest
constexpr const char* kClassNames[] = {"below 10 us", "10 to 50 us", "50 us and more"};

/// P(at most `seen` of `trials`) at this rate, within (0, 1).
double at_most(std::int64_t seen, std::int64_t trials, double rate) {
  double sum = 0;
  const double n = static_cast<double>(trials);
  for (std::int64_t i = 0; i <= seen; ++i) {
    const double k = static_cast<double>(i);
    sum += std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) + k * std::log(rate) + (n - k) * std::log1p(-rate));
  }
  return std::min(sum, 1.0);
}

bool is_slowdown(const std::string& damage) { return damage.starts_with("slowdown="); }

/// A case in all trials of a damage.
struct OfCase {
  std::int64_t seen = 0;
  std::vector<double> times_s;
};

/// As many digits as tell anything.
Json rounded(const Json& number) { return number.is_null() ? number : Json(std::stod(fmt::format("{:.4g}", number.get<double>()))); }

/// Whether a case is of the solver that the damage names, or the damage names none.
bool is_damaged(const Trial::Case& c, const std::string& damage) {
  const std::size_t colon = damage.find(':');
  if (colon == std::string::npos) return true;
  const std::string solver = damage.substr(colon + 1);
  return (c.case_id + "/").find("/" + solver + "/") != std::string::npos;
}

}  // namespace

double rate_at_most(std::int64_t seen, std::int64_t trials) {
  if (seen == trials) return 1;
  double low = 0, high = 1;
  for (int i = 0; i < 60; ++i) {
    const double rate = (low + high) / 2;
    (at_most(seen, trials, rate) > kTail ? low : high) = rate;
  }
  return high;
}

double rate_at_least(std::int64_t seen, std::int64_t trials) { return 1 - rate_at_most(trials - seen, trials); }

Json trial_line(const std::string& damage, std::int64_t number, const Pinned& pinned, const std::string& gate_json) {
  const Json said = Json::parse(gate_json, nullptr, false);
  try {
    Json line{{"damage", damage}, {"number", number}, {"exit_code", said.at("exit_code").get<int>()}};
    if (pinned.at_once > 0) line.update({{"core", pinned.core}, {"trials_at_once", pinned.at_once}});
    line.update({{"cases", Json::array()}, {"inputs", Json::array()}});
    std::int64_t passed = 0, unenforceable = 0;
    for (const Json& c : said.at("verdicts").at(0).at("cases")) {
      const bool is_pass = c.at("finding") == "pass", is_unenforceable = c.at("finding") == "unenforceable";
      passed += is_pass, unenforceable += is_unenforceable;
      if (damage == kNone && (is_pass || is_unenforceable)) continue;  // hundreds of lines of them would say nothing
      Json row{{"case_id", c.at("case_id")}, {"finding", c.at("finding")}, {"baseline_s", rounded(c.at("baseline_s"))}, {"runs", c.at("runs")}};
      for (const Json& compared : c.at("compared")) {
        if (compared.at("metric") != "time") continue;
        for (const char* field : {"ratio", "ci95_low", "ci95_high", "enforced"}) row[field] = rounded(compared.at(field));
      }
      line["cases"].push_back(std::move(row));
    }
    for (const Json& input : said.at("inputs")) {
      if (input.at("role") != "calibration") line["inputs"].push_back({{"role", input.at("role")}, {"sha256", input.at("sha256")}});
    }
    line["passed"] = passed;
    line["unenforceable"] = unenforceable;
    return line;
  } catch (const Json::exception&) {
    throw BadInput("standard input: expected what prnn gate --json says");
  }
}

std::vector<Trial> read_trials(const std::string& path) {
  std::ifstream stream(path);
  if (!stream) throw BadInput(path + ": no such file; expected the verdicts of harness/power_study.sh");
  std::vector<Trial> trials;
  int number = 0;
  for (std::string text; std::getline(stream, text);) {
    ++number;
    const Json line = Json::parse(text, nullptr, false);
    try {
      Trial trial{line.at("damage").get<std::string>(), line.at("number").get<std::int64_t>(), line.at("exit_code").get<int>(), {}};
      for (const Json& c : line.at("cases")) {
        trial.cases.push_back({c.at("case_id").get<std::string>(), c.at("finding").get<std::string>(), c.at("baseline_s").is_null() ? 0 : c.at("baseline_s").get<double>()});
      }
      trials.push_back(std::move(trial));
    } catch (const Json::exception&) {
      throw BadInput(fmt::format("{}:{}: expected a verdict as harness/power_study.sh writes it", path, number));
    }
  }
  return trials;
}

std::vector<Rate> rates(const std::vector<Trial>& trials) {
  std::map<std::string, std::vector<const Trial*>> by_damage;
  for (const Trial& trial : trials) by_damage[trial.damage].push_back(&trial);
  std::vector<Rate> list;
  for (const auto& [damage, of_damage] : by_damage) {
    const auto count = [&, &of = of_damage](auto&& seen) {
      return static_cast<std::int64_t>(std::count_if(of.begin(), of.end(), [&](const Trial* trial) { return seen(*trial); }));
    };
    const auto failed = [](const Trial& trial) { return trial.exit_code != 0 && trial.exit_code != 4; };
    const std::int64_t all = std::ssize(of_damage);
    if (damage == kNone) {
      list.push_back({damage, "gates that fail", count(failed), all});
      list.push_back({damage, "gates that stay inconclusive", count([](const Trial& trial) { return trial.exit_code == 4; }), all});
    } else if (!is_slowdown(damage)) {
      list.push_back({damage, "gates that fail", count(failed), all});
    } else {
      std::map<std::string, OfCase> cases;
      for (const Trial* trial : of_damage) {
        for (const Trial::Case& c : trial->cases) {
          if (c.baseline_s <= 0 || !is_damaged(c, damage)) continue;
          OfCase& of_case = cases[c.case_id];
          of_case.times_s.push_back(c.baseline_s);
          of_case.seen += c.finding == "slower";
        }
      }
      for (int i = 0; i < 3; ++i) {
        Rate all_of_class{damage, fmt::format("cases called slower, {}", kClassNames[i])}, least{damage, "", 1, 0};
        for (const auto& [case_id, of_case] : cases) {
          const double time_s = median(of_case.times_s);  // one class a case, whatever a trial says
          if (i != (time_s < kClasses_s[0] ? 0 : time_s < kClasses_s[1] ? 1 : 2)) continue;
          const std::int64_t timed = std::ssize(of_case.times_s);
          all_of_class.seen += of_case.seen, all_of_class.trials += timed;
          if (least.trials == 0 || of_case.seen * least.trials < least.seen * timed) least = {damage, "the least often: " + case_id, of_case.seen, timed};
        }
        if (all_of_class.trials == 0) continue;
        list.push_back(all_of_class);
        list.push_back(least);
      }
    }
  }
  return list;
}

std::string table_of(const std::vector<Rate>& list) {
  std::string text = "| damage | | seen | of | rate | with 95 % confidence |\n|---|---|---|---|---|---|\n";
  for (const Rate& rate : list) {
    const bool wanted = rate.damage != kNone;
    const double bound = wanted ? rate_at_least(rate.seen, rate.trials) : rate_at_most(rate.seen, rate.trials);
    text += fmt::format("| {} | {} | {} | {} | {:.2f} % | {} {:.2f} % |\n", rate.damage, rate.what, rate.seen, rate.trials,
                        100 * static_cast<double>(rate.seen) / static_cast<double>(rate.trials), wanted ? "at least" : "at most", 100 * bound);
  }
  for (const char* name : kClassNames) {
    std::optional<double> smallest;
    bool is_tried = false;
    for (const Rate& rate : list) {
      if (!is_slowdown(rate.damage) || rate.damage.find(':') != std::string::npos || rate.what != fmt::format("cases called slower, {}", name)) continue;
      is_tried = true;
      const double share = std::strtod(rate.damage.c_str() + rate.damage.find('=') + 1, nullptr);
      if (static_cast<double>(rate.seen) >= kFound * static_cast<double>(rate.trials) && !(smallest && *smallest < share)) smallest = share;
    }
    if (is_tried) text += fmt::format("\nsmallest slowdown tried that is found in 95 % of trials, {}: {}\n", name, smallest ? fmt::format("{:g} %", 100 * *smallest) : "none");
  }
  return text;
}

}  // namespace prnn
