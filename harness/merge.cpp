// merge.cpp: the command `merge`: records of shards become one record of the whole plan.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/exit_codes.hpp"
#include "harness/record.hpp"
#include "harness/shard.hpp"

namespace prnn {
namespace {

/// Planned cases without a row: exit code 5.
struct MissingRows : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Input {
  std::string path;
  Records records;
  const Shard& shard() const { return *records.head.shard; }
};

Input read_shard(const std::string& path) {
  Input input{path, read_records(path)};
  if (input.records.head_line.empty()) throw BadInput(fmt::format("{}: is empty; expected the record of a shard", path));
  if (!input.records.head.shard) throw BadInput(fmt::format("{}: is the record of a whole plan; expected one that run --shard has written", path));
  return input;
}

void require_one_run(const Input& first, const Input& other) {
  const Provenance &a = first.records.head, &b = other.records.head;
  const auto same = [&](const char* what, const std::string& ours, const std::string& theirs) {
    if (ours != theirs) throw BadInput(fmt::format("{}: is of another {} ({}) than {} ({})", other.path, what, theirs, first.path, ours));
  };
  same("suite", a.suite_sha256, b.suite_sha256);
  same("plan", a.shard->plan_sha256, b.shard->plan_sha256);
  same("number of shards", std::to_string(a.shard->count), std::to_string(b.shard->count));
  same("number of groups", std::to_string(a.shard->plan_groups), std::to_string(b.shard->plan_groups));
  same("commit", a.commit, b.commit);
  same("machine or build", a.fingerprint, b.fingerprint);
  same("cell", sha256_of_cell(a), sha256_of_cell(b));
  same("text", Json(a.text).dump(), Json(b.text).dump());
  same("kind of run", a.copy_bytes_per_s ? "timed" : "verified only", b.copy_bytes_per_s ? "timed" : "verified only");
  same("injected damage", a.inject, b.inject);
  if (a.dirty != b.dirty) throw BadInput(fmt::format("{}: is of a tree {} changes, unlike {}", other.path, b.dirty ? "with" : "without", first.path));
}

/// Rows of one shard by the position of their group, each group whole.
void collect(const Input& input, std::map<std::int64_t, std::vector<std::size_t>>& rows_at) {
  std::map<std::string, std::int64_t> position_of;
  for (const Shard::Part& part : input.shard().groups) {
    position_of[part.group_id] = part.position;
    if (!rows_at.try_emplace(part.position).second) throw BadInput(fmt::format("{}: group {} is in another shard too; expected each group once", input.path, part.group_id));
  }
  std::set<std::string> seen;
  for (std::size_t i = 0; i < input.records.rows.size(); ++i) {
    const CaseRecord& row = input.records.rows[i];
    if (!seen.insert(row.case_id).second) throw BadInput(fmt::format("{}: {} is there twice; expected each case once", input.path, row.case_id));
    const auto position = position_of.find(row.group_id);
    if (position == position_of.end()) throw BadInput(fmt::format("{}: {} is not of this shard", input.path, row.case_id));
    rows_at[position->second].push_back(i);
  }
  for (const Shard::Part& part : input.shard().groups) {
    const auto found = std::ssize(rows_at[part.position]);
    if (found > part.cases) throw BadInput(fmt::format("{}: group {} has {} rows; expected {}", input.path, part.group_id, found, part.cases));
    if (found < part.cases)
      throw MissingRows(
          fmt::format("{}: {} of the {} cases of {} are missing; expected a whole shard, --resume continues it", input.path, part.cases - found, part.cases, part.group_id));
  }
}

/// The first shard's head, as of the whole plan, with what the others' say beside it.
Json merged_head(const std::vector<Input>& inputs) {
  Json head = Json::parse(inputs.front().records.head_line);
  head["shard"] = nullptr;
  const auto& first = inputs.front().records.head.interleaved_with;
  const bool one_session = std::all_of(inputs.begin(), inputs.end(), [&](const Input& input) {
    const auto& other = input.records.head.interleaved_with;
    return first && other && other->session == first->session && other->side == first->side;
  });
  if (!one_session) head["interleaved_with"] = nullptr;
  head["merged_from"] = Json::array();
  for (const Input& input : inputs) {
    Json shard = Json::parse(input.records.head_line);
    shard["file"] = input.path;
    shard["suite"].erase("text");  // that of the merged record
    head["merged_from"].push_back(std::move(shard));
  }
  return head;
}

int merge(const std::vector<std::string>& files, const std::string& out, bool json) {
  if (std::filesystem::exists(out)) throw BadInput(fmt::format("--out {}: the file exists; expected a new name", out));
  std::vector<Input> inputs;
  for (const std::string& file : files) inputs.push_back(read_shard(file));
  for (const Input& input : inputs) require_one_run(inputs.front(), input);
  std::sort(inputs.begin(), inputs.end(), [](const Input& a, const Input& b) { return a.shard().index < b.shard().index; });
  std::map<std::int64_t, std::pair<const Input*, std::vector<std::size_t>>> all;
  std::int64_t expected = 1;
  const std::int64_t count = inputs.front().shard().count;
  for (const Input& input : inputs) {
    if (input.shard().index < expected) throw BadInput(fmt::format("{}: shard {}/{} is given twice", input.path, input.shard().index, count));
    if (input.shard().index > expected) throw MissingRows(fmt::format("shard {}/{} is missing; expected all {} of the plan", expected, count, count));
    ++expected;
  }
  if (expected <= count) throw MissingRows(fmt::format("shard {}/{} is missing; expected all {} of the plan", expected, count, count));
  for (const Input& input : inputs) {
    std::map<std::int64_t, std::vector<std::size_t>> rows_at;
    collect(input, rows_at);
    for (auto& [position, rows] : rows_at) {
      if (!all.try_emplace(position, &input, std::move(rows)).second)
        throw BadInput(fmt::format("{}: a group of it is in another shard too; expected each group once", input.path));
    }
  }
  if (std::ssize(all) != inputs.front().shard().plan_groups)
    throw MissingRows(
        fmt::format("{} of {} groups are in no shard; expected all of the plan", inputs.front().shard().plan_groups - std::ssize(all), inputs.front().shard().plan_groups));

  std::vector<std::string> lines{merged_head(inputs).dump(-1, ' ', false, Json::error_handler_t::replace)}, planned;
  std::vector<CaseRecord> rows;
  for (const auto& [position, from] : all) {
    for (const std::size_t i : from.second) {
      lines.push_back(from.first->records.lines[i]);
      rows.push_back(from.first->records.rows[i]);
      planned.push_back(rows.back().case_id);
    }
  }
  replace_record(out, lines);
  const int code = exit_code(rows, planned);
  if (json) std::cout << Json{{"exit_code", code}, {"record", out}, {"shards", files.size()}, {"rows", rows.size()}}.dump() << std::endl;
  else std::cout << fmt::format("{} shards, {} rows\nrecord {}", files.size(), rows.size(), out) << std::endl;
  return code;
}

}  // namespace

int merge_command(const std::vector<std::string>& files, const std::string& out, bool json) {
  try {
    return merge(files, out, json);
  } catch (const MissingRows& error) {
    std::cerr << error.what() << std::endl;
    return kBroken;
  }
}

}  // namespace prnn
