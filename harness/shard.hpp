// shard.hpp: a plan is dealt to several runs (run --shard i/n), whole groups each, and their records become one again (prnn merge).
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "harness/plan.hpp"

namespace prnn {

using Json = nlohmann::ordered_json;

/// Which part of which plan a record is.
struct Shard {
  struct Part {
    std::int64_t position = 0;  // of the group in the whole plan, from 0
    std::string group_id;
    std::int64_t cases = 0;
  };
  std::int64_t index = 1, count = 1;  // the index-th of count
  std::string plan_sha256;            // of every case_id of the whole plan, in its order
  std::int64_t plan_groups = 0;
  std::vector<Part> groups;  // of this shard, in the order of the plan
};

Json to_json(const Shard&);
/// The inverse; throws BadInput.
Shard shard(const Json&);

/// "2/8" -> {2, 8}; throws BadInput.
std::pair<std::int64_t, std::int64_t> parse_shard(std::string_view);

/// The index-th of count parts of a whole plan. Dealt longest first, each group to the part with the least so far; lengths follow from the sizes alone, so the parts fit together wherever
/// each is run.
Shard deal(const std::vector<Group>& plan, std::int64_t index, std::int64_t count);
std::vector<Group> groups_of(const Shard&, std::vector<Group> plan);

/// Joins the records of all shards of a plan into a new file: every row, in the order of the plan, each shard's provenance kept. The exit code of the rows (design section 1).
/// Refuses in one line what is no shard, twice the same, of another plan, suite, commit, machine or kind of run (64), and holes (5).
int merge_command(const std::vector<std::string>& files, const std::string& out, bool json);

}  // namespace prnn
