// shard.cpp: see shard.hpp.
#include "harness/shard.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "harness/sha256.hpp"

namespace prnn {
namespace {

/// Seconds that a group takes, roughly: what counts is that every machine and build says the same.
double nominal_s(const Group& group) {
  constexpr double kCase_s = 0.3, kStep_s = 2e-6, kLaunches = 40;  // verification and sampling; a sequential solver's launch a step
  double sum = 0.01;
  for (const Case& c : group.cases) {
    if (is_undefined(c.skip)) continue;
    const double bytes_per_s = c.device == "cuda" ? 2e12 : 1e10;
    sum += kCase_s + kLaunches * (static_cast<double>(c.set_bytes) / bytes_per_s + static_cast<double>(c.problem.seq_len) * kStep_s);
  }
  return sum;
}

/// The library would cut a fraction off.
std::int64_t whole(const Json& json) {
  const bool fits = json.is_number_unsigned() ? std::in_range<std::int64_t>(json.get<std::uint64_t>()) : json.is_number_integer() && json.get<std::int64_t>() >= 0;
  if (fits) return json.get<std::int64_t>();
  throw BadInput("field 'shard' has the wrong type");
}

}  // namespace

Json to_json(const Shard& s) {
  Json groups = Json::array();
  for (const Shard::Part& part : s.groups) groups.push_back({{"position", part.position}, {"group_id", part.group_id}, {"cases", part.cases}});
  return {{"index", s.index}, {"count", s.count}, {"plan_sha256", s.plan_sha256}, {"plan_groups", s.plan_groups}, {"groups", std::move(groups)}};
}

Shard shard(const Json& json) {
  Shard s;
  try {
    s.index = whole(json.at("index"));
    s.count = whole(json.at("count"));
    s.plan_sha256 = json.at("plan_sha256").get<std::string>();
    s.plan_groups = whole(json.at("plan_groups"));
    for (const Json& part : json.at("groups")) s.groups.push_back({whole(part.at("position")), part.at("group_id").get<std::string>(), whole(part.at("cases"))});
  } catch (const Json::exception&) {
    throw BadInput("field 'shard' has the wrong type");
  }
  const bool inside = std::all_of(s.groups.begin(), s.groups.end(), [&](const Shard::Part& part) { return part.position < s.plan_groups && part.cases > 0; });
  if (s.index < 1 || s.index > s.count || !inside) throw BadInput("field 'shard' has an unknown value");
  return s;
}

std::pair<std::int64_t, std::int64_t> parse_shard(std::string_view text) {
  std::int64_t index = 0, count = 0;
  const char* end = text.data() + text.size();
  const auto [slash, first_error] = std::from_chars(text.data(), end, index);
  if (first_error == std::errc() && slash != end && *slash == '/') {
    const auto [last, second_error] = std::from_chars(slash + 1, end, count);
    if (second_error == std::errc() && last == end && 1 <= index && index <= count && count <= 1'000'000) return {index, count};
  }
  throw BadInput(fmt::format("--shard {}: expected i/n with 1 <= i <= n, such as 2/8", text));
}

Shard deal(const std::vector<Group>& plan, std::int64_t index, std::int64_t count) {
  std::string case_ids;
  std::vector<double> lengths_s;
  for (const Group& group : plan) {
    for (const Case& c : group.cases) case_ids += c.case_id + "\n";
    lengths_s.push_back(nominal_s(group));
  }
  std::vector<std::size_t> longest_first(plan.size());
  std::iota(longest_first.begin(), longest_first.end(), std::size_t{0});
  std::stable_sort(longest_first.begin(), longest_first.end(), [&](std::size_t a, std::size_t b) { return lengths_s[a] > lengths_s[b]; });
  std::vector<double> dealt_s(static_cast<std::size_t>(count));
  Shard mine{index, count, sha256(case_ids), std::ssize(plan), {}};
  for (const std::size_t position : longest_first) {
    const auto least = std::min_element(dealt_s.begin(), dealt_s.end());
    *least += lengths_s[position];
    if (least - dealt_s.begin() + 1 == index) mine.groups.push_back({static_cast<std::int64_t>(position), plan[position].group_id, std::ssize(plan[position].cases)});
  }
  std::sort(mine.groups.begin(), mine.groups.end(), [](const Shard::Part& a, const Shard::Part& b) { return a.position < b.position; });
  return mine;
}

std::vector<Group> groups_of(const Shard& s, std::vector<Group> plan) {
  std::vector<Group> mine;
  for (const Shard::Part& part : s.groups) mine.push_back(std::move(plan[static_cast<std::size_t>(part.position)]));
  return mine;
}

}  // namespace prnn
